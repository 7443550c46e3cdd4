"""A bundle's `manifest.json`, typed and checked. In: a folder. Out: a `Manifest`.

The manifest's id is the hash of its own content; the SHA-256 of every other file is in it, and so
the id stands for everything. What it claims is held against limits here, before anybody takes
memory for it.

Must not know: the other files' content, ONNX Runtime, how a model is trained.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Literal

import msgspec

from stream.contracts import EVENT_TYPES
from stream.core.packing import Storage
from stream.errors import BundleError

FORMAT = 1
OPSETS = range(17, 24)  # what the supported ONNX Runtimes (1.22 and later) all run
MANIFEST = "manifest.json"
ITEMS = "items.npz"
UPDATE = "update.onnx"
SCORE = "score.onnx"
CONTENT = "content.onnx"
UPDATE_CUDA = "update_cuda.onnx"  # for a packed item table, which a GPU reads in another way
SCORE_CUDA = "score_cuda.onnx"
NEVER_LISTED = -1e30  # as a bias or a logit: below every score that a model can give
AGAIN = "copy the bundle again, or make it again with `freshet-export train`"

# Limits far above any model that serves: what claims more is damaged or hostile.
MAX_STATE = 4_096  # numbers
MAX_DIM = 4_096
MAX_ITEMS = 50_000_000
MAX_TABLE_BYTES = 16 << 30  # items times dimensions, float32
MAX_ID_CHARACTERS = 256
MAX_SUMS = 64
MAX_FEATURES = 1 << 20
MAX_RECENT = 64  # interactions; rings hold 50 unless set otherwise
MAX_TOLERANCE = 0.01
MAX_GOLDEN_BYTES = 256 << 20
MAX_FILE_BYTES = {
    MANIFEST: 1 << 20,
    ITEMS: MAX_TABLE_BYTES + (1 << 30),
    UPDATE: 256 << 20,
    SCORE: 256 << 20,
    CONTENT: 256 << 20,
    UPDATE_CUDA: 256 << 20,
    SCORE_CUDA: 256 << 20,
}

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


class ContentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `content.onnx` reads of an item: `size` ids of texts (`content.py`), and a given
    embedding of `embedding` numbers; 0: it reads none.
    """

    size: int
    embedding: int


class Additive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A state that is nothing but fading sums of item vectors, so that every interaction has an
    exact share in a score.

    The state is the sums side by side, each as long as an item vector; an interaction of age a is
    in sum s as weight[type] * 2^(-a / half_life_s) * item. An item's affinity is the sum over s of
    share * (s . item) / sqrt(|s|^2 + strength^2).
    """

    sums: tuple[FadingSum, ...]
    strength: float


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes scores, for people: `affinity` ("dot product", "cosine", ...), the `loss` that
    training minimised ("softmax", "sampled softmax", "squared error", "none", ...), and the `score`
    of beta * affinity + bias ("sigmoid", "calibrated sigmoid").
    """

    affinity: str
    loss: str
    score: str = "sigmoid"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`, typed. `items` counts the rows of `items.npz`, row 0 ("no item") included.

    `created` is the event time of the newest training event, not the clock's: the same log gives
    the same bundle, with the same id. `additive` is None for a model that is no such sum, `content`
    for one that knows nothing of what items are. `live_weights`: the update graph takes the weights
    and half-lives of `event_weights` and `additive` as inputs, so that settings may give others;
    `half_lives_s` has the latter where sums are a part of the state and `additive` is None.
    `recent` counts the last interactions that the score graph takes. `item_storage` is how item
    vectors are kept, see `packing.py`. `exclude_seen` and `exclude_bought` say what placements
    leave out that do not say it themselves. `head` is None where a bundle does not say.
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
    item_storage: Storage = "float32"
    event_types: dict[str, int]
    event_weights: dict[str, float]
    head: Head | None = None
    additive: Additive | None
    live_weights: bool = False
    half_lives_s: tuple[float, ...] = ()
    content: ContentSpec | None = None
    beta: float
    recent: int = 0
    exclude_seen: bool
    exclude_bought: bool = True
    training: dict[str, Any]
    metrics: dict[str, Any]
    golden: GoldenSpec
    files: dict[str, str]

    @property
    def fading_s(self) -> tuple[float, ...]:
        """Half-lives of all fading sums that the state has, as far as the bundle says."""
        if self.additive is None:
            return self.half_lives_s
        return tuple(fading.half_life_s for fading in self.additive.sums)


def manifest_id(fields: dict[str, Any]) -> str:
    """SHA-256 (hex) of the manifest's canonical JSON without its `id`."""
    rest = {name: value for name, value in fields.items() if name != "id"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle folder, checked as far as that goes without the other files."""
    file = folder / MANIFEST
    try:
        text = read_file(folder, MANIFEST, MAX_FILE_BYTES[MANIFEST])
        fields = json.loads(text, object_pairs_hook=_no_repeats)
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
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
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
    _check_sizes(file, manifest)
    _check_additive(file, manifest)
    if manifest.event_types != EVENT_TYPES:
        raise BundleError(f"{file}: event_types are not those of this Freshet; {AGAIN}")
    if not manifest.event_weights.keys() <= EVENT_TYPES.keys():
        raise BundleError(f"{file}: event_weights are of other types than event_types; {AGAIN}")
    _check_files(file, manifest)
    return manifest


def _check_files(file: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        if not _FILE_NAME.fullmatch(name):
            raise BundleError(f"{file}: {name!r} is not a plain file name; do not use this bundle")
    needed = {ITEMS, UPDATE, SCORE, manifest.golden.file}
    if manifest.content is not None:
        needed.add(CONTENT)
    for_cuda = {UPDATE_CUDA, SCORE_CUDA}
    if manifest.item_storage != "float32" and for_cuda & set(manifest.files):
        needed |= for_cuda
    for name in sorted(needed):
        if name not in manifest.files:
            raise BundleError(f"{file}: lists no {name!r} under files; {AGAIN}")
    if len(manifest.files) > len(needed):
        raise BundleError(f"{file}: lists files that format {FORMAT} does not know; {AGAIN}")


def _check_sizes(file: Path, manifest: Manifest) -> None:
    size, dim, items = manifest.state.size, manifest.embedding_dim, manifest.items
    if min(size, dim, items) < 1:
        raise BundleError(f"{file}: state size, embedding_dim and items must be positive; {AGAIN}")
    if size > MAX_STATE or dim > MAX_DIM or items > MAX_ITEMS or 4 * items * dim > MAX_TABLE_BYTES:
        raise BundleError(
            f"{file}: claims a state of {size}, {items} items and {dim} dimensions; at most "
            f"{MAX_STATE}, {MAX_ITEMS} and {MAX_DIM} are read, and {MAX_TABLE_BYTES >> 30} GiB of "
            f"item vectors. Damaged or hostile: {AGAIN}"
        )
    content = manifest.content
    if content is not None and not (
        1 <= content.size <= MAX_FEATURES and 0 <= content.embedding <= MAX_DIM
    ):
        raise BundleError(
            f"{file}: content must have 1 to {MAX_FEATURES} ids and an embedding of 0 to {MAX_DIM} "
            f"numbers; {AGAIN}"
        )
    if not 0 <= manifest.recent <= MAX_RECENT:
        raise BundleError(f"{file}: recent must be 0 to {MAX_RECENT} interactions; {AGAIN}")
    if not 0 <= manifest.golden.tolerance <= MAX_TOLERANCE:
        raise BundleError(f"{file}: golden tolerance must be 0 to {MAX_TOLERANCE}; {AGAIN}")


def _check_additive(file: Path, manifest: Manifest) -> None:
    additive, half_lives_s = manifest.additive, manifest.fading_s
    if (manifest.live_weights and additive is None) != bool(manifest.half_lives_s):
        raise BundleError(f"{file}: live_weights need additive sums or else half_lives_s; {AGAIN}")
    if len(half_lives_s) > MAX_SUMS:
        raise BundleError(f"{file}: more than {MAX_SUMS} fading sums; {AGAIN}")
    strength = 1.0 if additive is None else additive.strength
    if not all(size > 0 for size in (*half_lives_s, strength)):
        raise BundleError(f"{file}: half-lives and additive strength must be positive; {AGAIN}")
    if additive is not None and manifest.state.size != len(half_lives_s) * manifest.embedding_dim:
        raise BundleError(f"{file}: additive sums do not fill the state; {AGAIN}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice in one object")
    return fields


def read_file(folder: Path, name: str, max_bytes: int) -> bytes:
    """A file of the bundle, `max_bytes` at most. Links are followed inside the folder alone.

    Raises
    ------
    BundleError : it is missing, cannot be read, is no plain file, too large, or elsewhere
    """
    file = folder / name
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(folder.resolve(strict=True)):
            raise BundleError(f"{file}: leads out of the bundle's folder; do not use this bundle")
        # Neither a link put there since nor a pipe that nobody writes to.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(real, flags | getattr(os, "O_BINARY", 0)), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise BundleError(f"{file}: not a plain file; {AGAIN}")
            size = os.fstat(opened.fileno()).st_size
            # `read` takes memory for all that it is asked for.
            content = opened.read(size + 1) if size <= max_bytes else b""
    except FileNotFoundError:
        raise BundleError(f"{file}: missing; {AGAIN}") from None
    except (OSError, RuntimeError) as error:  # the latter of links that go in circles
        why = getattr(error, "strerror", None) or error
        raise BundleError(f"{file}: cannot be read ({why}); {AGAIN}") from None
    if max(size, len(content)) > max_bytes:
        raise BundleError(f"{file}: larger than {max_bytes} bytes; {AGAIN}")
    return content
