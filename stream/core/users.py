"""The users of a micro-batch: a working copy of their states, taken out of one or more shards.

In: shards and user keys. Out: columns to fold into and to score, changelog values, and the states
back in their shards. Knows nothing of events, models or items beyond sizes, and nothing of Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.state import Slots, UserShard
from stream.core.wire import RING_ENTRY, Layout, cut_values, dequantise, quantise

# Which of the users: their numbers (int64, each once), or a slice of them.
Who = NDArray[np.int64] | slice
EVERYONE = slice(None)


class Users:
    """Distinct users, as columns with one row each; nothing reaches a shard before `store`.

    Attributes
    ----------
    keys : n user keys
    newest_ms : int64, shape (n,); newest event time seen, 0 before the first event
    events : uint32, shape (n,); events folded
    model : uint32, shape (n,); bundle version of the vector, 0 = must be rebuilt
    vectors : float32, shape (n, state_size); model states as stored; changed by `set_vectors`
    ring : `RING_ENTRY`, shape (n, ring); the last interactions, changed by `remember`
    ring_used, ring_head : int64, shape (n,); entries in use; where the next one goes
    misrouted : bool, shape (n,); the user's key belongs to another partition
    refused : states that were not finite and so not stored
    """

    def __init__(self, layout: Layout, parts: Sequence[tuple[UserShard, list[bytes]]]) -> None:
        """Gather the users of each shard, in the order of `parts`, creating those never seen."""
        self.layout = layout
        self.keys: list[bytes] = []
        self._homes: list[tuple[UserShard, Slots]] = []
        rows, misrouted = [], []
        for shard, keys in parts:
            slots = shard.slots(keys)
            self._homes.append((shard, slots))
            self.keys += keys
            rows.append(shard.gather(slots))
            misrouted.append(shard.misrouted[slots])
        self._rows = np.concatenate(rows).view(layout.full)[:, 0]
        self.misrouted = np.concatenate(misrouted)
        self.refused = 0
        header = self._rows["header"]
        self.newest_ms = header["newest_ms"].astype(np.int64)
        self.events = header["events"].astype(np.uint32)
        self.model = header["model"].astype(np.uint32)
        self.ring_used = header["ring_used"].astype(np.int64)
        self.ring_head = header["ring_head"].astype(np.int64)
        self.ring = self._rows["ring"]
        self._int8 = layout.storage == "int8"
        self._stored = self._rows["vector"]
        self._scale = header["scale"].astype(np.float32)
        self.vectors: NDArray[np.float32] = (
            dequantise(self._stored, self._scale) if self._int8 else self._stored.astype(np.float32)
        )

    @classmethod
    def of(cls, shard: UserShard, keys: list[bytes]) -> Users:
        """Users of one shard; each key once."""
        return cls(shard.layout, [(shard, keys)])

    def __len__(self) -> int:
        return len(self.keys)

    def set_vectors(self, who: Who, vectors: NDArray[np.float32]) -> None:
        """Store model states: float32, shape (len(who), state_size).

        With int8 storage they are rounded after every event, never once per batch: a state must
        not depend on how the events fell into batches. A vector that is not finite is not stored,
        since no event could mend it: its user keeps the old one, and `refused` counts it.
        """
        if not np.isfinite(vectors).all():
            who, vectors = self._finite(who, vectors)
        if self._int8:
            stored, scale = quantise(vectors)
            self._stored[who] = stored
            self._scale[who] = scale
            self.vectors[who] = dequantise(stored, scale)
        else:
            self.vectors[who] = self._stored[who] = vectors

    def _finite(
        self, who: Who, vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of finite vectors."""
        finite = np.asarray(np.isfinite(vectors).all(axis=1))
        self.refused += int((~finite).sum())
        return np.arange(len(self))[who][finite], vectors[finite]

    # -- ring ------------------------------------------------------------------------------

    def remember(self, who: Who, entries: np.ndarray) -> None:
        """Put one interaction of each user into the ring: `RING_ENTRY`, shape (len(who),)."""
        ring = self.layout.ring
        if ring == 0 or len(entries) == 0:
            return
        at = self.ring_head[who] % ring
        everyone = np.arange(len(self)) if isinstance(who, slice) else who
        self.ring[everyone, at] = entries
        self.ring_head[who] = (at + 1) % ring
        self.ring_used[who] = np.minimum(self.ring_used[who] + 1, ring)

    def ring_order(self, who: Who, newest: int) -> NDArray[np.int64]:
        """Ring positions from the newest interaction back.

        Returns
        -------
        int64, shape (len(who), min(newest, ring)); the first `ring_used` of a row are in use
        """
        ring = self.layout.ring
        back = np.arange(1, min(newest, ring) + 1)
        order: NDArray[np.int64] = (self.ring_head[who, None] - back) % max(ring, 1)
        return order

    # -- the way back ----------------------------------------------------------------------

    def store(self) -> list[bytes]:
        """Put the states back into their shards; answers the users' changelog values."""
        header = self._rows["header"]
        for name in ("newest_ms", "events", "model", "ring_used", "ring_head"):
            header[name] = getattr(self, name)
        header["scale"] = self._scale
        first = 0
        for shard, slots in self._homes:
            shard.scatter(slots, self._rows[first : first + len(slots)])
            first += len(slots)
        return cut_values(self._rows, self.layout)


def ring_entries(
    items: NDArray[np.uint64],
    times_ms: NDArray[np.int64],
    event_hashes: NDArray[np.uint32],
    types: NDArray[np.uint8],
) -> np.ndarray:
    """Interactions as entries of a ring: `RING_ENTRY`, shape (n,)."""
    entries = np.empty(len(items), RING_ENTRY)
    entries["item"] = items
    entries["time_s"] = times_ms // 1000
    entries["event"] = event_hashes
    entries["type"] = types
    return entries
