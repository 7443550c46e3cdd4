"""The greedy loop against the same loop in plain Python, and its propensities against counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.core.policy.greedy import go_on
from stream.core.policy.pools import Caps, Chance, Likeness, Made, Pins, Pool

ROWS, DIM = 60, 8
Floats = NDArray[np.float64]


class Case:
    """Random pools of n users, and what is asked of their lists."""

    def __init__(self, users: int, size: int, k: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.k = k
        rows = np.argsort(rng.random((users, ROWS - 1)), axis=1)[:, :size] + 1
        scores = -np.sort(-rng.uniform(0.01, 0.9, (users, size)).astype(np.float32), axis=1)
        worth = np.log(scores / (1 - scores)).astype(np.float64)
        allowed = np.ones(rows.shape, np.bool_)
        self.pool = Pool(rows, scores, worth, allowed, np.ones(users, np.bool_))
        self.pins = Pins(np.zeros((users, k), np.int64), np.zeros((users, k), np.float32))
        self.chance = Chance(np.zeros(users, np.float32), rng.random((users, k)))
        self.caps = Caps(np.zeros((0, ROWS), np.int32), np.zeros(0, np.int64))
        self.table = rng.standard_normal((ROWS, DIM)).astype(np.float32)
        self.strength = 0.0

    def made(self) -> Made:
        made = Made.empty(len(self.pool.rows), self.k)
        self.go_on(made)
        return made

    def go_on(self, made: Made) -> None:
        at = (self.pool.rows, self.pins.rows, made.rows.copy())
        likeness = Likeness(self.strength, self.table, *at)
        go_on(made, self.pool, self.pins, self.chance, self.caps, likeness)


def plainly(case: Case, user: int) -> tuple[list[int], list[float], list[bool]]:
    """Rows, propensities and what was explored of one user's list, as the module's text says it."""
    unit = case.table / np.linalg.norm(case.table, axis=1, keepdims=True)
    worth = dict(zip(case.pool.rows[user].tolist(), case.pool.worth[user].tolist(), strict=True))
    allowed = case.pool.rows[user][case.pool.allowed[user] & (case.pool.scores[user] > 0)].tolist()
    pins = {
        place: int(case.pins.rows[user, place])
        for place in range(case.k)
        if case.pins.scores[user, place] > 0
    }
    listed: list[int] = []
    propensities: list[float] = []
    explored: list[bool] = []

    def capped(row: int) -> bool:
        for codes, limit in zip(*case.caps, strict=True):
            if codes[row] and sum(codes[other] == codes[row] for other in listed) >= limit:
                return True
        return False

    for place in range(case.k):
        open_rows = [
            row
            for row in allowed
            if row not in listed and row not in pins.values() and not capped(row)
        ]
        chance, other = 1.0, False
        if pins.get(place, listed and listed[0]) not in listed and place in pins:
            row = pins[place]
        elif open_rows:
            values = np.array(
                [
                    worth[row]
                    - case.strength * max([0.0, *(float(unit[row] @ unit[o]) for o in listed)])
                    for row in open_rows
                ]
            )
            at = int(values.argmax())
            if case.chance.temperatures[user] > 0:
                odds = np.exp((values - values.max()) / float(case.chance.temperatures[user]))
                odds /= odds.sum()
                drawn = int((odds.cumsum() > case.chance.uniforms[user, place]).argmax())
                chance, other, at = float(odds[drawn]), drawn != at, drawn
            row = open_rows[at]
        else:
            later = [pins[at] for at in sorted(pins) if at > place and pins[at] not in listed]
            if not later:
                break
            row = later[0]
        listed.append(row)
        propensities.append(chance)
        explored.append(other)
    return listed, propensities, explored


def assert_as_plainly(case: Case) -> Made:
    made = case.made()
    for user in range(len(case.pool.rows)):
        rows, propensities, explored = plainly(case, user)
        length = len(rows)
        assert made.length[user] == length
        assert made.rows[user, :length].tolist() == rows
        np.testing.assert_allclose(made.propensities[user, :length], propensities, rtol=1e-5)
        assert made.explored[user, :length].tolist() == explored
        assert (made.scores[user, :length] > 0).all()
        assert (made.scores[user, length:] == 0).all()
    return made


def test_with_nothing_asked_the_pool_is_the_list() -> None:
    case = Case(20, 15, 6)
    made = assert_as_plainly(case)
    np.testing.assert_array_equal(made.rows, case.pool.rows[:, :6])
    np.testing.assert_array_equal(made.scores, case.pool.scores[:, :6])


def with_caps(case: Case) -> None:
    codes = np.stack([np.arange(ROWS) % 4, np.arange(ROWS) % 7 // 2]).astype(np.int32)
    case.caps = Caps(codes, np.array([2, 3]))


def with_diversity(case: Case) -> None:
    case.strength = 3.0


def with_draws(case: Case) -> None:
    case.chance.temperatures[::2] = 0.7


def with_pins(case: Case) -> None:
    case.pins.rows[:, 1] = 7
    case.pins.scores[:, 1] = 0.3
    case.pins.rows[::3, 5] = case.pool.rows[::3, 0]  # the best is kept for its place
    case.pins.scores[::3, 5] = case.pool.scores[::3, 0]


def with_gaps(case: Case) -> None:
    case.pool.allowed[:, ::3] = False
    case.pool.scores[:, -5:] = 0


ASKED = (with_caps, with_diversity, with_draws, with_pins, with_gaps)


@pytest.mark.parametrize("seed", range(4))
def test_the_loop_does_what_it_says(seed: int) -> None:
    for first in ASKED:
        for second in ASKED:
            case = Case(20, 25, 10, seed)
            first(case)
            second(case)
            assert_as_plainly(case)
    case = Case(60, 30, 12, seed)
    for asked in ASKED:
        asked(case)
    made = assert_as_plainly(case)
    assert made.explored.any()
    assert made.pinned.any()
    assert (made.length < 12).any()  # caps and gaps leave too little


def test_draws_stay_sharp_where_the_best_falls_by_many_temperatures() -> None:
    case = Case(20, 25, 20)
    case.chance.temperatures[:] = 0.002
    assert_as_plainly(case)
    fell = case.pool.worth[:, 0] - case.pool.worth[:, 19]
    assert (np.exp(-fell / 0.002) == 0).all()


def test_a_pin_moves_up_where_nothing_else_is_left() -> None:
    case = Case(1, 3, 6)
    case.pins.rows[0, 5], case.pins.scores[0, 5] = 50, 0.2
    made = case.made()
    assert made.rows[0].tolist() == [*case.pool.rows[0].tolist(), 50, 0, 0]
    case.pool.whole[:] = False  # a larger pool may still have something
    assert case.made().length.tolist() == [3]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_going_on_with_a_larger_pool_leaves_what_is_listed(temperature: float) -> None:
    """At no temperature the list is that of the whole pool at once."""
    case = Case(30, 40, 8)
    with_caps(case)
    case.strength = 0.0
    case.chance.temperatures[:] = temperature
    whole = case.pool
    case.pool = Pool(*(column[:, :6] for column in whole[:4]), whole=np.zeros(30, np.bool_))
    made = case.made()
    begun = made.take(np.arange(30))
    assert (begun.length < 8).any()
    case.pool = whole
    case.go_on(made)
    for user, length in enumerate(begun.length.tolist()):
        assert made.rows[user, :length].tolist() == begun.rows[user, :length].tolist()
    if temperature == 0:
        np.testing.assert_array_equal(made.rows, case.made().rows)


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_propensities_are_the_frequencies_of_what_is_drawn(temperature: float) -> None:
    """Chi-square over 100,000 lists of two from a pool of five, with caps and likeness."""
    draws, size = 100_000, 5
    one = Case(1, size, 2, seed=3)
    case = Case(draws, size, 2, seed=3)
    case.pool = Pool(*(np.repeat(column, draws, axis=0) for column in one.pool))
    case.chance.temperatures[:] = temperature
    case.caps = Caps((np.arange(ROWS) % 9).astype(np.int32)[None], np.array([1]))
    case.strength = 1.0
    made = case.made()
    probability: dict[tuple[int, int], float] = {}
    for rows, chances in zip(made.rows.tolist(), made.propensities.tolist(), strict=True):
        probability.setdefault((rows[0], rows[1]), chances[0] * chances[1])
    assert sum(probability.values()) == pytest.approx(1, abs=1e-3)  # every list came up
    pairs = made.rows[:, 0] * ROWS + made.rows[:, 1]
    statistic = 0.0
    for (first, second), chance in probability.items():
        count = np.count_nonzero(pairs == first * ROWS + second)
        statistic += (count - draws * chance) ** 2 / (draws * chance)
    freedom = len(probability) - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)
