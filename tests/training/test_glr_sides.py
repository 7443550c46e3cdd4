"""Networks, and what is settled with them, know nothing of what they are measured by."""

from __future__ import annotations

import dataclasses

import numpy as np

from export.data.dataset import Log
from export.models import AUTO
from export.models.base import Run
from export.training.sides import hold_out
from export.training.train import Tried, attempt, fit
from tests.support.logs import log_of
from tests.training.shops import SMALL, walks


def tried(log: Log) -> Tried:
    held = hold_out(log)
    assert held is not None
    return attempt("glr", held, {**SMALL, "epochs": 2}, Run(device="cpu"), lambda message: None)


def with_other_items(log: Log, at: np.ndarray) -> Log:
    item = log.item.copy()
    item[at] = np.random.default_rng(1).permutation(item[at])
    return dataclasses.replace(log, item=item)


def test_what_measures_settles_nothing() -> None:
    log = walks(500)
    held = hold_out(log)
    assert held is not None
    newer = np.flatnonzero(log.time_ms > held.older.time_ms[-1])
    teaching = np.isin(newer, held.held_out.asked)
    first = tried(log)
    other = tried(with_other_items(log, newer[~teaching]))
    assert other.trained.settled == first.trained.settled
    assert other.trained.training["curves"] == first.trained.training["curves"]
    assert other.measured.metrics["ndcg@20"] < first.measured.metrics["ndcg@20"] - 0.05
    other = tried(with_other_items(log, newer[teaching]))
    assert other.trained.settled != first.trained.settled


def test_one_user_alone_leaves_nothing_to_settle_by() -> None:
    """`auto` takes another model then, and `glr` by name is trained without figures."""
    rng, said = np.random.default_rng(0), list[str]()
    log = log_of([("u", f"i{int(rng.integers(9))}", 86_400 * day) for day in range(150)])
    chosen = fit(log, AUTO, {}, said.append, Run(device="cpu"))
    assert chosen.model != "glr"
    assert any(line.startswith("glr: no held-out event") for line in said), said
    assert chosen.metrics["held_out"]["cases"] > 10
    named = fit(log, "glr", {**SMALL, "query": True, "epochs": 1}, said.append, Run(device="cpu"))
    assert (named.model, named.metrics) == ("glr", {})
