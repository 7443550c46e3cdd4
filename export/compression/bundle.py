"""Pack a bundle. In: a verified bundle. Out: the files of one with fewer bytes.

The golden sequences are those of the float32 graphs over the rounded item vectors. These graphs
were held against the NumPy reference when their bundle was loaded, and share none of the packed
arithmetic.

Must not know: what it costs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnxruntime as ort

from export.bundle import NETWORK, npz, write_files
from export.compression.graphs import NotPackableError, packed_score, packed_update
from stream.core.bundle import (
    ITEMS,
    MANIFEST,
    NEVER_LISTED,
    SCORE,
    SCORE_CUDA,
    UPDATE,
    UPDATE_CUDA,
    Bundle,
    Golden,
    manifest_id,
)
from stream.core.model import ROWS_MULTIPLE
from stream.core.packing import Storage, pack
from stream.core.weighing import Weighing
from stream.errors import UsageError

States = Literal["float32", "int8"]

__all__ = ["NotPackableError", "States", "compress", "packed_files"]


def compress(
    bundle: Bundle, folder: Path, items: Storage, states: States, cuda: bool = True
) -> Bundle:
    """Write a bundle packed, and load it.

    Parameters
    ----------
    bundle : with float32 item vectors
    items, states : how item vectors and users' states are to be stored
    cuda : with graphs for CUDA as well, each as large as the one for a CPU

    Raises
    ------
    UsageError
        The bundle is packed already, or `folder` cannot be written.
    NotPackableError
        The model does not score by a product with the item table.
    """
    return write_files(packed_files(bundle, items, states, cuda), folder)


def packed_files(
    bundle: Bundle, items: Storage, states: States, cuda: bool = True
) -> dict[str, bytes]:
    """The files of a packed bundle by name; see `compress`."""
    if bundle.manifest.item_storage != "float32":
        raise UsageError(
            f"{bundle.path}: its items are {bundle.manifest.item_storage} already; compress the "
            "float32 bundle that it was made from"
        )
    content = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    if items != "float32":
        content |= _packed(bundle, items, content[bundle.manifest.golden.file])
        content |= _graphs(bundle, items, cuda)
    manifest = bundle.manifest
    fields: dict[str, Any] = msgspec.to_builtins(manifest)
    fields |= {
        "item_storage": items,
        "state": {"size": manifest.state.size, "storage": states},
        "training": {**manifest.training, "compressed_from": manifest.bundle_id},
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }
    fields["id"] = manifest_id(fields)
    content[MANIFEST] = (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
    if NETWORK in manifest.training:
        with contextlib.suppress(FileNotFoundError):  # serving needs no copy of it
            content[NETWORK] = (bundle.path / NETWORK).read_bytes()
    return content


def _packed(bundle: Bundle, items: Storage, golden: bytes) -> dict[str, bytes]:
    """The files that are others where items are packed. `golden`: the file as it is."""
    vectors = pack(bundle.embeddings, items)
    rounded = dataclasses.replace(bundle, vectors=pack(vectors.unpacked(), "float32"))
    with np.load(io.BytesIO(golden), allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    found = golden_of(rounded)
    arrays |= {"states": found.states, "rows": found.rows, "scores": found.scores}
    return {
        ITEMS: npz(
            item_ids=np.array(bundle.item_ids),
            embeddings=vectors.values,
            **({} if vectors.scales is None else {"scales": vectors.scales}),
            biases=bundle.biases,
            **({} if bundle.repurchase_s is None else {"repurchase_s": bundle.repurchase_s}),
        ),
        bundle.manifest.golden.file: npz(**arrays),
    }


def _graphs(bundle: Bundle, items: Storage, cuda: bool) -> dict[str, bytes]:
    update, score = bundle.update_onnx, bundle.score_onnx
    try:
        graphs = {
            UPDATE: packed_update(update, items, "cpu"),
            SCORE: packed_score(score, items, "cpu"),
        }
        if cuda:
            graphs[UPDATE_CUDA] = packed_update(update, items, "cuda")
            graphs[SCORE_CUDA] = packed_score(score, items, "cuda")
        return graphs
    except NotPackableError as error:
        raise NotPackableError(
            f"the model {bundle.manifest.model} cannot have its items packed, since "
            f"{error}; leave them float32"
        ) from None


def golden_of(bundle: Bundle) -> Golden:
    """The golden sequences again, by the float32 graphs and vectors of `bundle`, on the CPU."""
    golden, manifest = bundle.golden, bundle.manifest
    capacity = -(-manifest.items // ROWS_MULTIPLE) * ROWS_MULTIPLE
    table = np.zeros((capacity, manifest.embedding_dim), np.float32)
    table[: manifest.items] = bundle.embeddings
    bias = np.full(capacity, NEVER_LISTED, np.float32)
    bias[: manifest.items] = bundle.biases
    update, score = (
        ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for graph in (bundle.update_onnx, bundle.score_onnx)
    )
    weights = Weighing.of(manifest).inputs
    states = np.empty_like(golden.states)
    state = np.zeros_like(states[:, 0])
    for t in range(states.shape[1]):
        event = {
            "item_row": golden.item_rows[:, t],
            "event_type": golden.event_types[:, t],
            "gap_s": golden.gaps_s[:, t],
        }
        (state,) = update.run(None, {"state": state, "item_table": table, **event, **weights})
        states[:, t] = state
    asked: dict[str, Any] = {
        "state": state,
        "item_table": table,
        "bias": bias,
        "excluded": golden.excluded,
        "beta": np.array([manifest.beta], np.float32),
        "k": np.array([golden.rows.shape[1]], np.int64),
    }
    if golden.recent is not None:
        asked |= {"recent_rows": golden.recent.rows, "recent_types": golden.recent.types}
    rows, scores = score.run(["rows", "scores"], asked)
    return dataclasses.replace(golden, states=states, rows=rows, scores=scores)
