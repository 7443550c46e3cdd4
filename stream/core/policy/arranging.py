"""From a pool of the best items to the list that is shown.

In: what `Placement.rank` found, best first, and whose lists they are. Out: k items of it in their
order, each with the chance it had to stand there. Knows nothing of records or Kafka.

A placement whose rules ask for no arranging has a pool of k items and shows it as it is. Where the
pool cannot fill a list, since caps closed too much of it, one of twice the size is asked for, again
and again until it is full or everything is in the pool: no item that may be listed is missed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.contracts import PLAIN_REASONS, Cause
from stream.core import mixing
from stream.core.attributes import ATTRIBUTES
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.audience import Audience
from stream.core.policy.greedy import go_on
from stream.core.policy.history import own_prices
from stream.core.policy.pins import PinBoard
from stream.core.policy.placement import Placement
from stream.core.policy.pools import Caps, Chance, Likeness, Made, Pins, Pool
from stream.placements import Placement as PlacementRules

__all__ = ["Arranging", "Audience", "Exploring", "Picked", "Wishes", "arranges", "pool_of"]

_POOL_PER_PLACE = 5
_PINNED, _EXPLORING = PLAIN_REASONS["pinned"], PLAIN_REASONS["exploring"]
_NEW, _BID = PLAIN_REASONS["new"], PLAIN_REASONS["bid"]
_LEAST_WORTH = -1e3  # of bid times a score of 0
_LEAST_LOGIT_GAP = 1e-12  # a score of 1 is worth this much less: its logit must be a number


class Picked(NamedTuple):
    """The lists of one placement.

    Attributes
    ----------
    rows : int64, shape (n, k)
    scores : float32, shape (n, k), in [0, 1]; a list ends before its first 0
    codes : uint8, shape (n, k); of `PLAIN_REASONS`, 0 where an interaction is the reason; None: all
        0
    explored : bool, shape (n, k); placed there to learn; None: nothing was
    propensities : float32, shape (n, k), in (0, 1]; of the item at that place, given the places
        before it; None: all 1
    cells : uint8, shape (n,); where it counts what comes of each list; None: nowhere
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    codes: NDArray[np.uint8] | None = None
    explored: NDArray[np.bool_] | None = None
    propensities: NDArray[np.float32] | None = None
    cells: NDArray[np.uint8] | None = None


class Wishes(NamedTuple):
    """How much is to be explored.

    Attributes
    ----------
    temperatures : float32, shape (n,), >= 0; of the draw, in logits; 0: nothing is drawn
    bonus : float32, shape (n, pool); added to the logits of the scores; None: nothing
    cells : uint8, shape (n,); where it counts what comes of each list; None: nowhere
    """

    temperatures: NDArray[np.float32]
    bonus: NDArray[np.float32] | None = None
    cells: NDArray[np.uint8] | None = None


class Exploring(Protocol):
    """Says how much each list of a placement is to explore."""

    def wishes(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], audience: Audience
    ) -> Wishes:
        """For pools as `Arranging.arrange` takes them; asked again where one has to grow."""

    def new(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows are of items that hardly anybody was shown yet; any shape."""


def arranges(rules: PlacementRules) -> bool:
    """Whether a placement's lists are anything else than the best k items by score."""
    return rules.by_bid or _rearranges(rules)


def _rearranges(rules: PlacementRules) -> bool:
    """Whether they are anything else than the best k of a pool in its order."""
    capped = any(getattr(rules.caps, name) is not None for name in ATTRIBUTES)
    banded = rules.price_band.low is not None or rules.price_band.high is not None
    return bool(rules.pins or rules.diversity or capped or banded)


def pool_of(rules: PlacementRules, exploring: bool = False) -> int:
    """How many items a placement's lists are made of at first."""
    if not (exploring or _rearranges(rules)):
        return rules.k
    return max(rules.pool or _POOL_PER_PLACE * rules.k, rules.k)


class Arranging:
    """How one placement makes lists of pools.

    Parameters
    ----------
    rules : its settings
    placement : answers for larger pools, and for what is pinned
    exploring : None: it does not explore
    """

    def __init__(
        self,
        rules: PlacementRules,
        placement: Placement,
        model: Model,
        catalogue: Catalogue,
        exploring: Exploring | None = None,
    ) -> None:
        self.k = rules.k
        self._placement = placement
        self._model = model
        self._catalogue = catalogue
        self._exploring = exploring
        self._as_it_is = exploring is None and not arranges(rules)
        self._diversity = rules.diversity
        self._band = rules.price_band
        self._capped = [name for name in ATTRIBUTES if getattr(rules.caps, name) is not None]
        self._limits = np.array([getattr(rules.caps, name) for name in self._capped], np.int64)
        self._board = PinBoard(rules.pins, rules.k, catalogue) if rules.pins else None

    def arrange(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], audience: Audience
    ) -> Picked:
        """Pools to lists.

        Parameters
        ----------
        rows : int64, shape (n, pool), best first; of `Placement.find`
        scores : float32, shape (n, pool); 0 = not to be listed, and so is what comes after it
        """
        if self._as_it_is:
            return Picked(rows, scores)
        wishes = self._wishes(rows, scores, audience)
        made = self._arrange(rows, scores, audience, wishes)
        return self._finished(made)._replace(cells=wishes.cells)

    def _arrange(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        audience: Audience,
        wishes: Wishes,
    ) -> Made:
        users, size = rows.shape
        made = Made.empty(users, self.k)
        pins = self._pinned(audience)
        chance = Chance(wishes.temperatures, self._uniforms(wishes.temperatures, audience))
        pool = self._pool(rows, scores, audience, wishes.bonus)
        go_on(made, pool, pins, chance, self._caps(), self._likeness(made, pool, pins))
        short = np.flatnonzero((made.length < self.k) & ~pool.whole)
        while len(short):
            size *= 2
            some = audience.take(short)
            rows, scores = self._placement.find(some, size)
            bonus = self._wishes(rows, scores, some).bonus
            pool = self._pool(rows, scores, some, bonus)
            unfinished = made.take(short)
            asked = Pins._make(column[short] for column in pins)
            drawn = Chance._make(column[short] for column in chance)
            alike = self._likeness(unfinished, pool, asked)
            go_on(unfinished, pool, asked, drawn, self._caps(), alike)
            made.put(short, unfinished)
            short = short[(unfinished.length < self.k) & ~pool.whole]
        return made

    def _finished(self, made: Made) -> Picked:
        codes = np.where(made.pinned, _PINNED, np.where(made.explored, _EXPLORING, 0))
        explores = self._exploring is not None
        if self._exploring is not None:
            codes[(codes == 0) & self._exploring.new(made.rows)] = _NEW
        if self._placement.bids is not None:
            codes[codes != _PINNED] = _BID
        return Picked(
            made.rows,
            made.scores,
            codes.astype(np.uint8),
            made.explored if explores else None,
            made.propensities if explores else None,
        )

    def _pool(
        self,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        audience: Audience,
        bonus: NDArray[np.float32] | None,
    ) -> Pool:
        whole = (scores[:, -1] <= 0) | (rows.shape[1] >= self._model.rows)
        allowed = self._in_band(rows, audience)
        bids = self._placement.bids
        if bids is None:
            odds = np.maximum(scores, np.finfo(np.float32).tiny, dtype=np.float64)
            worth: NDArray[np.float64] = np.log(odds / np.maximum(1 - odds, _LEAST_LOGIT_GAP))
        else:
            worth = np.maximum(bids.worth(rows, scores), _LEAST_WORTH)
            allowed &= scores >= self._placement.theta
        if bonus is not None:
            worth += bonus
        return Pool(rows, scores, worth, allowed, whole)

    def _in_band(self, rows: NDArray[np.int64], audience: Audience) -> NDArray[np.bool_]:
        """What costs neither too little nor too much for each user: bool, shape (n, pool)."""
        within = np.ones(rows.shape, np.bool_)
        low, high = self._band.low, self._band.high
        if low is None and high is None:
            return within
        level = own_prices(audience.ring, self._catalogue)[:, None]
        known = self._catalogue.attributes.prices
        prices = known[np.minimum(rows, len(known) - 1)]
        if low is not None:
            within &= ~(prices < low * level)  # where one of the two is not known, it is no reason
        if high is not None:
            within &= ~(prices > high * level)
        return within

    def _wishes(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], audience: Audience
    ) -> Wishes:
        if self._exploring is None:
            return Wishes(np.zeros(len(rows), np.float32))
        return self._exploring.wishes(rows, scores, audience)

    def _uniforms(
        self, temperatures: NDArray[np.float32], audience: Audience
    ) -> NDArray[np.float64]:
        """Numbers for the draws, float64, shape (n, k): those of a user, an event and a placement.

        A replay of the event draws the same list.
        """
        uniforms = np.zeros((len(temperatures), self.k))
        drawing = np.flatnonzero(temperatures > 0)
        if len(drawing):
            keys, name = audience.keys, self._placement.name.encode()
            seeds = [_seed(keys[at], audience.causes[at], name) for at in drawing.tolist()]
            uniforms[drawing] = mixing.uniforms(np.array(seeds, np.uint64), self.k)
        return uniforms

    def _pinned(self, audience: Audience) -> Pins:
        shape = (len(audience.states), self.k)
        pins = Pins(np.zeros(shape, np.int64), np.zeros(shape, np.float32))
        if self._board is None:
            return pins
        by_place = self._board.rows(audience.now_ms)
        some = by_place[by_place != NO_ITEM]
        if len(some):
            found = self._placement.score_some(audience.states, audience.ring, some)
            for place in np.flatnonzero(by_place != NO_ITEM).tolist():
                score = np.where(found[0] == by_place[place], found[1], 0).max(axis=1)
                pins.rows[:, place], pins.scores[:, place] = by_place[place], score
        return pins

    def _caps(self) -> Caps:
        if not self._capped:
            return Caps(np.zeros((0, 0), np.int32), self._limits)
        codes = [self._catalogue.attributes.codes(name) for name in self._capped]
        return Caps(np.stack(codes), self._limits)

    def _likeness(self, made: Made, pool: Pool, pins: Pins) -> Likeness:
        if not self._diversity:
            nothing = np.zeros((1, 1), np.float32)
            return Likeness(0.0, nothing, pool.rows, pins.rows, made.rows)
        table, places = self._model.embeddings_of(pool.rows, pins.rows, made.rows)
        return Likeness(self._diversity, table, *places)


def _seed(key: bytes, cause: Cause, placement: bytes) -> int:
    told = b"%d %d %s %s " % (cause.offset, cause.partition, cause.topic.encode(), placement)
    return mixing.hash_of(told + key)
