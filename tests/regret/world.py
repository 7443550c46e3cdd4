"""A shop whose truth is known: items, shoppers with drifting tastes, what they would click.

In: a seed. Out: who comes when, which items there are, the chance of every click. The whole course
of a world is drawn before anybody is shown a list, so that every policy meets the same one.

Knows nothing of models, lists or policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PLACES: Final = 10  # of a list
ROUND_S: Final = 1200.0  # between two looks of one session: less than what ends one
FOUND: Final = (
    30  # items that come a shopper's way in browsing, who takes the one most to the taste
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is, and how it moves.

    Attributes
    ----------
    rounds : of `ROUND_S` each
    shoppers : at a time
    items, newcomers : at the start, and those that arrive at random rounds later
    topics, dim : what items are about; numbers of an item's vector
    tastes : topics that a shopper likes
    starts, stays : chance that a session begins in a round, and that it goes on
    direct : chance that a session's first event is about what the session is about, and not about
        any of the tastes
    leaves : chance of a round that a shopper leaves for ever and a stranger takes the place
    drifts : chance that a session begins with one of the tastes replaced
    strays : chance that a session is about something outside the tastes
    slope, level : of a click's logit: how much an item's nearness to the wish counts, and what is
        taken off
    appeal : standard deviation of what an item adds to it, whoever looks
    fades : what an item loses of that until the last round, if it was there from the first
    guessed : standard deviation of the error in what the model knows of the first items' appeal
    looks_on : chance to look at a list's next place
    """

    rounds: int = 240
    shoppers: int = 400
    items: int = 250
    newcomers: int = 100
    topics: int = 6
    dim: int = 16
    tastes: int = 2
    starts: float = 0.05
    stays: float = 0.8
    direct: float = 0.4
    leaves: float = 1 / 500
    drifts: float = 0.05
    strays: float = 0.1
    slope: float = 2.0
    level: float = 3.2
    appeal: float = 1.1
    fades: float = 2.0
    guessed: float = 0.4
    looks_on: float = 0.85


@dataclass(frozen=True, slots=True)
class Items:
    """All items that there will ever be, the first ones first.

    Attributes
    ----------
    vectors : float32, shape (n, dim), of length 1; the model knows them as soon as they are there
    appeal : float64, shape (n,); when they arrive
    known : float32, shape (n,); what the model takes for it: a guess for the items of the start,
        nothing for the new ones
    since : int64, shape (n,); the round of their arrival, in order
    """

    vectors: NDArray[np.float32]
    appeal: Floats
    known: NDArray[np.float32]
    since: Ints


@dataclass(frozen=True, slots=True)
class Visits:
    """Who looks at a list in one round.

    Attributes
    ----------
    shoppers : int64, shape (n,)
    strangers : int64; shoppers that are somebody else from now on
    wishes : float64, shape (n, dim), of length 1; what they are after
    opened : int64, shape (n,); the item that a session begins with; -1: it goes on
    browsed : int64, shape (n,); what they would find by themselves
    best : float64, shape (n, PLACES); chances of the best list
    """

    shoppers: Ints
    strangers: Ints
    wishes: Floats
    opened: Ints
    browsed: Ints
    best: Floats


class World:
    """One course of a shop.

    Attributes
    ----------
    items : see `Items`
    rounds : the visits of each
    """

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self._rng = np.random.default_rng([seed, 1])
        self._topics = _unit(self._rng.normal(size=(size.topics, size.dim)))
        self.items = self._make_items()
        self.rounds = list(self._course())

    def _make_items(self) -> Items:
        size, rng = self.size, self._rng
        n = size.items + size.newcomers
        about = self._topics[rng.integers(size.topics, size=n)]
        spread = rng.normal(size=(n, size.dim)) * 0.45 / np.sqrt(size.dim)
        appeal = rng.normal(size=n) * size.appeal
        guess = appeal + rng.normal(size=n) * size.guessed
        arrivals = np.sort(rng.integers(1, size.rounds, size.newcomers))
        return Items(
            _unit(about + spread).astype(np.float32),
            appeal,
            np.where(np.arange(n) < size.items, guess, 0.0).astype(np.float32),
            np.concatenate([np.zeros(size.items, np.int64), arrivals]),
        )

    def _course(self) -> Iterator[Visits]:
        size, rng, n = self.size, self._rng, self.size.shoppers
        everyone = np.arange(n)
        tastes = rng.integers(size.topics, size=(n, size.tastes))
        about = np.zeros(n, np.int64)
        inside = np.zeros(n, np.bool_)
        for number in range(size.rounds):
            gone = rng.random(n) < size.leaves
            tastes[gone] = rng.integers(size.topics, size=(int(gone.sum()), size.tastes))
            begins = (~inside & (rng.random(n) < size.starts)) | (inside & gone)
            turned = np.flatnonzero(begins & (rng.random(n) < size.drifts))
            at = rng.integers(size.tastes, size=len(turned))
            tastes[turned, at] = rng.integers(size.topics, size=len(turned))
            chosen = tastes[everyone, rng.integers(size.tastes, size=n)]
            astray = rng.random(n) < size.strays
            chosen = np.where(astray, rng.integers(size.topics, size=n), chosen)
            about = np.where(begins, chosen, about)
            inside |= begins
            who = np.flatnonzero(inside)
            any_taste = tastes[who, rng.integers(size.tastes, size=len(who))]
            first = np.where(rng.random(len(who)) < size.direct, about[who], any_taste)
            opened = self._browse(number, self._topics[first])
            tasted = self._topics[tastes[who]].mean(axis=1)
            wishes = _unit(0.5 * self._topics[about[who]] + tasted)
            yield Visits(
                who,
                np.flatnonzero(gone),
                wishes,
                np.where(begins[who], opened, -1),
                self._browse(number, wishes),
                self._best(number, wishes),
            )
            inside &= rng.random(n) < size.stays

    def _browse(self, number: int, wishes: Floats) -> Ints:
        found = self._rng.integers(self.there(number), size=(len(wishes), FOUND))
        near = np.einsum("nd,nfd->nf", wishes, self.items.vectors[found])
        chosen: Ints = found[np.arange(len(wishes)), near.argmax(axis=1)]
        return chosen

    def _best(self, number: int, wishes: Floats) -> Floats:
        rows = np.arange(self.there(number))
        near = wishes @ self.items.vectors[rows].T
        chances = self._clicked(number, near, rows)
        return -np.sort(-np.partition(chances, -PLACES, axis=1)[:, -PLACES:], axis=1)

    def there(self, number: int) -> int:
        """Items that have arrived by this round: the first so many."""
        return int(np.searchsorted(self.items.since, number, side="right"))

    def chances(self, number: int, wishes: Floats, shown: Ints) -> Floats:
        """Chances that shown items are clicked when they are looked at.

        Parameters
        ----------
        wishes : float64, shape (n, dim)
        shown : int64, shape (n, k)

        Returns
        -------
        float64, shape (n, k)
        """
        near = np.einsum("nd,nkd->nk", wishes, self.items.vectors[shown])
        return self._clicked(number, near, shown)

    def _clicked(self, number: int, near: Floats, rows: Ints) -> Floats:
        age = np.maximum(number - self.items.since[rows], 0) / self.size.rounds
        appeal = self.items.appeal[rows] - self.size.fades * age
        chances: Floats = 1 / (1 + np.exp(self.size.level - self.size.slope * near - appeal))
        return chances


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
