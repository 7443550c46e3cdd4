"""Fold events into user states. In: users, a micro-batch of their events. Out: what was a repeat.

A batch folds exactly like its events one by one, whatever the batch boundaries: events of one
user are taken in order, one a round, and every number of a state depends on that user alone.
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
from stream.core.users import FORGOTTEN, REPEATED, Noted, Users
from stream.core.wire import split

_MS_PER_S = 1000.0
_IMPRESSION = np.uint8(EventType.IMPRESSION)
_LAST_TYPE = max(EventType)


class Folded(NamedTuple):
    """What a fold did with each of its n events.

    Attributes
    ----------
    repeated : bool, shape (n,); dropped, since the user's ring holds the event_id already
    forgotten : bool, shape (n,); dropped, since it is older than the user's erasure
    unknown : bool, shape (n,); neither catalogue nor model knows the item
    items : uint64, shape (n,); `contracts.item_hash`
    """

    repeated: NDArray[np.bool_]
    forgotten: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    items: NDArray[np.uint64]


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
    types = events.types
    shown = types == _IMPRESSION  # in the ring it would crowd out what was done
    hashes = catalogue.hashes_of(events.items, rows)
    columns = (hashes, events.times_ms, events.event_hashes, types, ~shown, events.amounts)
    noted = users.note(who, *columns, _ads(users, catalogue, rows, shown))
    for at in rounds(noted):
        states = users.vectors[who[at]]
        gaps_s = noted.gaps_s[at]
        following = model.update(states, rows[at], types[at].astype(np.int64), gaps_s)
        users.set_vectors(who[at], following)
    return Folded(noted.rank == REPEATED, noted.rank == FORGOTTEN, rows == NO_ITEM, hashes)


def _ads(
    users: Users, catalogue: Catalogue, rows: NDArray[np.int64], shown: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Which events are impressions of items with a bid; None where nobody remembers them."""
    if not users.layout.shown:
        return None
    ads: NDArray[np.bool_] = shown & np.isfinite(catalogue.attributes.full_bids[rows])
    return ads


def rounds(noted: Noted) -> list[NDArray[np.int64]]:
    """Positions of the events by round: round r has each user's r-th new event."""
    rank = noted.rank
    if len(rank) == noted.dropped:
        return []
    if noted.deepest == 0 and noted.dropped == 0:
        return [np.arange(len(rank))]
    by_rank = np.argsort(rank, kind="stable")[noted.dropped :]
    counts = np.bincount(rank[by_rank])
    return np.split(by_rank, np.cumsum(counts)[:-1])


def rebuild(model: Model, catalogue: Catalogue, users: Users, who: NDArray[np.int64]) -> None:
    """Fold the rings of these users anew: their states come from another model.

    Parameters
    ----------
    who : int64, distinct
    """
    users.set_vectors(who, np.zeros((len(who), users.layout.state_size), np.float32))
    users.model[who] = users.layout.model
    newest_first = users.ring_order(who, users.layout.ring)
    used = users.headers["ring_used"][who]
    newest_ms = np.zeros(len(who), np.int64)  # of the interactions folded so far
    for back in range(int(used.max(initial=0)) - 1, -1, -1):
        have = np.flatnonzero(used > back)
        entries = users.ring[who[have], newest_first[have, back]]
        items, types = split(entries)
        known = types <= _LAST_TYPE  # a later version may have added some
        have, entries, items, types = have[known], entries[known], items[known], types[known]
        times_ms = entries["time_s"].astype(np.int64) * 1000
        before_ms = newest_ms[have]
        gaps_s = np.where(before_ms == 0, 0.0, (times_ms - before_ms) / _MS_PER_S)
        following = model.update(
            users.vectors[who[have]],
            catalogue.rows_of_hashes(items),
            types.astype(np.int64),
            gaps_s.astype(np.float32),
        )
        users.set_vectors(who[have], following)
        newest_ms[have] = np.maximum(before_ms, times_ms)
    users.newest_ms[who] = np.maximum(newest_ms, users.newest_ms[who])
