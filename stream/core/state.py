"""The interest states of one partition's users.

In: user keys, changelog values. Out: copies of users' rows, and back. Knows nothing of models or
items beyond sizes, and nothing of Kafka.

A user is one row of bytes, laid out as on the wire (`wire.py`), so that recovery, the gathering of
a micro-batch's users and their changelog values are copies of whole rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from stream.contracts import partitions_of
from stream.core.wire import Layout, decode_values, fit_ring, shape_of

_FIRST_CAPACITY: Final = 1024

Slots = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


class UserShard:
    """All user states of one partition.

    A user has a slot, a row below. Slots are dense; a forgotten user's slot is taken by the last
    user.

    Attributes
    ----------
    layout : sizes of a state
    keys : user key of each slot
    misrouted : bool, shape (capacity,); the user's key belongs to another partition
    """

    def __init__(self, layout: Layout, partition: int = 0, partitions: int = 1) -> None:
        self.layout = layout
        self._partition = partition
        self._partitions = partitions
        self._slot_by_key: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.misrouted = np.zeros(_FIRST_CAPACITY, np.bool_)
        # uint8, shape (capacity, layout.max_bytes); a row is one `layout.full`
        self._rows = np.zeros((_FIRST_CAPACITY, layout.max_bytes), np.uint8)
        self._blank = np.frombuffer(layout.blank, np.uint8)
        self._shape = shape_of(layout.blank)[1]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes held by the rows, those to come included (up to half); keys not counted."""
        return self._rows.nbytes + self.misrouted.nbytes

    # -- slots -----------------------------------------------------------------------------

    def slots(self, keys: Sequence[bytes]) -> Slots:
        """Slots of the users, creating those never seen: int64, shape (len(keys),)."""
        known = self._slot_by_key.get
        found = [known(key, -1) for key in keys]
        if -1 in found:
            first_new = len(self.keys)
            for position, key in enumerate(keys):
                if found[position] < 0:
                    found[position] = self._slot_by_key.setdefault(key, len(self.keys))
                    if found[position] == len(self.keys):
                        self.keys.append(key)
            self._welcome(first_new)
        return np.array(found, dtype=np.int64)

    def find(self, key: bytes) -> int | None:
        """The user's slot, or None for a user never seen."""
        return self._slot_by_key.get(key)

    def _welcome(self, first_new: int) -> None:
        """Prepare the rows of the users from slot `first_new` on."""
        users = len(self.keys)
        capacity = len(self._rows)
        if users > capacity:
            while users > capacity:
                capacity *= 2
            self._rows = _grown(self._rows, capacity)
            self.misrouted = _grown(self.misrouted, capacity)
        new = slice(first_new, users)
        self._rows[new] = self._blank
        homes = partitions_of(self.keys[new], self._partitions)
        self.misrouted[new] = homes != self._partition

    def _forget(self, key: bytes) -> None:
        slot = self._slot_by_key.pop(key, None)
        if slot is None:
            return
        last = len(self.keys) - 1
        last_key = self.keys.pop()
        if slot != last:
            self._rows[slot] = self._rows[last]
            self.misrouted[slot] = self.misrouted[last]
            self.keys[slot] = last_key
            self._slot_by_key[last_key] = slot
        self._rows[last] = 0

    # -- rows ------------------------------------------------------------------------------

    def gather(self, slots: Slots) -> NDArray[np.uint8]:
        """A copy of the users' rows: uint8, shape (len(slots), layout.max_bytes)."""
        return self._rows.take(slots, axis=0)

    def scatter(self, slots: Slots, records: np.ndarray) -> None:
        """Put states back: `layout.full`, shape (len(slots),), contiguous; each slot once."""
        self._rows[slots] = _as_bytes(records)

    # -- wire ------------------------------------------------------------------------------

    def load(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Take over changelog records in order; a later one replaces an earlier, None forgets.

        Raises
        ------
        StateError : a value has a layout that this version cannot read
        """
        newest: dict[bytes, bytes | None] = dict(zip(keys, values, strict=True))
        by_shape: dict[tuple[int, bytes], list[tuple[bytes, bytes]]] = {}
        for key, value in newest.items():
            if value is None:
                self._forget(key)
            else:
                by_shape.setdefault(shape_of(value), []).append((key, value))
        for records in by_shape.values():
            self._load_alike([key for key, _ in records], [value for _, value in records])

    def _load_alike(self, keys: list[bytes], values: list[bytes]) -> None:
        """Load values of one length, layout, storage and state size."""
        decoded = decode_values(values)
        slots = self.slots(keys)
        used = decoded["ring"].shape[1]
        unturned = used == self.layout.ring or (decoded["header"]["ring_head"] == used).all()
        if shape_of(values[0])[1] == self._shape and used <= self.layout.ring and unturned:
            end = len(values[0])  # rows of our own, cut after the last used entry of the ring
            self._rows[slots, :end] = _as_bytes(decoded)
            self._rows[slots, end:] = 0
        else:
            self.scatter(slots, self._fitted(decoded))

    def _fitted(self, decoded: np.ndarray) -> np.ndarray:
        """States written with other sizes, as our own: `layout.full`, shape (len(decoded),)."""
        fitted = np.frombuffer(self.layout.blank * len(decoded), self.layout.full).copy()
        header, written = fitted["header"], decoded["header"]
        for name in ("events", "newest_ms"):
            header[name] = written[name]
        if decoded["vector"].dtype == fitted["vector"].dtype and (
            decoded["vector"].shape == fitted["vector"].shape
        ):
            fitted["vector"] = decoded["vector"]
            for name in ("model", "scale"):
                header[name] = written[name]
        else:
            header["model"] = 0  # another model's state: rebuilt from the ring at the next event
        ring, heads = fit_ring(
            decoded["ring"], written["ring_head"].astype(np.int64), self.layout.ring
        )
        fitted["ring"][:, : ring.shape[1]] = ring
        header["ring_used"] = ring.shape[1]
        header["ring_head"] = heads
        return fitted


def _grown(column: NDArray[T], capacity: int) -> NDArray[T]:
    grown = np.zeros((capacity, *column.shape[1:]), column.dtype)
    grown[: len(column)] = column
    return grown


def _as_bytes(records: np.ndarray) -> NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
