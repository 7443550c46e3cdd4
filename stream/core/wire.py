"""A user's state as bytes: the changelog value.

In: structured rows, or values. Out: values, or structured rows. Knows nothing of slots,
models or Kafka.

    header (28 bytes)   layout, storage, state_size, ring_used, ring_head, 2 spare
                        bytes, model, events, newest_ms, scale
    vector              state_size x float32, or state_size x int8 to be multiplied by `scale`
    ring                ring_used x 17 bytes: item hash, event time, event hash, event type

Numbers are little-endian. The ring is cut after its last used entry, so a user of few events is
short.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.errors import StateError

LAYOUT: Final = 1
STORAGES: Final = {"float32": 0, "int8": 1}

HEADER: Final = np.dtype(
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
RING_ENTRY: Final = np.dtype([("item", "<u8"), ("time_s", "<u4"), ("event", "<u4"), ("type", "u1")])


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a user's state.

    Attributes
    ----------
    state_size : floats in the model's state
    storage : "float32", or "int8" with one scale per user
    ring : interactions remembered per user, 0..255
    model : version of the bundle whose state this is (`Bundle.version`)
    """

    state_size: int
    storage: str
    ring: int
    model: int

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
        return self.wire(self.vector, self.state_size, self.ring)

    @property
    def blank(self) -> bytes:
        """`full` of a user that was never seen."""
        row = np.zeros(1, self.full)
        row["header"]["layout"] = LAYOUT
        row["header"]["storage"] = STORAGES[self.storage]
        row["header"]["state_size"] = self.state_size
        row["header"]["model"] = self.model
        return row.tobytes()

    @staticmethod
    @cache
    def wire(vector: np.dtype[np.generic], state_size: int, ring: int) -> np.dtype[np.void]:
        """The changelog value with `ring` used entries, as a structured dtype."""
        return np.dtype(
            [("header", HEADER), ("vector", vector, state_size), ("ring", RING_ENTRY, ring)]
        )


def cut_values(rows: np.ndarray, layout: Layout) -> list[bytes]:
    """Structured rows of `Layout.wire`, full rings and all, as changelog values."""
    width = rows.dtype.itemsize
    unused = layout.ring - rows["header"]["ring_used"].astype(np.int64)
    ends = (np.arange(1, len(rows) + 1) * width - unused * RING_ENTRY.itemsize).tolist()
    whole = rows.tobytes()
    return [whole[number * width : end] for number, end in enumerate(ends)]


def shape_of(value: bytes) -> tuple[int, bytes]:
    """Values of one shape can be decoded together: length; layout, storage and state size."""
    return len(value), value[:4]


def decode_values(values: list[bytes]) -> np.ndarray:
    """Changelog values of one shape, as structured rows of `Layout.wire`.

    Raises
    ------
    StateError : the layout is unknown or the length does not fit it
    """
    first = values[0]
    if len(first) < HEADER.itemsize or first[0] != LAYOUT or first[1] not in STORAGES.values():
        raise StateError(
            f"the changelog holds a state of layout {first[0] if first else 'none'}; this version "
            f"reads layout {LAYOUT}. Run the version that wrote it, or start a new group to fold "
            "the events again."
        )
    header = np.frombuffer(first, HEADER, count=1)[0]
    vector = np.dtype("<f4" if header["storage"] == STORAGES["float32"] else "i1")
    ring = int(header["ring_used"])
    dtype = Layout.wire(vector, int(header["state_size"]), ring)
    if dtype.itemsize != len(first):
        raise StateError(
            f"the changelog holds a state of {len(first)} bytes where its header says "
            f"{dtype.itemsize}; the changelog topic was written by something else"
        )
    return np.frombuffer(b"".join(values), dtype)


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
