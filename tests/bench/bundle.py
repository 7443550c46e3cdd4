"""The model bundle of the full engine's runs: `decay` on baskets drawn at random.

What the vectors mean is of no matter to the time that they take, so that no data set is needed; the
bundle is trained and written by `export` like any other. The update graph is warmed and checked by
the loader.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models import decay
from stream.contracts import EventType
from tests.bench.workload import ITEMS

_BASKETS = 20_000
_BASKET_ITEMS = 6
_FIRST_MS = 1_700_000_000_000


def make_bundle(folder: Path) -> None:
    """Write a `decay` bundle of `ITEMS` items, 64 dimensions."""
    rng = np.random.default_rng(3)
    events = _BASKETS * _BASKET_ITEMS
    basket = np.repeat(np.arange(_BASKETS), _BASKET_ITEMS)
    item = rng.integers(0, ITEMS, events)
    item[:ITEMS] = np.arange(ITEMS)  # every item at least once
    log = Log(
        users=[f"u{user}" for user in range(_BASKETS)],
        items=[f"i{row}" for row in range(ITEMS)],
        user=basket,
        item=item,
        event_type=np.full(events, int(EventType.PURCHASE)),
        time_ms=_FIRST_MS + basket * 1000,
        session=basket,
        quantity=np.ones(events),
        price=np.zeros(events),
        titles={},
    )
    write_bundle(decay.train(log), folder, name="bench")
