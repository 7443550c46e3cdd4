"""A user's state as bytes: the changelog value.

In: structured rows, or values. Out: values, or structured rows. Knows nothing of slots,
models or Kafka.

    header (46 bytes)   layout, storage, state_size, ring_used, ring_head, flags, shown,
                        model, events, newest_ms, erased_ms, scale, bought_s, spent, purchases
    vector              state_size x float32, or state_size x int8 to be multiplied by `scale`
    shown               shown x 16 bytes: item hash, event time, event hash of an impression
    ring                ring_used x 17 bytes: item hash, event time, event hash, event type

Numbers are little-endian. The ring is cut after its last used entry, so a user of few events is
short. Two older layouts are read and never written: 1 had neither flags nor `erased_ms`, and 1 and
2 did not say what the user bought. Of that the ring tells what it holds, and what was spent is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.errors import StateError

LAYOUT: Final = 3
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
_HEADERS: Final = {UNFLAGGED: _HEADER_1, 2: _HEADER_2, LAYOUT: HEADER}
RING_ENTRY: Final = np.dtype([("item", "<u8"), ("time_s", "<u4"), ("event", "<u4"), ("type", "u1")])
# An impression of an ad; time 0 where there is none. In no order.
SHOWN_ENTRY: Final = np.dtype([("item", "<u8"), ("time_s", "<u4"), ("event", "<u4")])
_PURCHASE, _CANCEL = int(EventType.PURCHASE), int(EventType.CANCEL)

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
        return _wire(HEADER, vector, state_size, ring, shown)


@cache
def _wire(
    header: np.dtype[np.void], vector: np.dtype[np.generic], state_size: int, ring: int, shown: int
) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("header", header),
            ("vector", vector, state_size),
            ("shown", SHOWN_ENTRY, (shown,)),
            ("ring", RING_ENTRY, ring),
        ]
    )


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
    if layout not in _HEADERS:
        read = ", ".join(map(str, sorted(_HEADERS)))
        raise StateError(
            f"the changelog holds a state of layout {layout or 'none'}; this version reads layout "
            f"{read}. Run the version that wrote it, or start a new group to fold the events again."
        )
    header = _HEADERS[layout]
    if len(first) < header.itemsize or first[1] not in STORAGES.values():
        raise StateError(
            f"the changelog holds a state of {len(first)} bytes and storage "
            f"{first[1] if len(first) > 1 else 'none'}, which no version wrote; {_FOREIGN}"
        )
    head = np.frombuffer(first, header, count=1)[0]
    vector = np.dtype("<f4" if head["storage"] == STORAGES["float32"] else "i1")
    used, shown = int(head["ring_used"]), int(head["shown"]) if header is HEADER else 0
    dtype = _wire(header, vector, int(head["state_size"]), used, shown)
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
    return rows if header is HEADER else _as_present(rows, vector)


def _as_present(old: np.ndarray, vector: np.dtype[np.generic]) -> np.ndarray:
    """Rows of an older layout, as rows of the present one."""
    state_size, ring = old["vector"].shape[1], old["ring"].shape[1]
    rows = np.zeros(len(old), Layout.wire(vector, state_size, ring))
    header, written = rows["header"], old["header"]
    for name in written.dtype.names or ():
        if name not in ("layout", "reserved", "shown"):
            header[name] = written[name]
    header["layout"] = LAYOUT
    bought = old["ring"]["type"] == _PURCHASE
    cancelled = np.count_nonzero(old["ring"]["type"] == _CANCEL, axis=1)
    header["purchases"] = np.maximum(np.count_nonzero(bought, axis=1) - cancelled, 0)
    header["bought_s"] = np.where(bought, old["ring"]["time_s"], 0).max(axis=1, initial=0)
    rows["vector"] = old["vector"]
    rows["ring"] = old["ring"]
    return rows


def fit_states(decoded: np.ndarray, layout: Layout) -> np.ndarray:
    """States written with other sizes, as `layout.full`: shape (len(decoded),)."""
    fitted = np.frombuffer(layout.blank * len(decoded), layout.full).copy()
    header, written = fitted["header"], decoded["header"]
    for name in ("events", "newest_ms", "erased_ms", "flags", "bought_s", "spent", "purchases"):
        header[name] = written[name]
    if decoded["vector"].dtype == fitted["vector"].dtype and (
        decoded["vector"].shape == fitted["vector"].shape
    ):
        fitted["vector"] = decoded["vector"]
        for name in ("model", "scale"):
            header[name] = written[name]
    else:
        header["model"] = 0  # another model's state: rebuilt from the ring at the next event
    ring, heads = fit_ring(decoded["ring"], written["ring_head"].astype(np.int64), layout.ring)
    shown = fit_shown(decoded["shown"], layout.shown)
    fitted["shown"][:, : shown.shape[1]] = shown
    fitted["ring"][:, : ring.shape[1]] = ring
    header["ring_used"] = ring.shape[1]
    header["ring_head"] = heads
    return fitted


def fit_shown(shown: np.ndarray, size: int) -> np.ndarray:
    """Remembered impressions, the newest `size` at most: `SHOWN_ENTRY`, shape (n, any)."""
    if shown.shape[1] <= size:
        return shown
    newest_first = np.argsort(-shown["time_s"].astype(np.int64), axis=1, kind="stable")
    return np.take_along_axis(shown, newest_first[:, :size], axis=1)


def fit_ring(
    ring: np.ndarray, head: NDArray[np.int64], size: int
) -> tuple[np.ndarray, NDArray[np.int64]]:
    """Decoded rings made to fit a ring of `size` entries: the newest ones stay.

    Parameters
    ----------
    ring : `RING_ENTRY`, shape (n, used)
    head : int64, shape (n,); where the next entry of each would go

    Returns
    -------
    The same for the new size.
    """
    used = ring.shape[1]
    if used in (0, size):
        return ring, head
    # Not full, or written with a ring of another size: oldest first.
    oldest_first = (head[:, None] % used + np.arange(used)) % used
    ring = np.take_along_axis(ring, oldest_first, axis=1)[:, max(used - size, 0) :]
    return ring, np.full_like(head, ring.shape[1] % size if size else 0)
