"""Small logs with something to learn: visitors who walk through a theme in its order."""

from __future__ import annotations

import numpy as np

from export.data.dataset import Log
from export.models.base import HeldOut
from stream.contracts import EventType

THEMES, ITEMS = 12, 10
SMALL = {"members": 1, "query": False, "dim": 32, "state": 32, "hidden": 64, "batch": 256}


def walks(visits: int = 1500, seed: int = 0, *, repeats: float = 0.0, ordered: bool = True) -> Log:
    """Visits of 3 to 7 clicks on successive items of a theme, which begins anywhere.

    Parameters
    ----------
    repeats : share of clicks that go back to the item before
    ordered : else the items of the theme come in any order, each once
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int]] = []
    for visit in range(visits):
        theme, at = int(rng.integers(THEMES)), int(rng.integers(ITEMS))
        shown: list[int] = []
        way = range(at, at + ITEMS) if ordered else rng.permutation(ITEMS)
        for step in range(int(rng.integers(3, 8))):
            back = len(shown) > 1 and rng.random() < repeats
            item = shown[-2] if back else theme * ITEMS + int(way[step]) % ITEMS
            shown.append(item)
            rows.append((visit, item, visit * 3_600_000 + step * 20_000))
    user, item, time_ms = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    n = len(user)
    return Log(
        users=[f"u{visit}" for visit in range(visits)],
        items=[f"i{code}" for code in range(THEMES * ITEMS)],
        user=user,
        item=item,
        event_type=np.full(n, int(EventType.CLICK), np.int64),
        time_ms=time_ms + 1_700_000_000_000,
        session=user.copy(),
        quantity=np.ones(n),
        price=np.zeros(n),
        titles={},
    )


def newest(log: Log, share: float = 0.15) -> HeldOut:
    """The visits of the newest users are held out."""
    first = int(len(log.users) * (1 - share))
    return HeldOut(log.user < first, np.flatnonzero(log.user >= first))
