"""Small logs for tests. In: a few words an event. Out: `Log`s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.data.dataset import Log
from stream.contracts import EVENT_TYPES

BEGIN_MS = 1_700_000_000_000

# user, item, seconds after the begin, and if it is no click: type, quantity
Told = tuple[str, str, float] | tuple[str, str, float, str] | tuple[str, str, float, str, float]


def log_of(events: Sequence[Told], *, event_ids: Sequence[int] = ()) -> Log:
    """A log of these events; each user's are one session."""
    full = [(*event, *("click", 1.0)[len(event) - 3 :]) for event in events]
    order = sorted(range(len(full)), key=lambda at: full[at][2])
    full = [full[at] for at in order]
    users, items = ({event[at]: None for event in full} for at in (0, 1))
    user = np.array([list(users).index(event[0]) for event in full], np.int32)
    ids = [event_ids[at] for at in order] if event_ids else np.zeros(len(full))
    return Log(
        users=list(users),
        items=list(items),
        user=user,
        item=np.array([list(items).index(event[1]) for event in full], np.int32),
        event_type=np.array([EVENT_TYPES[event[3]] for event in full], np.uint8),
        time_ms=np.array([BEGIN_MS + int(event[2] * 1000) for event in full], np.int64),
        session=user.copy(),
        quantity=np.array([event[4] for event in full], np.float32),
        price=np.zeros(len(full), np.float32),
        titles={},
        event_hash=np.array(ids, np.uint32),
    )


def told(log: Log) -> list[tuple[str, str]]:
    """User and item of each event."""
    return [(log.users[u], log.items[i]) for u, i in zip(log.user, log.item, strict=True)]
