"""The interest states of one partition's users: layout in memory and on the wire.

In: user keys, changelog values. Out: columns to fold into, changelog values.
Knows nothing of models or items beyond sizes, and nothing of Kafka.

In memory a user's numbers are columns with one row per user, so that a micro-batch gathers just
what it needs; on the wire they are the bytes of `wire.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.contracts import partitions_of
from stream.core.wire import (
    LAYOUT,
    STORAGES,
    Layout,
    cut_values,
    decode_values,
    dequantise,
    fit_ring,
    quantise,
    shape_of,
)

log = logging.getLogger(__name__)

_FIRST_CAPACITY: Final = 1024

Slots = NDArray[np.int64]


class UserShard:
    """All user states of one partition.

    A user has a slot, the row of every column below. Slots are dense; a forgotten user's slot is
    taken by the last user.

    Attributes
    ----------
    keys : user key of each slot
    newest_ms : int64, shape (capacity,); newest event time seen, 0 before the first event
    events : uint32, shape (capacity,); events folded
    model : uint32, shape (capacity,); bundle version of the vector, 0 = must be rebuilt
    misrouted : bool, shape (capacity,); the user's key belongs to another partition
    ring_item : uint64, shape (capacity, ring); item hashes; likewise ring_time_s (uint32, event
        time), ring_event (uint32, event hash or 0) and ring_type (uint8, `EventType`)
    ring_used, ring_head : uint8, shape (capacity,); entries in use; where the next one goes
    refused_vectors : states that were not finite and so not stored
    """

    def __init__(self, layout: Layout, partition: int = 0, partitions: int = 1) -> None:
        self.layout = layout
        self._partition = partition
        self._partitions = partitions
        self._slot_by_key: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.refused_vectors = 0
        self._allocate(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes held by the columns; keys not counted."""
        return sum(getattr(self, name).nbytes for name in self._columns())

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
        """Prepare the columns of the users from slot `first_new` on."""
        users = len(self.keys)
        while users > len(self.newest_ms):
            self._grow()
        new = slice(first_new, users)
        self.model[new] = self.layout.model
        homes = partitions_of(self.keys[new], self._partitions)
        self.misrouted[new] = homes != self._partition

    def _forget(self, key: bytes) -> None:
        slot = self._slot_by_key.pop(key, None)
        if slot is None:
            return
        last = len(self.keys) - 1
        last_key = self.keys.pop()
        for name in self._columns():
            column = getattr(self, name)
            if slot != last:
                column[slot] = column[last]
            column[last] = 0
        if slot != last:
            self.keys[slot] = last_key
            self._slot_by_key[last_key] = slot

    # -- columns ---------------------------------------------------------------------------

    def _columns(self) -> dict[str, tuple[str, int | None]]:
        """Every column: name -> (dtype, numbers per user or None for one)."""
        ring = self.layout.ring
        return {
            "newest_ms": ("i8", None),
            "events": ("u4", None),
            "model": ("u4", None),
            "misrouted": ("?", None),
            "ring_used": ("u1", None),
            "ring_head": ("u1", None),
            "ring_item": ("u8", ring),
            "ring_time_s": ("u4", ring),
            "ring_event": ("u4", ring),
            "ring_type": ("u1", ring),
            "_scale": ("f4", None),
            "_vector": (self.layout.vector.str, self.layout.state_size),
        }

    def _allocate(self, capacity: int) -> None:
        self.newest_ms: NDArray[np.int64]
        self.events: NDArray[np.uint32]
        self.model: NDArray[np.uint32]
        self.misrouted: NDArray[np.bool_]
        self.ring_used: NDArray[np.uint8]
        self.ring_head: NDArray[np.uint8]
        self.ring_item: NDArray[np.uint64]
        self.ring_time_s: NDArray[np.uint32]
        self.ring_event: NDArray[np.uint32]
        self.ring_type: NDArray[np.uint8]
        self._scale: NDArray[np.float32]
        self._vector: NDArray[np.float32] | NDArray[np.int8]
        for name, (dtype, width) in self._columns().items():
            shape = capacity if width is None else (capacity, width)
            setattr(self, name, np.zeros(shape, dtype))

    def _grow(self) -> None:
        """Double the capacity."""
        capacity = len(self.newest_ms)
        for name in self._columns():
            old = getattr(self, name)
            new = np.zeros((2 * capacity, *old.shape[1:]), old.dtype)
            new[:capacity] = old
            setattr(self, name, new)

    # -- vectors ---------------------------------------------------------------------------

    def vectors(self, slots: Slots) -> NDArray[np.float32]:
        """Model states of the users: float32, shape (len(slots), state_size), a copy."""
        stored = self._vector[slots]
        if self.layout.storage == "float32":
            return stored  # type: ignore[return-value]
        return dequantise(stored, self._scale[slots])  # type: ignore[arg-type]

    def set_vectors(self, slots: Slots, vectors: NDArray[np.float32]) -> None:
        """Store model states; each slot at most once.

        With int8 storage they are rounded after every event, never once per batch: a state must
        not depend on how the events fell into batches. A vector that is not finite is not stored,
        since no event could mend it: its user keeps the old one, and `refused_vectors` counts it.
        """
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            if self.refused_vectors == 0:
                log.error("a state that is not finite came from the model; its user keeps the old")
            self.refused_vectors += int((~finite).sum())
            slots, vectors = slots[finite], vectors[finite]
        if self.layout.storage == "float32":
            self._vector[slots] = vectors
        else:
            self._vector[slots], self._scale[slots] = quantise(vectors)

    # -- ring ------------------------------------------------------------------------------

    def remember(
        self,
        slots: Slots,
        items: NDArray[np.uint64],
        times_ms: NDArray[np.int64],
        event_hashes: NDArray[np.uint32],
        types: NDArray[np.uint8],
    ) -> None:
        """Put one interaction of each user into the ring; each slot at most once."""
        ring = self.layout.ring
        if ring == 0 or len(slots) == 0:
            return
        head = self.ring_head[slots]
        at = head % ring
        self.ring_item[slots, at] = items
        self.ring_time_s[slots, at] = times_ms // 1000
        self.ring_event[slots, at] = event_hashes
        self.ring_type[slots, at] = types
        self.ring_head[slots] = (at + 1) % ring
        self.ring_used[slots] = np.minimum(self.ring_used[slots].astype(np.int64) + 1, ring)

    def ring_order(self, slots: Slots, newest: int) -> NDArray[np.int64]:
        """Ring positions from the newest interaction back.

        Returns
        -------
        int64, shape (len(slots), min(newest, ring)); the first `ring_used` of a row are in use
        """
        ring = self.layout.ring
        back = np.arange(1, min(newest, ring) + 1)
        return (self.ring_head[slots, None].astype(np.int64) - back) % max(ring, 1)

    # -- wire ------------------------------------------------------------------------------

    def encode(self, slots: Slots) -> list[bytes]:
        """Changelog values of the users."""
        layout = self.layout
        out = np.zeros(len(slots), layout.full)
        header = out["header"]
        header["layout"] = LAYOUT
        header["storage"] = STORAGES[layout.storage]
        header["state_size"] = layout.state_size
        header["ring_used"] = self.ring_used[slots]
        header["ring_head"] = self.ring_head[slots]
        header["model"] = self.model[slots]
        header["events"] = self.events[slots]
        header["newest_ms"] = self.newest_ms[slots]
        header["scale"] = self._scale[slots]
        out["vector"] = self._vector[slots]
        if layout.ring:
            ring = out["ring"]
            ring["item"] = self.ring_item[slots]
            ring["time_s"] = self.ring_time_s[slots]
            ring["event"] = self.ring_event[slots]
            ring["type"] = self.ring_type[slots]
        return cut_values(out, layout)

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
        header = decoded["header"]
        self.model[slots] = header["model"]
        self.events[slots] = header["events"]
        self.newest_ms[slots] = header["newest_ms"]
        if decoded["vector"].dtype == self._vector.dtype and (
            decoded["vector"].shape[1] == self.layout.state_size
        ):
            self._vector[slots] = decoded["vector"]
            self._scale[slots] = header["scale"]
        else:
            self.model[slots] = 0  # another model's state: rebuilt from the ring at the next event
        self._load_ring(slots, header, decoded["ring"])

    def _load_ring(self, slots: Slots, header: np.ndarray, ring: np.ndarray) -> None:
        ring, head = fit_ring(ring, header["ring_head"].astype(np.int64), self.layout.ring)
        kept = ring.shape[1]
        for column, field in (
            (self.ring_item, "item"),
            (self.ring_time_s, "time_s"),
            (self.ring_event, "event"),
            (self.ring_type, "type"),
        ):
            column[slots] = 0
            column[slots, :kept] = ring[field]
        self.ring_used[slots] = kept
        self.ring_head[slots] = head
