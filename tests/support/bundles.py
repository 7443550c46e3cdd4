"""Bundles for tests and benchmarks: the real `decay` graphs around random item vectors, and a model
that looks at the last interactions and at nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from export.bundle import write_bundle
from export.calibration import Calibration
from export.models import decay
from export.models.base import Trained
from export.to_onnx import node, score_graph, update_graph
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import MANIFEST, NEVER_LISTED, UPDATE, Bundle, manifest_id
from stream.core.manifest import Manifest
from stream.core.policy.exploring import counts_key
from stream.core.policy.interest import Interests
from stream.core.recent import Recent
from stream.core.weighing import Weighing
from stream.placements import Explore


def random_decay_bundle(
    folder: Path,
    items: int,
    *,
    dim: int = 64,
    storage: Literal["float32", "int8"] = "int8",
    exclude_seen: bool = False,
    exclude_bought: bool = True,
    seed: int = 0,
    clusters: int = 0,
    repurchase_s: np.ndarray | None = None,
    calibration: Calibration | None = None,
) -> Bundle:
    """A `decay` bundle of items "i1" to "i<items>" with random unit vectors and biases.

    Parameters
    ----------
    items : rows besides "no item"
    clusters : of items that are near each other; 0: none
    repurchase_s : float32, shape (items + 1,); None: none was learned
    """
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((items + 1, dim)).astype(np.float32)
    if clusters:
        centres = rng.standard_normal((clusters, dim)).astype(np.float32)
        table = centres[rng.integers(0, clusters, items + 1)] + 0.5 * table
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    table[0] = 0
    biases = rng.normal(-4, 0.5, items + 1).astype(np.float32)
    biases[0] = NEVER_LISTED
    trained = decay.assemble(
        decay.Parameters(dim=dim),
        ["", *(f"i{row}" for row in range(1, items + 1))],
        table,
        biases,
        created="2026-01-01",
        training={"random": True},
    )
    trained.storage, trained.repurchase_s = storage, repurchase_s
    trained.exclude_seen, trained.exclude_bought = exclude_seen, exclude_bought
    if calibration is not None:
        trained = trained.calibrated(calibration)
    return write_bundle(trained, folder, "random")


def fixed_weights(bundle: Bundle, folder: Path) -> Bundle:
    """The same model as a bundle of an earlier version, which has its weights inside the graph."""
    shutil.copytree(bundle.path, folder)
    inputs = Weighing.of(bundle.manifest).inputs
    graph = onnx.load_model_from_string(bundle.update_onnx)
    kept = [given for given in graph.graph.input if given.name not in inputs]
    del graph.graph.input[:]
    graph.graph.input.extend(kept)
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in inputs.items()
    )
    update = graph.SerializeToString(deterministic=True)
    (folder / UPDATE).write_bytes(update)
    fields = json.loads((folder / MANIFEST).read_text())
    del fields["live_weights"]
    fields["files"][UPDATE] = hashlib.sha256(update).hexdigest()
    fields["id"] = manifest_id(fields)
    (folder / MANIFEST).write_text(json.dumps(fields))
    return Bundle.load(folder)


class RecentReference:
    """`score.onnx` of `recent_model` in NumPy: bias, and a weight for each of the last items."""

    def __init__(self, biases: np.ndarray, positions: np.ndarray) -> None:
        self._biases, self._positions = biases, positions

    def update(
        self, state: np.ndarray, item_rows: np.ndarray, event_types: np.ndarray, gaps_s: np.ndarray
    ) -> np.ndarray:
        """One more event."""
        return state + np.float32(1)

    def logits(self, state: np.ndarray, beta: float, recent: Recent) -> np.ndarray:
        """float32 [B, n]; items that the model does not know have no row."""
        sums = np.zeros((len(state), len(self._biases)))
        for user, (rows, types) in enumerate(zip(*recent, strict=True)):
            for row, kind, position in zip(rows, types, self._positions, strict=True):
                sums[user, row] += TYPE_WEIGHTS[kind] * position
        return (beta * sums + self._biases).astype(np.float32)


TYPE_WEIGHTS = np.where(np.arange(16) > 0, 0.5 + 0.1 * np.arange(16), 0).astype(np.float32)


def recent_model(items: int, recent: int, *, width: int | None = None) -> Trained:
    """A model that scores by bias and by the user's last `recent` interactions alone.

    Each of them adds beta * weight[type] * 2^-(its place, the newest being 0) to its item.

    Parameters
    ----------
    items : "i1" to "i<items>", rows besides "no item"
    width : of the graph's inputs, where it is not `recent`
    """
    width = recent if width is None else width
    biases = np.random.default_rng(0).normal(-4, 0.5, items + 1).astype(np.float32)
    biases[0] = NEVER_LISTED
    positions = (0.5 ** np.arange(width)).astype(np.float32)
    update = [node("Add", ["state", "one"], ["next_state"])]
    score = [
        node("Gather", ["type_weights", "recent_types"], ["weights"]),
        node("Mul", ["weights", "positions"], ["said"]),
        node("Shape", ["state"], ["batch"], start=0, end=1),
        node("Shape", ["bias"], ["capacity"]),
        node("Concat", ["batch", "capacity"], ["shape"], axis=0),
        node("Expand", ["nought", "shape"], ["empty"]),
        node(
            "ScatterElements", ["empty", "recent_rows", "said"], ["sums"], axis=1, reduction="add"
        ),
        node("Mul", ["sums", "beta"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["logits"]),
    ]
    constants = {
        "type_weights": TYPE_WEIGHTS,
        "positions": positions,
        "nought": np.array(0, np.float32),
    }
    return Trained(
        model="recent",
        item_ids=["", *(f"i{row}" for row in range(1, items + 1))],
        embeddings=np.zeros((items + 1, 1), np.float32),
        biases=biases,
        state_size=1,
        storage="float32",
        beta=4.0,
        additive=None,
        event_weights=EVENT_WEIGHTS,
        update_onnx=update_graph(update, {"one": np.array(1, np.float32)}, 1, 1),
        score_onnx=score_graph(score, constants, 1, 1, recent=width),
        reference=RecentReference(biases, positions),
        created="2026-01-01",
        training={},
        recent=recent,
    )


def with_last_items(folder: Path, items: int) -> Bundle:
    """A bundle of `decay` that also adds to the logits of a user's last three items, as `glr` does.

    Parameters
    ----------
    items : "i1" to "i<items>", rows besides "no item"
    """
    rng = np.random.default_rng(5)
    whole = random_decay_bundle(folder / "decay", items, dim=16)
    made = recent_model(items, 3)
    nodes = [
        node("Slice", ["state", "first", "stop", "column"], ["interest"]),
        node("Mul", ["interest", "beta"], ["query"]),
        node("Gemm", ["query", "item_table", "bias"], ["by_vectors"], transB=1),
        node("Gather", ["type_weights", "recent_types"], ["again"]),
        node(
            "ScatterElements",
            ["by_vectors", "recent_rows", "again"],
            ["logits"],
            axis=1,
            reduction="add",
        ),
    ]
    constants = {
        "first": np.array([0], np.int64),
        "stop": np.array([16], np.int64),
        "column": np.array([1], np.int64),
        "type_weights": rng.uniform(0, 3, 16).astype(np.float32),
    }
    weights, biases = constants["type_weights"], whole.biases
    size = whole.manifest.state.size
    fading = decay.assemble(
        decay.Parameters(dim=16), whole.item_ids, whole.embeddings, biases, created="", training={}
    )

    class Reference:
        def update(self, *event: np.ndarray) -> np.ndarray:
            return fading.reference.update(*event)

        def logits(self, state: np.ndarray, beta: float, recent: Recent) -> np.ndarray:
            logits = beta * state[:, :16].astype(np.float64) @ whole.embeddings.T.astype(float)
            np.add.at(logits, (np.arange(len(state))[:, None], recent.rows), weights[recent.types])
            return (logits + biases).astype(np.float32)

    trained = dataclasses.replace(
        made,
        embeddings=whole.embeddings,
        biases=biases,
        state_size=size,
        additive=fading.additive,
        live_weights=True,
        update_onnx=whole.update_onnx,
        score_onnx=score_graph(nodes, constants, size, 16, recent=3),
        reference=Reference(),
    )
    return write_bundle(trained, folder / "recent")


def counts_key_in(manifest: Manifest, arm: str, rules: Explore) -> bytes:
    """Under which key an engine with this bundle counts what came of an arm's lists."""
    interests = Interests(manifest.event_weights, manifest.additive)
    return counts_key(arm, rules, manifest.model, interests)
