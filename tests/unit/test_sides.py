"""What models learn from at their end and what they are measured by are of different users."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from export.data.dataset import Log
from export.models.base import Run
from export.training.sides import Sides, hold_out
from export.training.train import Tried, attempt, fit
from tests.support.logs import log_of
from tests.unit.test_model import random_log

OF: dict[str, Any] = {"of": "decay,cooccurrence", "decay.dim": 4}


def silently(message: str) -> None:
    pass


def sides(log: Log) -> Sides:
    held = hold_out(log)
    assert held is not None
    return held


def measured_by(held: Sides) -> set[int]:
    """Codes of the users who are asked."""
    asked = held.asked
    return {int(asked.log.user[asked.histories[query.user][0]]) for query in asked.queries}


def visitors(users: int, days: int = 40) -> Log:
    rng = np.random.default_rng(users)
    return log_of(
        [
            (f"u{user}", f"i{int(rng.integers(12))}", day * 86_400 + user, "purchase")
            for day in range(days)
            for user in range(users)
        ]
    )


@pytest.mark.parametrize("users", [2, 3, 20, 51])
def test_nobody_is_in_both_halves(users: int) -> None:
    log = visitors(users)
    held = sides(log)
    measuring = measured_by(held)
    learning = set(log.user[held.held_out.asked].tolist())
    assert not measuring & learning
    assert measuring | learning == set(range(users))  # all of them come until the end
    assert len(measuring) == (users + 1) // 2
    newer = np.flatnonzero(log.time_ms > held.older.time_ms[-1])
    of_others = ~np.isin(log.user[newer], list(measuring))
    np.testing.assert_array_equal(held.held_out.asked, newer[of_others])
    assert held.cases == len(held.asked.queries) == (~of_others).sum()


def test_the_halves_are_the_same_again_and_no_halves_of_the_names() -> None:
    first, again = sides(visitors(40)), sides(visitors(40))
    assert measured_by(first) == measured_by(again)
    assert not measured_by(first) <= set(range(22))
    assert not measured_by(first) <= set(range(18, 40))


def with_other_items(log: Log, at: np.ndarray) -> Log:
    """These events turn towards items drawn anew."""
    item = log.item.copy()
    item[at] = np.random.default_rng(1).permutation(item[at])
    return dataclasses.replace(log, item=item)


def test_what_measures_teaches_nothing_and_what_teaches_measures_nothing() -> None:
    def tried(name: str, log: Log, **given: Any) -> Tried:
        return attempt(name, sides(log), given, Run(), silently)

    log = random_log()
    held = sides(log)
    newer = np.flatnonzero(log.time_ms > held.older.time_ms[-1])
    measuring = newer[np.isin(log.user[newer], list(measured_by(held)))]
    ensemble, decay = tried("ensemble", log, **OF), tried("decay", log, dim=4)

    other = tried("ensemble", with_other_items(log, measuring), **OF)
    assert other.trained.training["weights"] == ensemble.trained.training["weights"]
    assert other.measured.metrics != ensemble.measured.metrics

    other = tried("ensemble", with_other_items(log, held.held_out.asked), **OF)
    assert other.trained.training["weights"] != ensemble.trained.training["weights"]
    other = tried("decay", with_other_items(log, held.held_out.asked), dim=4)
    assert other.measured.metrics == decay.measured.metrics


def test_a_single_user_measures_and_teaches_nothing() -> None:
    log = visitors(1, days=200)
    held = sides(log)
    assert measured_by(held) == {0}
    assert len(held.held_out.asked) == 0
    trained = fit(log, "ensemble", OF, silently)
    assert trained.training["weights"] == {"decay": 0.5, "cooccurrence": 0.5}
    assert trained.metrics["held_out"]["cases"] == held.cases > 10
