"""The users of a micro-batch: a working copy of their states, taken out of one or more shards.

In: shards and user keys. Out: columns to fold into and to score, changelog values, and the states
back in their shards. Knows nothing of models, of the catalogue or of Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.core.noting import note_events
from stream.core.state import Slots, UserShard
from stream.core.vectors import read_int8, store_as_float32, store_as_int8
from stream.core.wire import HEADER, MISROUTED, Layout, cut_values

# Which of the users: their numbers (int64, each once), or a slice of them.
Who = NDArray[np.int64] | slice
EVERYONE = slice(None)

# Ranks of events that change nothing.
REPEATED = -1  # its event_id and item stand in the user's ring
FORGOTTEN = -2  # from before the user's erasure


class Noted(NamedTuple):
    """What `Users.note` found out about n events.

    Attributes
    ----------
    rank : int64, shape (n,); how many of its user's events come before it; REPEATED or FORGOTTEN
        for one that changes nothing
    gaps_s : float32, shape (n,); event time minus the newest one before it, 0 for a first event
    dropped : events that change nothing
    deepest : the largest rank
    """

    rank: NDArray[np.int64]
    gaps_s: NDArray[np.float32]
    dropped: int
    deepest: int


class Users:
    """Distinct users, as rows of bytes and views of them; nothing reaches a shard before `store`.

    Attributes
    ----------
    ids : n user ids, as their events have them
    keys : n user keys, under which states are kept: the ids, or their pseudonyms
    headers : `HEADER`, shape (n,); newest event time, count of events, version of the vector's
        bundle, state of the ring
    ring : `RING_ENTRY`, shape (n, ring); the last interactions
    shown : `SHOWN_ENTRY`, shape (n, impressions); of ads, the newest, in no order
    vectors : float32, shape (n, state_size); model states as stored; changed by `set_vectors`
    refused : states that were not finite and so not stored
    """

    def __init__(
        self, layout: Layout, parts: Sequence[tuple[UserShard, list[bytes], list[bytes]]]
    ) -> None:
        """Gather the users of each shard, in the order of `parts`, creating those never seen.

        Parameters
        ----------
        parts : shard, ids and keys of its users
        """
        self._homes: list[tuple[UserShard, Slots]] = []
        all_ids: list[bytes] = []
        all_keys: list[bytes] = []
        rows = []
        for shard, ids, keys in parts:
            slots = shard.slots(keys, ids)
            self._homes.append((shard, slots))
            all_ids += ids
            all_keys += keys
            rows.append(shard.gather(slots))
        self._open(layout, np.concatenate(rows), all_ids, all_keys)

    def _open(
        self, layout: Layout, rows: NDArray[np.uint8], ids: list[bytes], keys: list[bytes]
    ) -> None:
        """Take rows of bytes, shape (n, layout.max_bytes), for those of these users."""
        self.layout = layout
        self.ids, self.keys = ids, keys
        self._rows = rows.view(layout.full)[:, 0]
        self.refused = 0
        self.headers = self._rows["header"]
        self.ring = self._rows["ring"]
        self.shown = self._rows["shown"]
        self._int8 = layout.storage == "int8"
        self._stored = self._rows["vector"]
        self.vectors = np.empty(self._stored.shape, np.float32)
        if self._int8:
            read_int8(self._stored, self.headers, self.vectors)
        else:
            self.vectors[:] = self._stored

    @classmethod
    def of(cls, shard: UserShard, keys: list[bytes]) -> Users:
        """Users of one shard; each key once."""
        return cls(shard.layout, [(shard, keys, keys)])

    @classmethod
    def of_rows(
        cls, layout: Layout, rows: NDArray[np.uint8], ids: list[bytes], keys: list[bytes]
    ) -> Users:
        """Users to look at, from copies of their rows: they have no shard to go back to.

        A user may be among them several times.

        Parameters
        ----------
        rows : uint8, shape (n, layout.max_bytes), contiguous; changed by what is done to the users
        """
        users = cls.__new__(cls)
        users._homes = []
        users._open(layout, rows, ids, keys)
        return users

    def __len__(self) -> int:
        return len(self.keys)

    def numbers(self, who: Who) -> NDArray[np.int64]:
        """The numbers of these users: int64."""
        return np.arange(*who.indices(len(self))) if isinstance(who, slice) else who

    @property
    def rows(self) -> NDArray[np.uint8]:
        """uint8, shape (n, layout.max_bytes). The users as bytes; a view."""
        return self._rows.view(np.uint8).reshape(len(self._rows), self.layout.max_bytes)

    @property
    def newest_ms(self) -> NDArray[np.int64]:
        """int64, shape (n,); newest event time seen, 0 before the first event. A view."""
        return self.headers["newest_ms"]

    @property
    def misrouted(self) -> NDArray[np.bool_]:
        """bool, shape (n,); the user's id belongs to another partition."""
        astray: NDArray[np.bool_] = self.headers["flags"] & MISROUTED != 0
        return astray

    @property
    def model(self) -> NDArray[np.uint32]:
        """uint32, shape (n,); bundle version of the vector, 0 = must be rebuilt. A view."""
        return self.headers["model"]

    def set_vectors(self, who: Who, vectors: NDArray[np.float32]) -> None:
        """Store model states: float32, shape (len(who), state_size).

        With int8 storage they are rounded after every event, never once per batch: a state must
        not depend on how the events fell into batches. A vector that is not finite is not stored,
        since no event could mend it: its user keeps the old one, and `refused` counts it.
        """
        numbers = self.numbers(who)
        if self._int8:
            refused = store_as_int8(numbers, vectors, self._stored, self.headers, self.vectors)
        else:
            refused = store_as_float32(numbers, vectors, self._stored, self.vectors)
        self.refused += refused

    def note(
        self,
        who: NDArray[np.int64],
        items: NDArray[np.uint64],
        times_ms: NDArray[np.int64],
        event_hashes: NDArray[np.uint32],
        types: NDArray[np.uint8],
        remembered: NDArray[np.bool_],
        amounts: NDArray[np.float64],
        ads: NDArray[np.bool_] | None = None,
    ) -> Noted:
        """Note events in order: newest time, counts, ring. All of a fold but the model's part.

        An event whose event_id and item stand in its user's ring, or among the impressions of ads,
        is a repeat and changes nothing; neither does one from before its user's erasure.

        Parameters
        ----------
        who : number of each event's user, n of them as in all columns; a user may have several
        items, event_hashes : `contracts.item_hash`, `contracts.event_hash`
        types : `EventType`
        remembered : which ones go into the ring
        amounts : what was paid, of a purchase, or paid back
        ads : which ones are impressions to be remembered; None: none is
        """
        rank = np.empty(len(who), np.int64)
        gaps_s = np.empty(len(who), np.float32)
        if ads is None:
            ads = np.zeros(len(who), np.bool_)
        columns = (items, times_ms, event_hashes, types, remembered, amounts, ads)
        found = note_events(who, *columns, self.headers, self.ring, self.shown, rank, gaps_s)
        return Noted(rank, gaps_s, *found)

    def ring_order(self, who: Who, newest: int) -> NDArray[np.int64]:
        """Ring positions from the newest interaction back.

        Returns
        -------
        int64, shape (len(who), min(newest, ring)); the first `ring_used` of a row are in use
        """
        numbers = self.numbers(who)
        order = np.empty((len(numbers), min(newest, self.layout.ring)), np.int64)
        _order_rings(numbers, self.headers, self.layout.ring, order)
        return order

    # -- the way back ----------------------------------------------------------------------

    def store(self) -> list[bytes]:
        """Put the states back into their shards; answers the users' changelog values."""
        first = 0
        for shard, slots in self._homes:
            shard.scatter(slots, self._rows[first : first + len(slots)])
            first += len(slots)
        return cut_values(self._rows, self.layout)


@compiled(NOTHING, array("i8"), array(HEADER), INT, array("i8", 2, written=True))
def _order_rings(
    who: NDArray[np.int64], headers: np.ndarray, size: int, order: NDArray[np.int64]
) -> None:
    """`Users.ring_order`, into `order`."""
    for number in range(len(who)):
        head = np.int64(headers[who[number]]["ring_head"])
        for back in range(order.shape[1]):
            order[number, back] = (head - 1 - back) % size
