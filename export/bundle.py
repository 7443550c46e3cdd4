"""Write a bundle. In: a `Trained` model. Out: a folder that `stream.core.bundle` verifies.

The golden sequences come from the model's NumPy reference, never from the graphs: the loader's
replay then tells whether graph, runtime and provider compute what was meant. The folder appears
whole or not at all, and the same model gives the same bytes.

Must not know: which model it is, how it was trained.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from export.models.base import Int64, Trained
from export.to_onnx import OPSET
from export.writing import unwritable
from stream.contracts import EVENT_TYPES, EventType
from stream.core.bundle import (
    CONTENT,
    FORMAT,
    ITEMS,
    MANIFEST,
    NEVER_LISTED,
    SCORE,
    UPDATE,
    Bundle,
    manifest_id,
)
from stream.core.recent import Recent
from stream.errors import UsageError

GOLDEN = "golden.npz"
NETWORK = "network.npz"  # beside the bundle: for the next training, not for the engine
TOLERANCE = 2e-5  # absolute; float32 graphs against the float64 reference
_OURS = frozenset({MANIFEST, ITEMS, GOLDEN, NETWORK, "run.json"})  # and graphs
SEQUENCES, EVENTS, STRUCK, LISTED = 8, 12, 6, 10


def write_bundle(trained: Trained, folder: Path, name: str | None = None) -> Bundle:
    """Write and load a bundle.

    Raises
    ------
    UsageError
        `folder` exists and is not a bundle, or cannot be written.
    BundleError
        What was written does not verify.
    """
    return write_files(bundle_files(trained, name or trained.model), folder)


def write_files(files: dict[str, bytes], folder: Path) -> Bundle:
    """Write and load a bundle from its files by name, whole or not at all; see `write_bundle`."""
    look_at(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as scratch:
            made = Path(scratch) / "new"
            made.mkdir()
            for file, content in files.items():
                (made / file).write_bytes(content)
            Bundle.load(made)
            _put_in_place(made, folder, Path(scratch) / "old")
    except OSError as error:
        raise unwritable(folder, error) from None
    return Bundle.load(folder)


def _put_in_place(made: Path, folder: Path, old: Path) -> None:
    """Move `made` to `folder`; what is there goes to `old`, and comes back if that fails."""
    if folder.exists():
        folder.rename(old)
    try:
        shutil.move(made, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise


def look_at(folder: Path) -> None:
    """See whether a bundle can be written there.

    Raises
    ------
    UsageError
        `folder` exists and is not a bundle, holds something else as well, or cannot be written.
    """
    try:
        if folder.exists():
            _require_bundle(folder)
        if folder.is_symlink():
            folder.stat()  # a link to nothing cannot be replaced by a folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-"):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def _require_bundle(folder: Path) -> None:
    """Replacing a bundle removes its folder: nothing in it may be anybody else's."""
    if not (folder.is_dir() and (folder / MANIFEST).is_file()):
        raise UsageError(f"{folder}: exists and is not a bundle; give another folder")
    for found in sorted(folder.iterdir()):
        if found.is_dir() or not (found.name in _OURS or found.suffix == ".onnx"):
            raise UsageError(
                f"{folder}: holds {found.name}, which is no part of a bundle and would be lost; "
                "move it away, or give another folder"
            )
    try:
        told = json.loads((folder / MANIFEST).read_bytes())
    except ValueError:
        return  # damaged
    if not isinstance(told, dict) or "files" not in told:
        raise UsageError(f"{folder}: its {MANIFEST} is not a bundle's; give another folder")


def bundle_files(trained: Trained, name: str) -> dict[str, bytes]:
    """The files of a bundle by name."""
    ids = np.array(trained.item_ids)
    if ids.tolist() != trained.item_ids:
        raise UsageError("an item id ends in a NUL character; clean the log first")
    arrays = {"embeddings": trained.embeddings, "biases": trained.biases}
    if trained.repurchase_s is not None and trained.repurchase_s.any():
        arrays["repurchase_s"] = trained.repurchase_s
    content = {
        ITEMS: npz(item_ids=ids, **arrays),
        UPDATE: trained.update_onnx,
        SCORE: trained.score_onnx,
        GOLDEN: _golden(trained),
    }
    if trained.content is not None:
        content[CONTENT] = trained.content.to_onnx()
    fields: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "model": trained.model,
        "created": trained.created,
        "opset": OPSET,
        "state": {"size": trained.state_size, "storage": trained.storage},
        "embedding_dim": trained.embeddings.shape[1],
        "items": len(trained.item_ids),
        "event_types": {wire: int(code) for wire, code in EVENT_TYPES.items()},
        "event_weights": {t.name.lower(): w for t, w in trained.event_weights.items()},
        "head": msgspec.to_builtins(trained.head),
        "additive": msgspec.to_builtins(trained.additive),
        "live_weights": trained.live_weights,
        "content": None if trained.content is None else trained.content.spec(),
        "beta": trained.beta,
        "recent": trained.recent,
        "exclude_seen": trained.exclude_seen,
        "exclude_bought": trained.exclude_bought,
        "training": trained.training,
        "metrics": trained.metrics,
        "golden": {"file": GOLDEN, "tolerance": TOLERANCE},
        "files": {file: hashlib.sha256(data).hexdigest() for file, data in content.items()},
    }
    if trained.half_lives_s:
        fields["half_lives_s"] = list(trained.half_lives_s)
    beside: dict[str, bytes] = {}
    if trained.network:
        beside[NETWORK] = npz(**trained.network)
        network = hashlib.sha256(beside[NETWORK]).hexdigest()
        fields["training"] = {**trained.training, NETWORK: network}
    fields["id"] = manifest_id(fields)
    text = json.dumps(fields, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return {**content, **beside, MANIFEST: text.encode()}


def _golden(trained: Trained) -> bytes:
    """Sequences over every event type, unknown items, and gaps of both signs and none."""
    rng = np.random.default_rng(0)
    n, shape = len(trained.item_ids), (SEQUENCES, EVENTS)
    rows = rng.integers(0, n, shape)
    types = rng.integers(0, len(EVENT_TYPES) + 1, shape)
    gaps = (rng.choice([-1, 0, 1, 1], shape) * 10 ** rng.uniform(0, 7, shape)).astype(np.float32)
    gaps[:, 0] = 0
    state = np.zeros((SEQUENCES, trained.state_size), np.float32)
    states = np.zeros((*shape, trained.state_size), np.float32)
    for t in range(EVENTS):
        state = trained.reference.update(state, rows[:, t], types[:, t], gaps[:, t])
        states[:, t] = state
    excluded = rng.integers(0, n, (SEQUENCES, STRUCK))
    seen: dict[str, Int64] = {}
    if trained.recent:
        recent = _recent(rows, types, trained.recent)
        seen = {"recent_rows": recent.rows, "recent_types": recent.types}
        logits = trained.reference.logits(state, trained.beta, recent).astype(np.float64)
    else:
        logits = trained.reference.logits(state, trained.beta).astype(np.float64)
    np.put_along_axis(logits, excluded, NEVER_LISTED, axis=1)
    logits[:, 0] = NEVER_LISTED
    listed = np.argsort(-logits, axis=1, kind="stable")[:, : min(LISTED, n)]
    best = np.take_along_axis(logits, listed, axis=1)
    kept = best if trained.calibration is None else trained.calibration.apply(best)
    scores = np.where(best > NEVER_LISTED / 10, 1 / (1 + np.exp(-np.maximum(kept, -80))), 0)
    return npz(
        item_rows=rows,
        event_types=types,
        gaps_s=gaps,
        states=states,
        excluded=excluded,
        rows=listed,
        scores=scores.astype(np.float32),
        **({} if trained.content is None else trained.content.golden()),
        **seen,
    )


def _recent(rows: Int64, types: Int64, size: int) -> Recent:
    """The last `size` interactions of sequences of events (int64 [G, T]), as a ring has them."""
    recent = Recent.nothing(len(rows), size)
    for sequence in range(len(rows)):
        remembered = (types[sequence] != 0) & (types[sequence] != EventType.IMPRESSION)
        newest_first = np.flatnonzero(remembered)[::-1][:size]
        known = rows[sequence, newest_first] != 0
        for column, values in zip(recent, (rows, types), strict=True):
            column[sequence, : len(known)] = np.where(known, values[sequence, newest_first], 0)
    return recent


def npz(**arrays: npt.NDArray[Any]) -> bytes:
    """A compressed NumPy archive; its time stamps are constant: equal arrays give equal bytes."""
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    return target.getvalue()
