"""The interest states of one partition's users.

In: user keys, changelog values. Out: copies of users' rows, and back. Knows nothing of models or
items beyond sizes, and nothing of Kafka.

A user is one row of bytes, laid out as on the wire (`wire.py`), so that recovery, the gathering of
a micro-batch's users and their changelog values are copies of whole rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.contracts import partitions_of
from stream.core.keys import Kind, kind_of
from stream.core.lifecycle import Lifecycle, Limits, leave_at_most
from stream.core.marks import Marks, Record
from stream.core.quality.memory import Memory
from stream.core.resizing import fit_states
from stream.core.rows import Rows
from stream.core.standing import Standing
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import KeyedRows
from stream.core.statistics.segments import SegmentCounts
from stream.core.user_keys import UserKeys
from stream.core.wire import MISROUTED, UNFLAGGED, Layout, decode_values, shape_of

Slots = NDArray[np.int64]


class UserShard:
    """All user states of one partition.

    A user has a slot, a row below. Slots are dense; the slot of a user that leaves is taken by the
    last one.

    Parameters
    ----------
    limits : when users leave

    Attributes
    ----------
    layout : sizes of a state
    counts, segments : of items, and rewards of exploring; of no user, so who leaves changes
        nothing
    keys : user key of each slot, and the slot of each key
    marks : who was forgotten, and since when
    newest_ms : newest event time of the partition's users
    shown : their newest lists, and those named last; forgotten with them
    standing : their newest lists as they were sent
    """

    def __init__(
        self, layout: Layout, partition: int = 0, partitions: int = 1, limits: Limits | None = None
    ) -> None:
        self.layout = layout
        self.counts = Counts()
        self.segments = SegmentCounts()
        self.shown = Memory()
        self.standing = Standing()
        self._partition = partition
        self._partitions = partitions
        self.keys = UserKeys()
        self.marks = Marks()
        self.newest_ms = 0
        self._rows = Rows(layout.max_bytes)  # a row is one `layout.full`
        self._blank = np.frombuffer(layout.blank, np.uint8)
        self._lifecycle = Lifecycle(
            limits or Limits(), lambda slots: self._headers(slots)["newest_ms"]
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use, and of keys with their index."""
        return len(self.keys) * self.layout.max_bytes + self.keys.nbytes

    # -- slots -----------------------------------------------------------------------------

    def slots(self, keys: Sequence[bytes], ids: Sequence[bytes] | None = None) -> Slots:
        """Slots of the users, creating those never seen: int64, shape (len(keys),).

        Parameters
        ----------
        ids : user ids, by which records are partitioned, where they are not the keys
        """
        slots, new = self._slots(keys)
        if new:
            ids = ids or keys
            self._welcome([ids[position] for position in new])
        return slots

    def _slots(self, keys: Sequence[bytes]) -> tuple[Slots, list[int]]:
        """Slots of the users, and the positions of those whose rows are not prepared yet."""
        users = len(self.keys)
        slots = self.keys.find_or_add(keys)
        if len(self.keys) == users:
            return slots, []
        self._rows.reserve(len(self.keys))
        return slots, np.unique(slots, return_index=True)[1][users - len(self.keys) :].tolist()

    def find(self, key: bytes) -> int | None:
        """The user's slot, or None for a user never seen."""
        slot = int(self.keys.find([key])[0])
        return None if slot < 0 else slot

    def unknown(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of the keys belong to no user."""
        return {keys[at] for at in np.flatnonzero(self.keys.find(keys) < 0).tolist()}

    def _welcome(self, ids: list[bytes]) -> None:
        """Prepare the rows of the users that came last, by their ids."""
        users = len(self.keys)
        new = slice(users - len(ids), users)
        self._rows.bytes[new] = self._blank
        headers = self._headers(new)
        headers["flags"] = self._flags(ids)
        if len(self.marks):
            headers["erased_ms"] = [self.marks.erased_ms(key) for key in self.keys[new]]

    def astray(self, ids: Sequence[bytes]) -> NDArray[np.bool_]:
        """Which users belong to another partition by their ids: bool, shape (len(ids),)."""
        elsewhere: NDArray[np.bool_] = partitions_of(ids, self._partitions) != self._partition
        return elsewhere

    def _flags(self, ids: Sequence[bytes]) -> NDArray[np.uint8]:
        return np.where(self.astray(ids), np.uint8(MISROUTED), np.uint8(0))

    def _headers(self, slots: slice) -> np.ndarray:
        """A view of `HEADER`s; let go of it before the shard grows."""
        return self._rows.bytes[slots].view(self.layout.full)[:, 0]["header"]

    def forget(self, keys: Sequence[bytes]) -> list[bytes]:
        """Remove users; answers those that were here."""
        last, rows = len(self.keys), self._rows.bytes
        gone = []
        for key, slot in zip(keys, self.keys.remove(keys).tolist(), strict=True):
            if slot >= 0:
                last -= 1
                self.shown.forget(key)
                self.standing.leave(slot, last)
                rows[slot] = rows[last]
                rows[last] = 0
                gone.append(key)
        return gone

    # -- rows ------------------------------------------------------------------------------

    def gather(self, slots: Slots) -> NDArray[np.uint8]:
        """A copy of the users' rows: uint8, shape (len(slots), layout.max_bytes)."""
        return self._rows.bytes.take(slots, axis=0)

    def look(self, keys: Sequence[bytes]) -> NDArray[np.uint8]:
        """Copies of users' rows that make nobody: a user never seen has a blank one.

        uint8, shape (len(keys), layout.max_bytes).
        """
        slots = self.keys.find(keys)
        known = slots >= 0
        rows = np.tile(self._blank, (len(keys), 1))
        rows[known] = self._rows.bytes[slots[known]]
        return rows

    def rings(self, most: int) -> np.ndarray:
        """Last interactions of the newest users, `most` at most: `RING_ENTRY`, shape (n, ring).

        A view; let go of it before the shard grows.
        """
        users = len(self.keys)
        rows = self._rows.bytes[max(users - most, 0) : users]
        rings: np.ndarray = rows.view(self.layout.full)[:, 0]["ring"]
        return rings

    def scatter(self, slots: Slots, records: np.ndarray) -> None:
        """Put states back: `layout.full`, shape (len(slots),), contiguous; each slot once."""
        self._rows.bytes[slots] = _as_bytes(records)
        self._note_newest(records)

    def _note_newest(self, records: np.ndarray) -> None:
        if len(records):
            self.newest_ms = max(self.newest_ms, int(records["header"]["newest_ms"].max()))

    # -- leaving ---------------------------------------------------------------------------

    def erase(self, key: bytes, erased_ms: int) -> list[Record]:
        """Forget a user; events up to `erased_ms` do not bring the user back.

        Returns
        -------
        what the changelog must have: the tombstone, the mark
        """
        self.forget([key])
        self._lifecycle.forget(key)
        return [(key, None), *self.marks.add(key, erased_ms)]

    def leave(
        self, events: int, busy: Iterable[bytes], now_ms: int
    ) -> tuple[list[bytes], list[bytes]]:
        """Let the next few users go: the expired ones, and the least active beyond the limit.

        Who leaves depends on `now_ms`, so it is for the changelog to tell: a replay lets nobody go.

        Parameters
        ----------
        events : in this step, on which it depends how many are looked at
        busy : keys of the users that the step has to do with: they stay
        now_ms : wall-clock time, which an event from the future does not put forward for others

        Returns
        -------
        keys of the expired and of the evicted, no more than `leave_at_most(events)` in all
        """
        stay = set(busy)
        most = leave_at_most(events)
        lifecycle = self._lifecycle
        evicted = self.forget(lifecycle.evicted(self.keys, most, stay))
        most -= len(evicted)
        clock_ms = min(self.newest_ms, now_ms)
        expired = lifecycle.expired(self.keys, clock_ms, events, most, stay)
        return self.forget(expired), evicted

    # -- telling ---------------------------------------------------------------------------

    def untold(self, now_ms: int) -> KeyedRows | None:
        """What other workers should know by now of the partition's counts; None: nothing.

        Parameters
        ----------
        now_ms : wall-clock time
        """
        items = self.counts.untold(now_ms)
        segments = self.segments.untold(now_ms, self.counts.tell_every_ms)
        if items is None or segments is None:
            return items or segments
        return items[0] + segments[0], items[1] + segments[1]

    # -- wire ------------------------------------------------------------------------------

    def load(self, keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        """Take over changelog records in order; a later one replaces an earlier, None forgets.

        Raises
        ------
        StateError : a key or a value that this version cannot read
        """
        newest: dict[bytes, bytes | None] = dict(zip(keys, values, strict=True))
        by_shape: dict[tuple[int, bytes], list[tuple[bytes, bytes]]] = {}
        counts: dict[bytes, bytes | None] = {}
        segments: dict[bytes, bytes | None] = {}
        gone: list[bytes] = []
        for key, value in newest.items():
            kind = kind_of(key)
            if kind is Kind.ITEM:
                counts[key] = value
            elif kind is Kind.SEGMENTS:
                segments[key] = value
            elif kind is Kind.MARK:
                self.marks.load(key, value)
            elif value is None:
                gone.append(key)
            else:
                by_shape.setdefault(shape_of(value), []).append((key, value))
        if counts:
            self.counts.load(list(counts), list(counts.values()))
        self.segments.load(segments)
        self.forget(gone)
        for records in by_shape.values():
            self._load_alike([key for key, _ in records], [value for _, value in records])

    def _load_alike(self, keys: list[bytes], values: list[bytes]) -> None:
        """Load values of one shape."""
        decoded = decode_values(values)
        if values[0][0] == UNFLAGGED:
            decoded["header"]["flags"] = self._flags(keys)
        slots, _ = self._slots(keys)
        used = decoded["ring"].shape[1]
        unturned = used == self.layout.ring or (decoded["header"]["ring_head"] == used).all()
        layout = self.layout
        own = decoded.dtype == layout.wire(layout.vector, layout.state_size, used, layout.shown)
        if own and used <= self.layout.ring and unturned:
            end = decoded.dtype.itemsize  # rows of our own, cut after the ring's last used entry
            self._rows.bytes[slots, :end] = _as_bytes(decoded)
            self._rows.bytes[slots, end:] = 0
            self._note_newest(decoded)
        else:
            self.scatter(slots, fit_states(decoded, self.layout))


def _as_bytes(records: np.ndarray) -> NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
