"""What held-out events settle: the newest popularity counts where a shop's demand moves."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from export.data.dataset import Log
from export.models.base import Float32, Run
from export.models.glr.blend import Companions, Entries
from export.models.glr.judging import Cases
from export.models.glr.learning import learn
from export.models.glr.logits import Logits
from export.models.glr.parameters import Parameters
from export.models.glr.popularity import DAY_MS, DOUBT, drift
from export.models.glr.sequences import Sequences, trained_kinds
from export.models.glr.settled import Settled
from export.models.glr.settling import LADDERS, Choice, _Trials
from stream.contracts import EventType
from stream.core.bundle import NEVER_LISTED
from tests.training.shops import SMALL, newest


def visits(moving: bool, days: int = 60, a_day: int = 40) -> Log:
    """Pairs of clicks on 60 items of two shelves; if `moving`, one shelf is sold in the first half
    of the time alone, the other one from then on. No item says which comes after it."""
    rng = np.random.default_rng(0)
    n = days * a_day
    day = np.repeat(np.arange(days), a_day)
    shelf = np.where(rng.random(n) < 0.5, 0, 30) if not moving else np.where(day < days - 6, 0, 30)
    first, then = rng.integers(0, 60, n), shelf + rng.integers(0, 30, n)
    user, item = np.repeat(np.arange(n), 2), np.stack([first, then], 1).ravel()
    start = np.repeat(day * DAY_MS + np.tile(np.arange(a_day), days) * 60_000, 2)
    return Log(
        users=[f"u{at}" for at in range(n)],
        items=[f"i{code}" for code in range(60)],
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        event_type=np.full(2 * n, int(EventType.CLICK), np.int64),
        time_ms=1_700_000_000_000 + start + np.tile([0, 20_000], n),
        session=user.astype(np.int64),
        quantity=np.ones(2 * n),
        price=np.zeros(2 * n),
        titles={},
    )


def settled(log: Log) -> Settled:
    found = learn(log, held_out=newest(log, 0.07), **{**SMALL, "epochs": 2}).settled
    assert isinstance(found, Settled)
    return found


def test_demand_that_moves_is_followed() -> None:
    moving, steady = settled(visits(True)), settled(visits(False))
    assert moving.lately >= 0.4
    assert moving.half_life_days > 0
    assert moving.ndcg > steady.ndcg + 0.05  # half the shelf is left to choose from


def test_the_term_is_the_change_of_an_items_share() -> None:
    log = visits(True)
    rows = np.arange(1, 61)
    sequences = Sequences.of(log, rows, trained_kinds(log), 0.0)
    found = drift(sequences, 61, 3.0)
    time_ms = log.time_ms
    newest_counts = [
        DOUBT + (0.5 ** ((time_ms.max() - time_ms[log.item == item]) / (3 * DAY_MS))).sum()
        for item in range(60)
    ]
    counts = [DOUBT + (log.item == item).sum() for item in range(60)]
    wanted = np.log(np.array(newest_counts) / np.sum(newest_counts))
    wanted -= np.log(np.array(counts) / np.sum(counts))
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-5, atol=1e-6)
    assert found[0] == 0
    assert not drift(sequences, 61, 0.0).any()


def test_the_settled_popularity_stands_in_the_biases_that_are_exported() -> None:
    log = visits(True, days=20)
    p = {**SMALL, "epochs": 1}

    def biases(lately: float) -> Float32:
        nothing = (0.0,) * Parameters().last
        kept = Settled(1, False, nothing, nothing, half_life_days=3.0, lately=lately)
        return learn(log, settled=kept, **p).biases

    rows = np.arange(1, 61)
    sequences = Sequences.of(log, rows, trained_kinds(log), Parameters(**p).recency)
    term = drift(sequences, 61, 3.0)
    without, with_it = biases(0.0), biases(0.4)
    assert abs(term[1:]).max() > 0.5
    np.testing.assert_allclose(with_it[1:] - without[1:], 0.4 * term[1:], atol=1e-4)
    assert with_it[0] == without[0] == NEVER_LISTED


def test_no_trial_begins_when_the_time_for_them_is_over() -> None:
    log, said = visits(True), list[str]()
    run = Run(seconds=0.01, report=said.append)
    learn(log, held_out=newest(log, 0.07), run=run, **{**SMALL, "epochs": 2})
    trials = [line for line in said if "popularity of" in line]
    assert len(trials) == 2
    assert all(": of items it knows ndcg@20 0." in line for line in trials)
    assert any(line.endswith("held-out events of items it knows") for line in said)
    assert said[-1] == "  the time for trials is over; the best so far counts"


def test_half_of_the_time_is_for_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = object.__new__(_Trials)
    trials._begun, trials._seconds = 100.0, 20.0
    trials._made = dict.fromkeys((Choice(False), Choice(True)))  # type: ignore[arg-type]
    for now, another, left in ((106.0, True, 14.0), (107.0, False, 13.0), (121.0, False, -1.0)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        assert trials.time_left() == another  # one takes as long as the others
        assert trials.left() == left


def test_a_target_that_may_not_be_listed_or_has_no_number_is_no_hit() -> None:
    log = visits(True, days=8)
    p = Parameters(**SMALL)
    cases = Cases.of(log, newest(log, 0.1), np.arange(1, 61), trained_kinds(log), p)
    cases.seen = [np.arange(1, 61) for _ in cases.seen]  # nothing is left to be listed
    companions = Companions(np.zeros((61, 1), np.int64), np.zeros((61, 1), np.float32))
    entries = Entries.of(cases.recent, companions)
    found = torch.ones(len(cases.targets), 2)
    for table, exclude in ((np.ones((61, 2)), True), (np.full((61, 2), np.nan), False)):
        logits = Logits(cases, found, table.astype(np.float32), np.zeros(61, np.float32), entries)
        assert (logits.ranks(np.zeros(2 * p.last), exclude) >= 60).all()


@pytest.mark.parametrize(
    ("worth", "seen", "best"),
    [
        ([0, 1, 2, 3, 2, 1, 0], [0.5, 0.3], 0.4),
        ([0, 1, 2, 3, 4, 5, 6], [0.5, 0.6, 0.8], 0.8),
        ([6, 5, 4, 3, 3, 9, 9], [0.5, 0.3, 0.15, 0.0], 0.0),
    ],
)
def test_a_ladder_is_climbed_while_the_lists_get_better(
    worth: list[float], seen: list[float], best: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def of(trials: _Trials, choice: Choice) -> tuple[Choice, Settled]:
        tried.append(choice.lately)
        return choice, Settled(1, ndcg=worth[LADDERS["lately"].index(choice.lately)])

    monkeypatch.setattr(_Trials, "of", of)
    monkeypatch.setattr(_Trials, "time_left", lambda trials: True)
    trials = object.__new__(_Trials)
    choice, _ = trials.along("lately", trials.of(Choice(False, lately=0.4)))
    assert choice.lately == best
    assert tried == [0.4, *seen]


@pytest.mark.parametrize(
    ("ndcg", "recall", "best"),
    [
        (0.300, 0.581, 0.4),  # as good: what was there first stays
        (0.300, 0.584, 0.5),
        (0.298, 0.584, 0.5),  # recall gains more than NDCG loses
        (0.298, 0.582, 0.4),
        (0.302, 0.578, 0.4),
    ],
)
def test_lists_are_judged_by_ndcg_and_recall(
    ndcg: float, recall: float, best: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(trials: _Trials, choice: Choice) -> tuple[Choice, Settled]:
        other = choice.lately == 0.5
        return choice, Settled(1, ndcg=ndcg if other else 0.3, recall=recall if other else 0.581)

    monkeypatch.setattr(_Trials, "of", of)
    monkeypatch.setattr(_Trials, "time_left", lambda trials: True)
    trials = object.__new__(_Trials)
    choice, _ = trials.along("lately", trials.of(Choice(False, lately=0.4)))
    assert choice.lately == best
