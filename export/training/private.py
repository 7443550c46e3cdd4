"""Train with differential privacy, and show what it costs. In: a log, a budget. Out: `Trained`.

The cost is measured on the newest events, as `train.py` does it: a private model that was trained
on the older ones beside the same one without clipping and noise, beside `glr` as it is usually
trained, and beside the baseline. Nothing is chosen by it and nothing of it goes into the bundle,
since it comes from users' events without noise.

Must not know: files of a log, the command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from export.data.dataset import Log
from export.models.base import Run, Trained
from export.models.glr.accounting import Budget, Mechanism
from export.models.glr.private_parameters import PrivateParameters
from export.training.sides import Sides, hold_out
from export.training.train import BASELINE, Tried, attempt, measured
from stream.config import Placement as PlacementRules
from stream.errors import UsageError

TOLD: Final = ("recall@20", "ndcg@20", "mrr@20")
PRIVATE: Final = "private"
UNPROTECTED: Final = "the same without clipping and noise"
USUAL: Final = "glr"


@dataclass(slots=True)
class Cost:
    """What privacy costs. `metrics`: by model, of `cases` lists; empty where nothing was measured.

    All of it is outside of the guarantee.
    """

    metrics: dict[str, dict[str, float]]
    cases: int

    def lines(self) -> list[str]:
        """For people."""
        if not self.metrics:
            return ["what privacy costs was not measured"]
        wide = max(map(len, self.metrics))
        head = f"{f'{self.cases:,} lists':{wide}}  " + "  ".join(f"{name:>9}" for name in TOLD)
        return [head] + [
            f"{model:{wide}}  " + "  ".join(f"{of[name]:9.4f}" for name in TOLD)
            for model, of in self.metrics.items()
        ]


class Private(NamedTuple):
    """A model that may leave the house, and what may not."""

    trained: Trained
    cost: Cost


def fit_privately(
    log: Log,
    parameters: Mapping[str, Any],
    epsilon: float,
    delta: float | None,
    run: Run | None = None,
) -> Private:
    """Measure on the newest events what privacy costs, then train on all.

    Parameters
    ----------
    parameters : fields of `PrivateParameters`
    delta : None: the users to the power of -1.1
    run : `seconds` is of the usual model alone; nothing is kept to go on from

    Raises
    ------
    UsageError
        PyTorch or Opacus is missing, or the budget cannot be kept on this log.
    """
    run, learn = run or Run(), _learn()
    p = PrivateParameters(**parameters)
    users = len(np.unique(log.user))
    budget = Budget.of(epsilon, delta, users)
    Mechanism.within(budget, users, p.batch, p.steps)  # before anything takes long
    cost = Cost({}, 0)
    if (held := hold_out(log)) is not None:
        cost = _cost(held, p, budget, learn, run)
    run.report(f"training privately on all {len(log):,} events")
    return Private(learn(log, p, budget, run.report), cost)


def _cost(
    held: Sides, p: PrivateParameters, budget: Budget, learn: Callable[..., Trained], run: Run
) -> Cost:
    found: dict[str, dict[str, float]] = {}

    def told(name: str, make: Callable[[], Tried]) -> None:
        begun = time.monotonic()
        run.report(f"training on the older {len(held.older):,} events: {name}")
        try:
            of = make().measured
        except UsageError as error:
            run.report(f"{name}: {error}")
            return
        found[name] = {
            **{metric: of.metrics[metric] for metric in TOLD},
            "seconds": round(time.monotonic() - begun, 1),
        }

    def private(budget: Budget | None) -> Tried:
        trained = learn(held.older, p, budget, run.report)
        served = PlacementRules(exclude_seen=p.exclude_seen, exclude_bought=p.exclude_bought)
        return measured(trained, held, run.report, [served])

    told(PRIVATE, lambda: private(budget))
    told(UNPROTECTED, lambda: private(None))
    usual = Run(seconds=run.seconds, device=run.device, report=run.report)
    for name in (USUAL, BASELINE):
        told(name, lambda name=name: attempt(name, held, {}, usual, run.report))  # type: ignore[misc]
    return Cost(found, len(held.asked.queries))


def _learn() -> Callable[..., Trained]:
    try:
        import opacus  # noqa: F401 - the question is whether it is there
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"--epsilon needs PyTorch and Opacus, and {error.name} is not installed: pip install "
            "'freshet[export]' (5 GB)"
        ) from None
    from export.models.glr.private import learn_privately

    return learn_privately
