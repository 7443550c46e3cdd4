"""A model bundle: a folder on disk in, a verified `Bundle` in memory out.

A bundle holds `manifest.json` and the files that the manifest names with their SHA-256:
`items.npz` (ids, embeddings, biases), `update.onnx`, `score.onnx` and the golden sequences; where
item vectors are packed, maybe the graphs for CUDA, whose kernels want another arithmetic. The
manifest's id is the hash of its own content, and so of everything. Nothing here is unpickled, and
no file outside the folder is opened. The graphs are handed on as the bytes that were verified, so
that nobody can swap a file between the check and its use; `stream.core.model` runs them.

`manifest.py` reads the manifest, `archive.py` the arrays; `graph.py` looks into the graphs. Must
not know: ONNX Runtime, Kafka, how a model is trained.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.core.archive import read_arrays
from stream.core.golden import Golden
from stream.core.graph import check_graph
from stream.core.manifest import (
    AGAIN,
    CONTENT,
    FORMAT,
    ITEMS,
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_GOLDEN_BYTES,
    MAX_ID_CHARACTERS,
    NEVER_LISTED,
    SCORE,
    SCORE_CUDA,
    UPDATE,
    UPDATE_CUDA,
    Additive,
    ContentSpec,
    FadingSum,
    Head,
    Manifest,
    StateLayout,
    manifest_id,
    read_file,
    read_manifest,
)
from stream.core.packing import Packed, Storage
from stream.core.recent import Recent
from stream.errors import BundleError

__all__ = [
    "CONTENT",
    "FORMAT",
    "ITEMS",
    "MANIFEST",
    "NEVER_LISTED",
    "SCORE",
    "SCORE_CUDA",
    "UPDATE",
    "UPDATE_CUDA",
    "Additive",
    "Bundle",
    "Content",
    "ContentSpec",
    "FadingSum",
    "Golden",
    "Head",
    "Manifest",
    "StateLayout",
    "manifest_id",
    "manifest_in",
    "read_manifest",
]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What makes vectors of catalogue records, and what the reference made of a few.

    `onnx`: the verified graph; `records`: G records of `items` as JSON; `vectors`: float32 [G, D].
    """

    spec: ContentSpec
    onnx: bytes
    records: list[str]
    vectors: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    item_ids : list[str], length n; `item_ids[row]`; row 0 is "no item", its id is ""
    vectors : of the n items, as they are stored; row 0 is zeros; read-only
    biases : float32, shape (n,); row 0 is -1e30; read-only
    update_onnx, score_onnx : the verified graphs
    cuda_onnx : the same two for CUDA; None: they serve there as well, or where vectors are packed,
        nothing does
    repurchase_s : float32, shape (n,), >= 0; after how long items are bought again, 0: not known;
        None: of no item
    content : for items that the model was not trained on; None: it knows nothing of content
    """

    path: Path
    manifest: Manifest
    item_ids: list[str]
    vectors: Packed
    biases: Float32
    golden: Golden
    update_onnx: bytes
    score_onnx: bytes
    content: Content | None = None
    cuda_onnx: tuple[bytes, bytes] | None = None
    repurchase_s: Float32 | None = None

    @property
    def embeddings(self) -> Float32:
        """float32, shape (n, D); a copy where the vectors are packed."""
        return self.vectors.unpacked()

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id

    @property
    def version(self) -> int:
        """The first 32 bits of the id, never 0. It stands in every user's state."""
        return int(self.bundle_id[:8], 16) or 1

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read and verify a folder.

        Raises
        ------
        BundleError
            Naming the file and the cure, for anything missing, damaged, too old or too new.
        """
        folder = Path(path)
        manifest = manifest_in(folder)
        content = {name: _verified(folder, name, sha) for name, sha in manifest.files.items()}
        dim, n = manifest.embedding_dim, manifest.items
        for name, graph in content.items():
            if name.endswith(".onnx"):
                check_graph(folder / name, graph, manifest.opset)
        item_bytes = n * 4 * (dim + 3 + MAX_ID_CHARACTERS) + 4 * 1024  # and the arrays' headers
        items = read_arrays(folder / ITEMS, content[ITEMS], item_bytes, AGAIN)
        vectors = _vectors(folder / ITEMS, items, manifest.item_storage, (n, dim))
        biases = _array(folder / ITEMS, items, "biases", np.float32, (n,))
        return cls(
            path=folder,
            manifest=manifest,
            item_ids=_item_ids(folder / ITEMS, items, n),
            vectors=vectors,
            biases=biases,
            golden=_golden(folder, manifest, content[manifest.golden.file]),
            update_onnx=content[UPDATE],
            score_onnx=content[SCORE],
            content=_content(folder, manifest, content),
            cuda_onnx=(content[UPDATE_CUDA], content[SCORE_CUDA])
            if UPDATE_CUDA in content
            else None,
            repurchase_s=_repurchase_s(folder / ITEMS, items, n),
        )


def manifest_in(folder: Path) -> Manifest:
    """The manifest of what somebody named as a bundle's folder; see `read_manifest`.

    Raises
    ------
    BundleError : it is no folder, or as `read_manifest`
    """
    if folder.is_file():
        raise BundleError(f"{folder}: is a file; give the folder of a bundle")
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: no such bundle folder; give the one that `freshet-export train` wrote"
        )
    return read_manifest(folder)


def _repurchase_s(file: Path, arrays: dict[str, npt.NDArray[Any]], n: int) -> Float32 | None:
    if "repurchase_s" not in arrays:
        return None
    found = _array(file, arrays, "repurchase_s", np.float32, (n,))
    if (found < 0).any():
        raise BundleError(f"{file}: repurchase_s holds negative numbers; {AGAIN}")
    return found


def _content(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> Content | None:
    if manifest.content is None:
        return None
    file = folder / manifest.golden.file
    arrays = read_arrays(file, files[manifest.golden.file], MAX_GOLDEN_BYTES, AGAIN)
    records = arrays.get("content_records")
    if records is None or records.dtype.kind != "U" or records.ndim != 1 or len(records) == 0:
        raise BundleError(f"{file}: content_records must be unicode strings; {AGAIN}")
    shape = (len(records), manifest.embedding_dim)
    vectors = _array(file, arrays, "content_vectors", np.float32, shape)
    return Content(manifest.content, files[CONTENT], records.tolist(), vectors)


def _verified(folder: Path, name: str, sha256: str) -> bytes:
    content = read_file(folder, name, MAX_FILE_BYTES.get(name, MAX_GOLDEN_BYTES))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{folder / name}: checksum does not match the manifest; {AGAIN}")
    return content


def _array(
    file: Path,
    arrays: dict[str, npt.NDArray[Any]],
    name: str,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
) -> npt.NDArray[Any]:
    found = arrays.get(name)
    if found is None:
        raise BundleError(f"{file}: has no array {name!r}; {AGAIN}")
    fits = len(found.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(found.shape, shape, strict=True)
    )
    if found.dtype != dtype or not fits:
        raise BundleError(
            f"{file}: {name} is {found.dtype} {found.shape}, not {np.dtype(dtype)} {shape}; {AGAIN}"
        )
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise BundleError(f"{file}: {name} holds numbers that are not finite; {AGAIN}")
    found.flags.writeable = False
    return np.require(found, requirements=["C", "A"])


def _vectors(
    file: Path, arrays: dict[str, npt.NDArray[Any]], storage: Storage, shape: tuple[int, int]
) -> Packed:
    values = _array(file, arrays, "embeddings", np.dtype(storage).type, shape)
    if storage != "int8":
        return Packed(values)
    scales = _array(file, arrays, "scales", np.float32, shape[:1])
    if (scales < 0).any():
        raise BundleError(f"{file}: scales holds negative numbers; {AGAIN}")
    return Packed(values, scales)


def _item_ids(file: Path, arrays: dict[str, npt.NDArray[Any]], n: int) -> list[str]:
    column = arrays.get("item_ids")
    if column is None or column.dtype.kind != "U" or column.shape != (n,):
        raise BundleError(f"{file}: item_ids must be {n} unicode strings; {AGAIN}")
    ids: list[str] = column.tolist()
    if ids[0] != "" or "" in ids[1:] or len(set(ids)) != n:
        raise BundleError(f"{file}: item_ids must be unique, with row 0 alone empty; {AGAIN}")
    return ids


def _golden(folder: Path, manifest: Manifest, content: bytes) -> Golden:
    file = folder / manifest.golden.file
    arrays = read_arrays(file, content, MAX_GOLDEN_BYTES, AGAIN)
    g, t = arrays["item_rows"].shape if arrays.get("item_rows", np.empty(0)).ndim == 2 else (0, 0)
    if g == 0 or t == 0:
        raise BundleError(f"{file}: holds no golden sequence; {AGAIN}")
    recent = None
    if manifest.recent:
        recent = Recent(
            rows=_array(file, arrays, "recent_rows", np.int64, (g, manifest.recent)),
            types=_array(file, arrays, "recent_types", np.int64, (g, manifest.recent)),
        )
    rows = _array(file, arrays, "rows", np.int64, (g, None))
    return Golden(
        item_rows=_array(file, arrays, "item_rows", np.int64, (g, t)),
        event_types=_array(file, arrays, "event_types", np.int64, (g, t)),
        gaps_s=_array(file, arrays, "gaps_s", np.float32, (g, t)),
        states=_array(file, arrays, "states", np.float32, (g, t, manifest.state.size)),
        recent=recent,
        excluded=_array(file, arrays, "excluded", np.int64, (g, None)),
        rows=rows,
        scores=_array(file, arrays, "scores", np.float32, rows.shape),
    )
