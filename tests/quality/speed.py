"""How long a bundle's graphs take. In: a bundle. Out: microseconds an event, of this machine.

Both graphs run in the engine's own `Model` on the CPU, one thread, with what the engine binds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.recent import Recent

BATCHES = (1, 64)
REPEATS = 51
WARM_UP = 5
LISTED, EXCLUDED = 20, 50


def microseconds(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Median time a user of an update and of a list, by batch.

    Users have 30 random events; a list has 20 items, 50 being excluded.
    """
    model = Model(bundle, "cpu")
    rng = np.random.default_rng(0)
    bias, items, beta = model.new_bias(), bundle.manifest.items, bundle.manifest.beta
    found: dict[str, dict[str, float]] = {"update_us": {}, "score_us": {}}
    for batch in BATCHES:
        history = rng.integers(1, items, (batch, max(model.recent, 30)))
        kinds = np.full(batch, int(EventType.CLICK), np.int64)
        gaps_s = np.full(batch, 60.0, np.float32)
        state = np.zeros((batch, model.state_size), np.float32)
        for rows in history.T[::-1]:
            state = model.update(state, rows, kinds, gaps_s)
        newest = history[:, : model.recent]
        recent = (
            Recent(newest, np.full_like(newest, int(EventType.CLICK))) if model.recent else None
        )
        excluded = rng.integers(1, items, (batch, EXCLUDED))
        runs: dict[str, Callable[[], object]] = {
            "update_us": lambda: model.update(state, history[:, 0], kinds, gaps_s),  # noqa: B023
            "score_us": lambda: model.score(state, bias, excluded, beta, LISTED, recent),  # noqa: B023
        }
        for name, run in runs.items():
            found[name][str(batch)] = round(_median_s(run) / batch * 1e6, 2)
    return found


def _median_s(run: Callable[[], object]) -> float:
    for _ in range(WARM_UP):
        run()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return median(taken)
