"""After how long items are bought again. In: a log. Out: seconds by row of a bundle.

Of an item that many of its buyers buy again, the median time between two purchases of one user.
Lines of one order are one purchase. Who bought once may yet come back, so the times are those of
users who did within the log.

Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from export.data.dataset import Log
from stream.contracts import EventType

LEAST_TIMES: Final = 5  # between purchases of an item
LEAST_USERS: Final = 3  # who bought it again
LEAST_SHARE: Final = 0.2  # of its buyers
ONE_ORDER_S: Final = 3600.0


def repurchase_s(log: Log, item_ids: Sequence[str]) -> npt.NDArray[np.float32]:
    """Seconds until an item is bought again, 0 where it is not: float32, shape (len(item_ids),)."""
    bought = np.flatnonzero(np.asarray(log.event_type) == EventType.PURCHASE)
    user, item = (np.asarray(of)[bought].astype(np.int64) for of in (log.user, log.item))
    time_s = np.asarray(log.time_ms)[bought] / 1000.0
    order = np.lexsort((time_s, user, item))
    user, item, time_s = user[order], item[order], time_s[order]
    gaps_s = np.diff(time_s)
    again = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    later = np.flatnonzero(again & (gaps_s >= ONE_ORDER_S))
    buyers = np.bincount(item[np.flatnonzero(np.append(True, ~again))[: len(item)]], minlength=1)
    found = np.zeros(len(item_ids), np.float32)
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    by_item = np.split(later, np.flatnonzero(np.diff(item[later + 1])) + 1) if len(later) else []
    for some in by_item:
        code = int(item[some[0] + 1])
        returned = len(np.unique(user[some + 1]))
        row = row_of.get(log.items[code], 0)
        enough = len(some) >= LEAST_TIMES and returned >= LEAST_USERS
        if row and enough and returned >= LEAST_SHARE * buyers[code]:
            found[row] = np.median(gaps_s[some])
    return found
