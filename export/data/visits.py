"""Events to visits and moments. In: columns in time order. Out: the number of each event's session,
or one event of each moment (what a user does at one time).

Must not know: logs, models.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from export.data.columns import AnyColumn, Int64, blocks, changes_where

SESSION_GAP_MS: Final = 30 * 60_000  # events of a user closer than this belong together


def number_sessions(user: AnyColumn, time_ms: AnyColumn, given: AnyColumn) -> AnyColumn:
    """Number the visits in the order of their first events.

    Parameters
    ----------
    user : int32, shape (n,); of events in time order
    time_ms : int64, shape (n,)
    given : uint64, shape (n,); a hash of the session's id, which is one user's: two users may both
        have "1". 0 where the event names none: then a pause of `SESSION_GAP_MS` ends the visit.

    Returns
    -------
    int32, shape (n,)
    """
    order = np.lexsort((given, user))  # stable, so in time order within a session

    def another(here: Int64, before: Int64) -> npt.NDArray[np.bool_]:
        paused = (given[here] == 0) & (time_ms[here] - time_ms[before] > SESSION_GAP_MS)
        changed: npt.NDArray[np.bool_] = user[here] != user[before]
        changed |= (given[here] != given[before]) | paused
        return changed

    starts = changes_where(order, another)
    rank = np.empty(int(starts.sum()), np.int32)
    rank[np.argsort(order[starts])] = np.arange(len(rank), dtype=np.int32)
    session = np.empty(len(order), np.int32)
    group = -1
    for some in blocks(len(order)):
        groups = group + np.cumsum(starts[some])
        session[order[some]] = rank[groups]
        group = int(groups[-1])
    return session


def one_a_moment(events: Int64, begins: Int64, rng: np.random.Generator) -> Int64:
    """One event of each moment, the moments in random order.

    Parameters
    ----------
    events : int64, shape (n,); positions that may be drawn
    begins : int64; of each position, where its moment begins
    """
    drawn = rng.permutation(events)
    return drawn[np.sort(np.unique(begins[drawn], return_index=True)[1])]
