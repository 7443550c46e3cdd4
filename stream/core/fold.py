"""Fold events into user states. In: users, a micro-batch of their events. Out: what was a repeat.

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
from stream.core.users import EVERYONE, Users, Who, ring_entries

_MS_PER_S = 1000.0


class Folded(NamedTuple):
    """What a fold did with each of its n events.

    Attributes
    ----------
    repeated : bool, shape (n,); dropped, since the user's ring holds the event_id already
    unknown : bool, shape (n,); neither catalogue nor model knows the item
    """

    repeated: NDArray[np.bool_]
    unknown: NDArray[np.bool_]


class _Columns(NamedTuple):
    """Events as columns of one length: what the model takes, and what the ring keeps."""

    rows: NDArray[np.int64]
    types: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    entries: np.ndarray

    def take(self, at: NDArray[np.int64] | NDArray[np.bool_]) -> _Columns:
        """The events at these positions."""
        return _Columns(*(column[at] for column in self))


def fold(
    model: Model, catalogue: Catalogue, users: Users, who: NDArray[np.int64], events: Events
) -> Folded:
    """Fold a micro-batch into its users' states, in place.

    Parameters
    ----------
    catalogue : only read
    who : int64, shape (n,); number in `users` of each event's user, which may have several
    """
    rows = catalogue.rows(events.items)
    hashes = catalogue.hashes_of(events.items, rows)
    entries = ring_entries(hashes, events.times_ms, events.event_hashes, events.types)
    columns = _Columns(rows, events.types.astype(np.int64), events.times_ms, entries)
    repeated = np.zeros(len(who), np.bool_)
    for at in rounds(who):
        # Where every user has an event the round needs no gathering.
        everyone = len(at) == len(users)
        repeats = _fold_round(model, users, EVERYONE if everyone else who[at], columns.take(at))
        if repeats is not None:
            repeated[at] = repeats
    return Folded(repeated, rows == NO_ITEM)


def rounds(who: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Group the positions of `who`: round r holds each user's r-th event, in the users' order."""
    if len(who) == 0:
        return []
    by_user = np.argsort(who, kind="stable")
    ordered = who[by_user]
    first = np.empty(len(who), np.bool_)
    first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    if first.all():
        return [by_user]
    starts = np.flatnonzero(first)
    rank = np.arange(len(who)) - np.repeat(starts, np.diff(np.append(starts, len(who))))
    by_rank = np.argsort(rank, kind="stable")
    return np.split(by_user[by_rank], np.cumsum(np.bincount(rank))[:-1])


def _fold_round(model: Model, users: Users, who: Who, events: _Columns) -> NDArray[np.bool_] | None:
    """Fold events of distinct users; answers which were repeats, None for none."""
    repeats = _repeats(users, who, events.entries)
    if repeats is not None:
        who, events = np.arange(len(users))[who][~repeats], events.take(~repeats)
        if len(events.rows) == 0:
            return repeats
    _step(model, users, who, events)
    users.events[who] += np.uint32(1)
    shown = events.types == EventType.IMPRESSION  # in the ring it would crowd out what was done
    if shown.any():
        users.remember(np.arange(len(users))[who][~shown], events.entries[~shown])
    else:
        users.remember(who, events.entries)
    return repeats


def _repeats(users: Users, who: Who, entries: np.ndarray) -> NDArray[np.bool_] | None:
    """Events whose event_id and item stand in their user's ring; None when none does."""
    ids = entries["event"][:, None]
    same = (users.ring["event"][who] == ids) & (ids != 0)
    if not same.any():
        return None
    # 32 bits of an event_id may collide; with the item's 64 beside it they do not. What lies
    # behind the used part of a ring is zeros, which no id is.
    same &= users.ring["item"][who] == entries["item"][:, None]
    repeats: NDArray[np.bool_] = same.any(axis=1)
    return repeats if repeats.any() else None


def _step(model: Model, users: Users, who: Who, events: _Columns) -> None:
    """One model update for distinct users."""
    newest_ms = users.newest_ms[who]
    gaps_s = ((events.times_ms - newest_ms) / _MS_PER_S).astype(np.float32)
    gaps_s[newest_ms == 0] = 0.0
    following = model.update(users.vectors[who], events.rows, events.types, gaps_s)
    users.set_vectors(who, following)
    users.newest_ms[who] = np.maximum(newest_ms, events.times_ms)


def rebuild(model: Model, catalogue: Catalogue, users: Users, who: NDArray[np.int64]) -> None:
    """Fold the rings of these users anew: their states come from another model.

    Parameters
    ----------
    who : int64, distinct
    """
    users.set_vectors(who, np.zeros((len(who), users.layout.state_size), np.float32))
    newest_ms = users.newest_ms[who].copy()
    users.newest_ms[who] = 0
    users.model[who] = users.layout.model
    newest_first = users.ring_order(who, users.layout.ring)
    used = users.ring_used[who]
    for back in range(int(used.max(initial=0)) - 1, -1, -1):
        have = used > back
        entries = users.ring[who[have], newest_first[have, back]]
        columns = _Columns(
            catalogue.rows_of_hashes(np.ascontiguousarray(entries["item"])),
            entries["type"].astype(np.int64),
            entries["time_s"].astype(np.int64) * 1000,
            entries,
        )
        _step(model, users, who[have], columns)
    users.newest_ms[who] = np.maximum(newest_ms, users.newest_ms[who])
