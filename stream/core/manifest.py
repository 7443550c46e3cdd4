"""A bundle's `manifest.json`, typed and checked. In: a folder. Out: a `Manifest`.

The manifest's id is the hash of its own content; the SHA-256 of every other file is in it, and so
the id stands for everything.

Must not know: the other files' content, ONNX Runtime, how a model is trained.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

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


class StateLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The recurrent state of one user: `size` numbers, and how the engine keeps them."""

    size: int
    storage: Literal["float32", "int8"]


class GoldenSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the golden sequences are and how far a replay may be from them (absolute)."""

    file: str
    tolerance: float


class FadingSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the sums of `Additive`: how fast it fades, and its share in the score."""

    half_life_s: float
    share: float


class Additive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A state that is nothing but fading sums of item vectors, so that every interaction has an
    exact share in a score.

    The state is the sums side by side, each as long as an item vector; an interaction of age a is
    in sum s as weight[type] * 2^(-a / half_life_s) * item. An item's affinity is the sum over s of
    share * (s . item) / sqrt(|s|^2 + strength^2).
    """

    sums: tuple[FadingSum, ...]
    strength: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`, typed. `items` counts the rows of `items.npz`, row 0 ("no item") included.

    `created` is the event time of the newest training event, not the clock's: the same log gives
    the same bundle, with the same id. `additive` is None for a model that is no such sum.
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
    additive: Additive | None
    beta: float
    exclude_seen: bool
    training: dict[str, Any]
    metrics: dict[str, Any]
    golden: GoldenSpec
    files: dict[str, str]


def manifest_id(fields: dict[str, Any]) -> str:
    """SHA-256 (hex) of the manifest's canonical JSON without its `id`."""
    rest = {name: value for name, value in fields.items() if name != "id"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder, checked as far as that goes without the other files."""
    file = folder / MANIFEST
    try:
        fields = json.loads(read_file(file), object_pairs_hook=_no_repeats)
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
    _check_additive(file, manifest)
    if manifest.event_types != EVENT_TYPES:
        raise BundleError(f"{file}: event_types are not those of this Freshet; {AGAIN}")
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(f"{file}: {name!r} is not a plain file name; do not use this bundle")
    for name in (ITEMS, UPDATE, SCORE, manifest.golden.file):
        if name not in manifest.files:
            raise BundleError(f"{file}: lists no {name!r} under files; {AGAIN}")
    return manifest


def _check_additive(file: Path, manifest: Manifest) -> None:
    additive = manifest.additive
    if additive is None:
        return
    if manifest.state.size != len(additive.sums) * manifest.embedding_dim:
        raise BundleError(f"{file}: additive sums do not fill the state; {AGAIN}")
    if not additive.strength > 0 or any(not s.half_life_s > 0 for s in additive.sums):
        raise BundleError(f"{file}: additive half-lives and strength must be positive; {AGAIN}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return fields


def read_file(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{file}: missing; {AGAIN}") from None
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); {AGAIN}") from None
