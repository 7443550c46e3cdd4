"""A model bundle: a folder on disk in, a verified `Bundle` in memory out.

A bundle holds `manifest.json` and the files that the manifest names with their SHA-256:
`items.npz` (ids, embeddings, biases), `update.onnx`, `score.onnx` and the golden sequences. The
manifest's id is the hash of its own content, and so of everything. Nothing here is unpickled, and
no file outside the folder is opened. The graphs are handed on as the bytes that were verified, so
that nobody can swap a file between the check and its use; `stream.core.model` runs them.

Must not know: ONNX Runtime, Kafka, how a model is trained.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts import EVENT_TYPES
from stream.errors import BundleError

FORMAT = 1
OPSETS = range(17, 24)  # what the supported ONNX Runtimes (1.22 and later) all run
MANIFEST = "manifest.json"
ITEMS = "items.npz"
UPDATE = "update.onnx"
SCORE = "score.onnx"
NEVER_LISTED = -1e30  # as a bias or a logit: below every score that a model can give
AGAIN = "copy the bundle again, or make it again with `freshet-export train`"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Float32 = npt.NDArray[np.float32]


class StateLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The recurrent state of one user: `size` numbers, and how the engine keeps them."""

    size: int
    storage: Literal["float32", "int8"]


class GoldenSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the golden sequences are and how far a replay may be from them (absolute)."""

    file: str
    tolerance: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`, typed. `items` counts the rows of `items.npz`, row 0 ("no item") included.

    `created` is the event time of the newest training event, not the clock's: the same log gives
    the same bundle, with the same id.
    """

    format: int
    bundle_id: str = msgspec.field(name="id")
    name: str
    model: str
    created: str
    opset: int
    state: StateLayout
    embedding_dim: int
    items: int
    event_types: dict[str, int]
    event_weights: dict[str, float]
    half_life_s: float | None
    beta: float
    exclude_seen: bool
    training: dict[str, Any]
    metrics: dict[str, Any]
    golden: GoldenSpec
    files: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """G sequences of T events, and what the reference implementation made of them.

    `item_rows`, `event_types`: int64 [G, T]; `gaps_s`: float32 [G, T]; `states`: float32 [G, T, S]
    after each event; then one score of the last state: `excluded` int64 [G, M],
    `rows` int64 [G, k], `scores` float32 [G, k].
    """

    item_rows: npt.NDArray[np.int64]
    event_types: npt.NDArray[np.int64]
    gaps_s: Float32
    states: Float32
    excluded: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    scores: Float32


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    item_ids : list[str], length n; `item_ids[row]`; row 0 is "no item", its id is ""
    embeddings : float32, shape (n, D); row 0 is zeros; read-only
    biases : float32, shape (n,); row 0 is -1e30; read-only
    update_onnx, score_onnx : the verified graphs
    """

    path: Path
    manifest: Manifest
    item_ids: list[str]
    embeddings: Float32
    biases: Float32
    golden: Golden
    update_onnx: bytes
    score_onnx: bytes

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
        if not folder.is_dir():
            raise BundleError(
                f"{folder}: no such bundle folder; give the one that `freshet-export train` wrote"
            )
        manifest = read_manifest(folder)
        content = {name: _verified(folder, name, sha) for name, sha in manifest.files.items()}
        size, dim, n = manifest.state.size, manifest.embedding_dim, manifest.items
        items = _arrays(folder / ITEMS, content[ITEMS])
        embeddings = _array(folder / ITEMS, items, "embeddings", np.float32, (n, dim))
        biases = _array(folder / ITEMS, items, "biases", np.float32, (n,))
        return cls(
            path=folder,
            manifest=manifest,
            item_ids=_item_ids(folder / ITEMS, items, n),
            embeddings=embeddings,
            biases=biases,
            golden=_golden(folder / manifest.golden.file, content[manifest.golden.file], size),
            update_onnx=content[UPDATE],
            score_onnx=content[SCORE],
        )


def manifest_id(fields: dict[str, Any]) -> str:
    """SHA-256 (hex) of the manifest's canonical JSON without its `id`."""
    rest = {name: value for name, value in fields.items() if name != "id"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder, checked as far as that goes without the other files."""
    file = folder / MANIFEST
    try:
        fields = json.loads(_read(file), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not valid JSON ({error}); {AGAIN}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise BundleError(f"{file}: not a bundle's manifest (no format number); {AGAIN}")
    if fields["format"] != FORMAT:
        newer = fields["format"] > FORMAT
        cure = "upgrade Freshet" if newer else "make the bundle again with `freshet-export train`"
        raise BundleError(
            f"{file}: bundle format {fields['format']} is {'newer' if newer else 'older'} than the "
            f"format {FORMAT} that this Freshet reads; {cure}"
        )
    try:
        manifest = msgspec.convert(fields, Manifest)
        found = manifest_id(fields)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleError(f"{file}: {error}; {AGAIN}") from None
    if manifest.bundle_id != found:
        raise BundleError(f"{file}: the id does not match the content (edited by hand?); {AGAIN}")
    if manifest.opset not in OPSETS:
        above = manifest.opset >= OPSETS.stop
        raise BundleError(
            f"{file}: opset {manifest.opset} is {'above' if above else 'below'} the supported "
            f"{OPSETS.start} to {OPSETS.stop - 1}; "
            + ("upgrade Freshet" if above else "make the bundle again with `freshet-export train`")
        )
    if min(manifest.state.size, manifest.embedding_dim, manifest.items) < 1:
        raise BundleError(f"{file}: state size, embedding_dim and items must be positive; {AGAIN}")
    if manifest.event_types != EVENT_TYPES:
        raise BundleError(f"{file}: event_types are not those of this Freshet; {AGAIN}")
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(f"{file}: {name!r} is not a plain file name; do not use this bundle")
    for name in (ITEMS, UPDATE, SCORE, manifest.golden.file):
        if name not in manifest.files:
            raise BundleError(f"{file}: lists no {name!r} under files; {AGAIN}")
    return manifest


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return fields


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{file}: missing; {AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from None


def _verified(folder: Path, name: str, sha256: str) -> bytes:
    content = _read(folder / name)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{folder / name}: checksum does not match the manifest; {AGAIN}")
    return content


def _arrays(file: Path, content: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise BundleError(f"{file}: not a plain NumPy archive ({error}); {AGAIN}") from None


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
    return np.ascontiguousarray(found)


def _item_ids(file: Path, arrays: dict[str, npt.NDArray[Any]], n: int) -> list[str]:
    column = arrays.get("item_ids")
    if column is None or column.dtype.kind != "U" or column.shape != (n,):
        raise BundleError(f"{file}: item_ids must be {n} unicode strings; {AGAIN}")
    ids: list[str] = column.tolist()
    if ids[0] != "" or "" in ids[1:] or len(set(ids)) != n:
        raise BundleError(f"{file}: item_ids must be unique, with row 0 alone empty; {AGAIN}")
    return ids


def _golden(file: Path, content: bytes, state_size: int) -> Golden:
    arrays = _arrays(file, content)
    g, t = arrays["item_rows"].shape if arrays.get("item_rows", np.empty(0)).ndim == 2 else (0, 0)
    if g == 0 or t == 0:
        raise BundleError(f"{file}: holds no golden sequence; {AGAIN}")
    rows = _array(file, arrays, "rows", np.int64, (g, None))
    return Golden(
        item_rows=_array(file, arrays, "item_rows", np.int64, (g, t)),
        event_types=_array(file, arrays, "event_types", np.int64, (g, t)),
        gaps_s=_array(file, arrays, "gaps_s", np.float32, (g, t)),
        states=_array(file, arrays, "states", np.float32, (g, t, state_size)),
        excluded=_array(file, arrays, "excluded", np.int64, (g, None)),
        rows=rows,
        scores=_array(file, arrays, "scores", np.float32, rows.shape),
    )
