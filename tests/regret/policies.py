"""Policies: the dynamic setting, fixed temperatures, and fixed shares of random items.

In: what the engine would know of a round's users and items. Out: lists. All take into account what
clicks tell of items (`Appeal.learned`): they differ in how they explore alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.manifest import Additive, FadingSum
from stream.core.mixing import points_of
from stream.core.policy.appeal import Appeal
from stream.core.policy.exploring import SEGMENTS, counts_key, segments, temperatures
from stream.core.policy.greedy import go_on
from stream.core.policy.interest import Interests
from stream.core.policy.payoffs import Payoffs
from stream.core.policy.pools import Caps, Chance, Likeness, Made, Pins, Pool
from stream.core.statistics.segments import Seen, SegmentCounts
from stream.placements import Explore
from tests.regret.run import HALF_LIVES_S, POOL, SHARES, STRENGTH, WEIGHTS, Asked
from tests.regret.world import PLACES, Ints

_SUMS = tuple(FadingSum(float(h), float(s)) for h, s in zip(HALF_LIVES_S, SHARES, strict=True))
_WEIGHTS = {done.name.lower(): weight for done, weight in WEIGHTS.items()}


class Explored:
    """Lists as a placement with these settings makes them.

    Parameters
    ----------
    rules : of the placement
    """

    def __init__(self, rules: Explore, seed: int) -> None:
        self._rules = rules
        self._dice = np.random.default_rng([seed, 3])
        self._interests = Interests(_WEIGHTS, Additive(_SUMS, STRENGTH))
        self.payoffs = Payoffs(SEGMENTS)
        self._counts = SegmentCounts()
        self._key = counts_key("home", rules, "regret", self._interests)
        self._asked: tuple[Ints, NDArray[np.float64], float] | None = None

    def lists(self, asked: Asked) -> Ints:
        rules = self._rules
        n = len(asked.people)
        rows, worth = _pools(asked, rules.optimism)
        warmth = np.zeros(n, np.float32)
        if rules.temperature > 0:
            newest = np.take_along_axis(asked.ring.rows, asked.ring.newest, axis=1)
            interest = self._interests.of(asked.ring, asked.table, newest, asked.states)
            warmth = temperatures(rules, interest)
            if rules.adapt and rules.learn:
                keys = [b"%d" % person for person in asked.people]
                at = segments(rules, interest), points_of(keys, person=b"home")
                warmth *= self.payoffs.multipliers(*at)
                self._asked = (*at, asked.time_s)
        chance = Chance(warmth, self._dice.random((n, PLACES)))
        made = Made.empty(n, PLACES)
        nothing = np.zeros((n, PLACES), np.int64)
        pool = Pool(
            rows,
            np.ones(rows.shape, np.float32),
            worth,
            np.ones(rows.shape, np.bool_),
            np.ones(n, np.bool_),
        )
        pins = Pins(nothing, np.zeros(nothing.shape, np.float32))
        caps = Caps(np.zeros((0, 0), np.int32), np.zeros(0, np.int64))
        go_on(made, pool, pins, chance, caps, Likeness(0.0, asked.table, rows, nothing, nothing))
        return made.rows

    def learn(self, seen: Ints, clicked: Ints) -> None:
        if self._asked is not None:
            at, where, time_s = self._asked
            cells, shape = self.payoffs.cells(at, where), self.payoffs.shape
            cells = np.repeat([cells, cells + shape[0] * shape[1]], [*seen, *clicked])
            half_life_ms, events = 1000 * self._rules.half_life_s, np.arange(len(cells))
            came = Seen(self._key, shape, half_life_ms, events, cells)
            time_ms = int(1000 * time_s)
            self._counts.fold([came], np.full(len(cells), time_ms), time_ms)
            if self._key in self._counts.rows:
                self.payoffs.follow(*self._counts.rows[self._key].counts)


class Randomly:
    """The best items, and at each place with a fixed chance a random one instead.

    Parameters
    ----------
    epsilon : that chance
    of_pool : random items are those of the pool, not any that are there
    """

    def __init__(self, epsilon: float, seed: int, *, of_pool: bool = False) -> None:
        self._epsilon = epsilon
        self._of_pool = of_pool
        self._dice = np.random.default_rng([seed, 3])

    def lists(self, asked: Asked) -> Ints:
        rows, worth = _pools(asked, 0.0)
        order = np.argsort(-worth, axis=1)[:, : 2 * PLACES]
        best = np.take_along_axis(rows, order, axis=1)
        n = len(best)
        anywhere = self._dice.random((n, PLACES)) < self._epsilon
        if self._of_pool:
            drawn = self._distinct(n, rows.shape[1])
            random = np.take_along_axis(rows, drawn, axis=1)
        else:
            random = self._distinct(n, asked.there)
        taken = np.where(anywhere, random, -1)
        free = ~(best[:, :, None] == taken[:, None, :]).any(axis=2)
        best = np.take_along_axis(best, np.argsort(~free, axis=1, kind="stable"), axis=1)
        number = np.maximum(np.cumsum(~anywhere, axis=1) - 1, 0)
        return np.where(anywhere, random, np.take_along_axis(best, number, axis=1))

    def _distinct(self, n: int, among: int) -> Ints:
        """Distinct numbers below `among`: int64, shape (n, PLACES)."""
        drawn = self._dice.integers(among, size=(n, PLACES))
        while True:
            ordered = np.sort(drawn, axis=1)
            again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
            if not len(again):
                return drawn
            drawn[again] = self._dice.integers(among, size=(len(again), PLACES))

    def learn(self, seen: Ints, clicked: Ints) -> None:
        """Nothing."""


def _pools(asked: Asked, optimism: float) -> tuple[Ints, NDArray[np.float64]]:
    """The items with the highest logits, and what they are worth by what is known of items."""
    rows = np.argpartition(-asked.logits, POOL, axis=1)[:, :POOL]
    appeal = Appeal.of(asked.impressions, asked.clicks, asked.bias, asked.trained, optimism)
    worth = np.take_along_axis(asked.logits, rows, axis=1).astype(np.float64)
    return rows, worth + (appeal.learned + appeal.hoped)[rows]
