"""One policy in one world: who is shown what, who clicks, what is learned, and what it cost.

In: a world, a policy, a seed of dice. Out: regret by round. States are those of the model `decay`,
here in NumPy; how sure interests are, what is hoped of items, what has paid and the lists come from
`stream.core.policy`. Counts of items are kept in memory.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.core.policy.exploring import LOOK_BACK
from stream.core.policy.ring import Ring
from tests.regret.world import PLACES, ROUND_S, Floats, Ints, Visits, World

# The model, with numbers that make lists without exploring best.
HALF_LIVES_S: Final = np.array([2 * 86_400.0, 3600.0], np.float32)
SHARES: Final = np.array([1.0, 1.0], np.float32)
STRENGTH: Final = 0.1
BETA: Final = 0.7
WEIGHTS: Final = {EventType.VIEW: 0.1, EventType.CLICK: 0.2}

POOL: Final = 60
COUNTS_HALF_LIFE_S: Final = 2 * 86_400.0
BROWSES: Final = 0.5  # chance that a shopper whom no item of the list tempted looks further


class Asked(NamedTuple):
    """The lists of one round, to be made by a policy.

    Attributes
    ----------
    number, time_s : of the round
    people : int64, shape (n,); who each shopper is: a stranger has a new number
    there : items that have arrived, rows 0 to there - 1
    logits : float32, shape (n, there); of the model
    states : float32, shape (n, 2 * dim)
    ring : last interactions; rows are those of `table`: an item's row + 1
    table : float32, shape (items + 1, dim); row 0 is no item
    bias, impressions, clicks : float32, shape (there,); what the model says of items, their counts
    trained : items that the model was trained on, the first ones
    """

    number: int
    time_s: float
    people: Ints
    there: int
    logits: NDArray[np.float32]
    states: NDArray[np.float32]
    ring: Ring
    table: NDArray[np.float32]
    bias: NDArray[np.float32]
    trained: int
    impressions: NDArray[np.float32]
    clicks: NDArray[np.float32]


class Policy(Protocol):
    """Makes lists."""

    def lists(self, asked: Asked) -> Ints:
        """Items by row: int64, shape (n, PLACES)."""

    def learn(self, seen: Ints, clicked: Ints) -> None:
        """How much of the last lists was looked at and clicked: int64, shape (n,)."""


class Outcome(NamedTuple):
    """What a run came to.

    Attributes
    ----------
    regret : float64, shape (rounds,); clicks that the best lists would have had in expectation
        beyond those of the lists that were shown
    tried : share of the new items that were looked at 20 times or more
    looks : int64, shape (items,); how often each item was looked at
    """

    regret: Floats
    tried: float
    looks: Ints


class Shop:
    """What the engine would know: states, last interactions, counts of items."""

    def __init__(self, world: World) -> None:
        shoppers, dim, items = world.size.shoppers, world.size.dim, world.items
        self.people = np.arange(shoppers)
        self._next_person = shoppers
        self.states = np.zeros((shoppers, len(SHARES), dim), np.float32)
        self._newest_s = np.zeros(shoppers)
        self._head = np.zeros(shoppers, np.int64)
        self._rows = np.zeros((shoppers, LOOK_BACK), np.int64)
        self._types = np.zeros((shoppers, LOOK_BACK), np.uint8)
        self._times_s = np.zeros((shoppers, LOOK_BACK))
        self.table = np.concatenate([np.zeros((1, dim), np.float32), items.vectors])
        self.impressions = np.zeros(len(items.vectors), np.float32)
        self.clicks = np.zeros(len(items.vectors), np.float32)

    def forget(self, who: Ints) -> None:
        """These shoppers are strangers from now on."""
        for column in (self.states, self._newest_s, self._head, self._rows, self._types):
            column[who] = 0
        self.people[who] = self._next_person + np.arange(len(who))
        self._next_person += len(who)

    def note(self, who: Ints, items: Ints, done: EventType, time_s: float) -> None:
        """Distinct shoppers turn towards an item each."""
        gap_s = np.where(self._newest_s[who] > 0, time_s - self._newest_s[who], 0)
        kept = np.exp2(-gap_s[:, None] / HALF_LIVES_S).astype(np.float32)
        arriving = np.float32(WEIGHTS[done]) * self.table[items + 1]
        self.states[who] = self.states[who] * kept[:, :, None] + arriving[:, None]
        self._newest_s[who] = time_s
        at = self._head[who] % LOOK_BACK
        self._rows[who, at], self._types[who, at] = items + 1, done
        self._times_s[who, at] = time_s
        self._head[who] += 1

    def ring(self, who: Ints) -> Ring:
        """Last interactions of some shoppers."""
        newest = (self._head[who, None] - 1 - np.arange(LOOK_BACK)) % LOOK_BACK
        ages_s = np.maximum(self._newest_s[who, None] - self._times_s[who], 0)
        return Ring(self._rows[who], self._types[who], ages_s.astype(np.float32), newest)

    def interests(self, who: Ints) -> NDArray[np.float32]:
        """The readout of `decay`: float32, shape (n, dim)."""
        sums = self.states[who]
        lengths = np.sqrt((sums**2).sum(axis=2, keepdims=True) + STRENGTH**2)
        interests: NDArray[np.float32] = np.einsum("nsd,s->nd", sums / lengths, SHARES)
        return interests

    def count(self, seen: Ints, clicked: Ints, after_s: float) -> None:
        """Count items that were looked at, and clicked, after a time without."""
        kept = np.float32(2 ** (-after_s / COUNTS_HALF_LIFE_S))
        self.impressions *= kept
        self.clicks *= kept
        np.add.at(self.impressions, seen, 1)
        np.add.at(self.clicks, clicked, 1)


def run(world: World, policy: Policy, seed: int) -> Outcome:
    """Let a policy make all lists of a world; `seed` draws who looks how far and clicks."""
    size, dice = world.size, np.random.default_rng([seed, 2])
    shop, looks = Shop(world), np.zeros(len(world.items.appeal), np.int64)
    looked_at = size.looks_on ** np.arange(PLACES)
    regret = np.zeros(size.rounds)
    for number, visits in enumerate(world.rounds):
        time_s = (number + 1) * ROUND_S
        who = visits.shoppers
        shop.forget(visits.strangers)
        begins = visits.opened >= 0
        shop.note(who[begins], visits.opened[begins], EventType.VIEW, time_s)
        shown = policy.lists(_asked(world, shop, number, visits))
        chances = world.chances(number, visits.wishes, shown)
        regret[number] = ((visits.best - chances) * looked_at).sum()
        # The same dice for every policy: as many of them, whatever it shows.
        far = dice.geometric(1 - size.looks_on, len(who))
        seen = np.arange(PLACES) < far[:, None]
        clicked = seen & (dice.random(shown.shape) < chances)
        further = (dice.random(len(who)) < BROWSES) & ~clicked.any(axis=1)
        shop.note(who[further], visits.browsed[further], EventType.VIEW, time_s)
        for place in range(PLACES):
            at = np.flatnonzero(clicked[:, place])
            shop.note(who[at], shown[at, place], EventType.CLICK, time_s)
        shop.count(shown[seen], shown[clicked], ROUND_S)
        np.add.at(looks, shown[seen], 1)
        policy.learn(seen.sum(axis=1), clicked.sum(axis=1))
    return Outcome(regret, float((looks[size.items :] >= 20).mean()), looks)


def _asked(world: World, shop: Shop, number: int, visits: Visits) -> Asked:
    there = world.there(number)
    bias = world.items.known[:there]
    logits = BETA * shop.interests(visits.shoppers) @ shop.table[1 : there + 1].T + bias
    return Asked(
        number,
        (number + 1) * ROUND_S,
        shop.people[visits.shoppers],
        there,
        logits.astype(np.float32),
        shop.states[visits.shoppers].reshape(len(visits.shoppers), -1),
        shop.ring(visits.shoppers),
        shop.table,
        bias,
        world.size.items,
        shop.impressions[:there],
        shop.clicks[:there],
    )
