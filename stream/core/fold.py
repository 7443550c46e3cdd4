"""Fold events into user states. In: a shard, a micro-batch of events. Out: which users changed.

A batch folds exactly like its events one by one, whatever the batch boundaries: events of one
user are taken in order, one round a rank, and every number of a state depends on that user alone.
Knows nothing of lists or Kafka.

Times are event times. A late event (older than the newest that its user's state has seen) is
folded too: its `gap_s` is negative, and the model gives it the weight it would have by now
(`decay`) or treats it as simultaneous (models that depend on order). The newest event time never
goes back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Events, EventType
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.state import Slots, UserShard

_MS_PER_S = 1000.0


class Folded(NamedTuple):
    """What a fold did.

    Attributes
    ----------
    repeated : events dropped because the user's ring holds their event_id already
    unknown_items : events whose item neither catalogue nor model knows
    """

    repeated: int
    unknown_items: int


class _Columns(NamedTuple):
    """Events of distinct users (one round), or all events of a batch, as columns of one length."""

    slots: Slots
    rows: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    types: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    event_hashes: NDArray[np.uint32]

    def take(self, at: NDArray[np.int64] | NDArray[np.bool_]) -> _Columns:
        """The events at these positions."""
        return _Columns(*(column[at] for column in self))  # type: ignore[arg-type]


def fold(
    model: Model, catalogue: Catalogue, shard: UserShard, slots: Slots, events: Events
) -> Folded:
    """Fold a micro-batch into its users' states, in place.

    Parameters
    ----------
    slots : int64, shape (n,); the user's slot of each event, `shard.slots(events.users)`
    """
    rows = catalogue.rows(events.items)
    hashes = catalogue.hashes_of(events.items, rows)
    columns = _Columns(slots, rows, hashes, events.types, events.times_ms, events.event_hashes)
    stale = slots[shard.model[slots] != shard.layout.model]
    if len(stale):
        rebuild(model, catalogue, shard, np.unique(stale))
    repeated = sum(_fold_round(model, shard, columns.take(at)) for at in rounds(slots))
    return Folded(repeated, int((rows == NO_ITEM).sum()))


def rounds(slots: Slots) -> list[NDArray[np.int64]]:
    """Positions grouped into rounds: round r holds each user's r-th event of the batch."""
    if len(slots) < 2:
        return [np.zeros(1, np.int64)] * len(slots)
    by_user = np.argsort(slots, kind="stable")
    users = slots[by_user]
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    if len(starts) == len(users):
        return [by_user]
    rank = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    by_rank = np.argsort(rank, kind="stable")
    return np.split(by_user[by_rank], np.cumsum(np.bincount(rank))[:-1])


def _fold_round(model: Model, shard: UserShard, events: _Columns) -> int:
    """Fold events of distinct users; answers how many were repeats."""
    repeat = _repeats(shard, events)
    repeats = int(repeat.sum())
    if repeats:
        events = events.take(~repeat)
        if len(events.slots) == 0:
            return repeats
    _step(model, shard, events)
    shard.events[events.slots] += 1
    kept = events.types != EventType.IMPRESSION  # what was only shown would crowd the ring out
    if not kept.all():
        events = events.take(kept)
    shard.remember(events.slots, events.hashes, events.times_ms, events.event_hashes, events.types)
    return repeats


def _repeats(shard: UserShard, events: _Columns) -> NDArray[np.bool_]:
    """Events whose event_id and item stand in their user's ring."""
    repeat = np.zeros(len(events.slots), np.bool_)
    named = np.flatnonzero((events.event_hashes != 0) & (shard.ring_used[events.slots] != 0))
    if len(named):
        slots = events.slots[named]
        same = shard.ring_event[slots] == events.event_hashes[named, None]
        some = np.flatnonzero(same.any(axis=1))
        if len(
            some
        ):  # 32 bits of an event_id may collide; with the item's 64 beside it they do not
            items = shard.ring_item[slots[some]] == events.hashes[named[some], None]
            repeat[named[some]] = (same[some] & items).any(axis=1)
    return repeat


def _step(model: Model, shard: UserShard, events: _Columns) -> None:
    """One model update for distinct users."""
    newest_ms = shard.newest_ms[events.slots]
    gaps_s = np.where(newest_ms == 0, 0.0, (events.times_ms - newest_ms) / _MS_PER_S)
    shard.set_vectors(
        events.slots,
        model.update(
            shard.vectors(events.slots),
            events.rows,
            events.types.astype(np.int64),
            gaps_s.astype(np.float32),
        ),
    )
    shard.newest_ms[events.slots] = np.maximum(newest_ms, events.times_ms)


def rebuild(model: Model, catalogue: Catalogue, shard: UserShard, slots: Slots) -> None:
    """Fold the rings of these users anew: their states come from another model.

    Parameters
    ----------
    slots : int64, distinct
    """
    shard.set_vectors(slots, np.zeros((len(slots), shard.layout.state_size), np.float32))
    newest_ms = shard.newest_ms[slots].copy()
    shard.newest_ms[slots] = 0
    shard.model[slots] = shard.layout.model
    newest_first = shard.ring_order(slots, shard.layout.ring)
    used = shard.ring_used[slots].astype(np.int64)
    for back in range(int(used.max(initial=0)) - 1, -1, -1):
        have = used > back
        at, who = newest_first[have, back], slots[have]
        hashes = shard.ring_item[who, at]
        _step(
            model,
            shard,
            _Columns(
                who,
                catalogue.rows_of_hashes(hashes),
                hashes,
                shard.ring_type[who, at],
                shard.ring_time_s[who, at].astype(np.int64) * 1000,
                shard.ring_event[who, at],
            ),
        )
    shard.newest_ms[slots] = np.maximum(newest_ms, shard.newest_ms[slots])
