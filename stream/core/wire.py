"""A user's state as bytes: the changelog value.

In: structured rows, or values. Out: values, or structured rows. Knows nothing of slots,
models or Kafka.

    header (46 bytes)   layout, storage, state_size, ring_used, ring_head, flags, shown,
                        model, events, newest_ms, erased_ms, scale, bought_s, spent, purchases
    vector              state_size x float32, or state_size x int8 to be multiplied by `scale`
    shown               shown x 16 bytes: item hash, event time, event hash of an impression
    ring                ring_used x 16 bytes: 60 bits of the item hash and above them 4 of the event
                        type, event time, event hash

Numbers are little-endian. The ring is cut after its last used entry, so a user of few events is
short. Three older layouts are read and never written: up to 3 the event type was a byte of its own
behind an item hash of 64 bits; 1 and 2 did not say what the user bought, of which the ring tells
what it holds, and what was spent is 0; 1 had neither flags nor `erased_ms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.errors import StateError

LAYOUT: Final = 4
UNFLAGGED: Final = 1  # a layout without `flags`
MISROUTED: Final = 1  # in `flags`: the user's id belongs to another partition
STORAGES: Final = {"float32": 0, "int8": 1}

HEADER: Final = np.dtype(
    [
        ("layout", "u1"),
        ("storage", "u1"),
        ("state_size", "<u2"),
        ("ring_used", "u1"),
        ("ring_head", "u1"),
        ("flags", "u1"),
        ("shown", "u1"),  # entries of impressions, used or not
        ("model", "<u4"),
        ("events", "<u4"),
        ("newest_ms", "<i8"),
        ("erased_ms", "<i8"),  # events up to here stay forgotten; 0 for a user never erased
        ("scale", "<f4"),
        ("bought_s", "<u4"),  # event time of the newest purchase; 0: none
        ("spent", "<f4"),  # of purchases that said their price, less what was cancelled
        ("purchases", "<u2"),  # less what was cancelled; no more than it can count
    ]
)
_HEADER_2: Final = np.dtype(HEADER.descr[: (HEADER.names or ()).index("bought_s")])
_HEADER_1: Final = np.dtype(
    [
        ("layout", "u1"),
        ("storage", "u1"),
        ("state_size", "<u2"),
        ("ring_used", "u1"),
        ("ring_head", "u1"),
        ("reserved", "<u2"),
        ("model", "<u4"),
        ("events", "<u4"),
        ("newest_ms", "<i8"),
        ("scale", "<f4"),
    ]
)
# `item_and_type`: `split` takes it apart.
RING_ENTRY: Final = np.dtype([("item_and_type", "<u8"), ("time_s", "<u4"), ("event", "<u4")])
_RING_ENTRY_3: Final = np.dtype(
    [("item", "<u8"), ("time_s", "<u4"), ("event", "<u4"), ("type", "u1")]
)
_LAYOUTS: Final = {
    UNFLAGGED: (_HEADER_1, _RING_ENTRY_3),
    2: (_HEADER_2, _RING_ENTRY_3),
    3: (HEADER, _RING_ENTRY_3),
    LAYOUT: (HEADER, RING_ENTRY),
}
# Two of 1,000,000 items have the same 60 bits once in 2,000,000 catalogues; then a ring takes one
# for the other, and nothing else does.
ITEM_BITS: Final = 60
ITEM_MASK: Final = np.uint64((1 << ITEM_BITS) - 1)
# An impression of an ad; time 0 where there is none. In no order.
SHOWN_ENTRY: Final = np.dtype([("item", "<u8"), ("time_s", "<u4"), ("event", "<u4")])
_PURCHASE, _CANCEL = int(EventType.PURCHASE), int(EventType.CANCEL)
_NO_TYPE = np.uint8(15)  # in four bits, of what no version wrote into a byte

_FOREIGN: Final = "the changelog topic was written by something else"


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a user's state.

    Attributes
    ----------
    state_size : floats in the model's state
    storage : "float32", or "int8" with one scale per user
    ring : interactions remembered per user, 0..255
    model : version of the bundle whose state this is (`Bundle.version`)
    shown : impressions of ads remembered per user, 0..255
    """

    state_size: int
    storage: str
    ring: int
    model: int
    shown: int = 0

    @property
    def vector(self) -> np.dtype[np.generic]:
        """How one number of the state vector is stored."""
        return np.dtype("<f4" if self.storage == "float32" else "i1")

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest changelog value."""
        return self.full.itemsize

    @property
    def full(self) -> np.dtype[np.void]:
        """The changelog value of a user with a full ring."""
        return self.wire(self.vector, self.state_size, self.ring, self.shown)

    @property
    def blank(self) -> bytes:
        """`full` of a user that was never seen."""
        row = np.zeros(1, self.full)
        row["header"]["layout"] = LAYOUT
        row["header"]["storage"] = STORAGES[self.storage]
        row["header"]["state_size"] = self.state_size
        row["header"]["model"] = self.model
        row["header"]["shown"] = self.shown
        return row.tobytes()

    @staticmethod
    def wire(
        vector: np.dtype[np.generic], state_size: int, ring: int, shown: int = 0
    ) -> np.dtype[np.void]:
        """The changelog value with `ring` used entries, as a structured dtype."""
        return _wire(HEADER, RING_ENTRY, vector, state_size, ring, shown)


@cache
def _wire(
    header: np.dtype[np.void],
    entry: np.dtype[np.void],
    vector: np.dtype[np.generic],
    state_size: int,
    ring: int,
    shown: int,
) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("header", header),
            ("vector", vector, state_size),
            ("shown", SHOWN_ENTRY, (shown,)),
            ("ring", entry, ring),
        ]
    )


def join(
    items: NDArray[np.uint64] | np.uint64, types: NDArray[np.uint8] | np.uint8
) -> NDArray[np.uint64]:
    """`item_and_type` of ring entries. Any shape.

    Parameters
    ----------
    items : `contracts.item_hash`
    types : `EventType`, below 16
    """
    upper = np.asarray(types, np.uint64) << np.uint64(ITEM_BITS)
    both: NDArray[np.uint64] = (np.asarray(items, np.uint64) & ITEM_MASK) | upper
    return both


def split(ring: np.ndarray) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Items (60 bits of their hashes) and types of `RING_ENTRY`s. Any shape."""
    both = ring["item_and_type"]
    return both & ITEM_MASK, (both >> np.uint64(ITEM_BITS)).astype(np.uint8)


def cut_values(rows: np.ndarray, layout: Layout) -> list[bytes]:
    """Structured rows of `Layout.wire`, full rings and all, as changelog values."""
    width = rows.dtype.itemsize
    unused = layout.ring - rows["header"]["ring_used"].astype(np.int64)
    ends = (np.arange(1, len(rows) + 1) * width - unused * RING_ENTRY.itemsize).tolist()
    whole = rows.tobytes()
    return [whole[number * width : end] for number, end in enumerate(ends)]


def shape_of(value: bytes) -> tuple[int, bytes]:
    """Values of one shape can be decoded together: length; layout, storage, sizes, used ring."""
    return len(value), value[:5] + value[7:8]


def decode_values(values: list[bytes]) -> np.ndarray:
    """Changelog values of one shape, as structured rows of `Layout.wire`.

    Raises
    ------
    StateError : the layout is unknown, the length does not fit it, or a ring is impossible
    """
    first = values[0]
    layout = first[0] if first else 0
    if layout not in _LAYOUTS:
        read = ", ".join(map(str, sorted(_LAYOUTS)))
        raise StateError(
            f"the changelog holds a state of layout {layout or 'none'}; this version reads layout "
            f"{read}. Run the version that wrote it, or start a new group to fold the events again."
        )
    header, entry = _LAYOUTS[layout]
    if len(first) < header.itemsize or first[1] not in STORAGES.values():
        raise StateError(
            f"the changelog holds a state of {len(first)} bytes and storage "
            f"{first[1] if len(first) > 1 else 'none'}, which no version wrote; {_FOREIGN}"
        )
    head = np.frombuffer(first, header, count=1)[0]
    vector = np.dtype("<f4" if head["storage"] == STORAGES["float32"] else "i1")
    used, shown = int(head["ring_used"]), int(head["shown"]) if header is HEADER else 0
    dtype = _wire(header, entry, vector, int(head["state_size"]), used, shown)
    if dtype.itemsize != len(first):
        raise StateError(
            f"the changelog holds a state of {len(first)} bytes where its header says "
            f"{dtype.itemsize}; {_FOREIGN}"
        )
    rows = np.frombuffer(b"".join(values), dtype)
    if rows["header"]["ring_head"].max() > used:
        raise StateError(
            f"the changelog holds a state whose ring goes on at entry "
            f"{rows['header']['ring_head'].max()} of {used}; {_FOREIGN}"
        )
    return rows if layout == LAYOUT else _as_present(rows, vector)


def _as_present(old: np.ndarray, vector: np.dtype[np.generic]) -> np.ndarray:
    """Rows of an older layout, as rows of the present one."""
    state_size, used, shown = (old[part].shape[1] for part in ("vector", "ring", "shown"))
    rows = np.zeros(len(old), Layout.wire(vector, state_size, used, shown))
    header, written, ring = rows["header"], old["header"], old["ring"]
    for name in written.dtype.names or ():
        if name != "reserved":
            header[name] = written[name]
    header["layout"] = LAYOUT
    header["shown"] = shown
    if "purchases" not in (written.dtype.names or ()):
        bought = ring["type"] == _PURCHASE
        cancelled = np.count_nonzero(ring["type"] == _CANCEL, axis=1)
        header["purchases"] = np.maximum(np.count_nonzero(bought, axis=1) - cancelled, 0)
        header["bought_s"] = np.where(bought, ring["time_s"], 0).max(axis=1, initial=0)
    rows["vector"], rows["shown"] = old["vector"], old["shown"]
    for name in ("time_s", "event"):
        rows["ring"][name] = ring[name]
    rows["ring"]["item_and_type"] = join(ring["item"], np.minimum(ring["type"], _NO_TYPE))
    return rows
