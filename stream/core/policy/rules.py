"""What is done with some items on some users' lists. In: settings, users. Out: changes to biases.

Which rules are in force for a user is a number, a bit a rule: users of one number have one bias a
row, and so the exact best items are found among those that they may get. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import Catalogue
from stream.core.policy.audience import Audience
from stream.core.policy.history import Purchases
from stream.core.policy.pins import is_on
from stream.placements import Items, Rule, Shoppers

_EVERYONE = Shoppers()
_MOST_LIKELY: Final = 8  # half of the biases that a placement keeps


class Rules:
    """The rules of one placement."""

    def __init__(self, rules: Sequence[Rule], catalogue: Catalogue) -> None:
        self._rules = rules
        self._catalogue = catalogue

    def in_force(self, audience: Audience) -> NDArray[np.int64]:
        """Which rules are in force for each user, as bits: int64, shape (n,)."""
        bits = np.zeros(len(audience.states), np.int64)
        for number, rule in enumerate(self._rules):
            if not is_on(rule.start, rule.end, audience.now_ms):
                continue
            if rule.users == _EVERYONE:
                about = np.ones(len(bits), np.bool_)
            else:
                about = are_about(rule.users, audience, self._catalogue)
            if rule.do == "reserve":
                about = ~about
            bits |= about.astype(np.int64) << number
        return bits

    def likely(self, now_ms: int) -> list[int]:
        """What `in_force` may say now, as bits: what users have in common first, a few at most.

        Parameters
        ----------
        now_ms : wall-clock time
        """
        on = [
            (1 << number, rule.users == _EVERYONE)
            for number, rule in enumerate(self._rules)
            if is_on(rule.start, rule.end, now_ms)
        ]
        for_all = sum(bit for bit, everyone in on if everyone)
        for_some = [bit for bit, everyone in on if not everyone]
        several = chain.from_iterable(
            combinations(for_some, size) for size in range(len(for_some) + 1)
        )
        return [for_all + sum(some) for some in islice(several, _MOST_LIKELY)]

    def met(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the rows a rule is about: bool, shape (m,)."""
        return meet(self._rules[number].items, self._catalogue, rows)

    def act(
        self,
        bits: int,
        rows: NDArray[np.int64],
        bias: NDArray[np.float32],
        never: float,
        known: Mapping[int, NDArray[np.bool_]] | None = None,
    ) -> None:
        """Change the biases of some rows as the rules in force say, in place.

        Parameters
        ----------
        rows : int64, shape (m,)
        bias : float32, shape (m,)
        never : the bias of an item that is not to be listed
        known : what `met` says, by the number of the rule; None: it is found out
        """
        for number, rule in enumerate(self._rules):
            if bits >> number & 1:
                met = self.met(number, rows) if known is None else known[number]
                if rule.do == "boost":
                    bias[met & (bias != np.float32(never))] += np.float32(rule.add or 0.0)
                else:
                    bias[~met if rule.do == "keep" else met] = never

    @property
    def boosts(self) -> bool:
        """Whether any of them lifts items."""
        return any(rule.do == "boost" and (rule.add or 0) > 0 for rule in self._rules)

    def boosted(self, bits: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which items a rule in force lifts: bool, shape (n, k).

        Parameters
        ----------
        bits : int64, shape (n,); of `in_force`
        rows : int64, shape (n, k)
        """
        lifted = np.zeros(rows.shape, np.bool_)
        some, at = np.unique(rows, return_inverse=True)
        for number, rule in enumerate(self._rules):
            if rule.do == "boost" and (rule.add or 0) > 0:
                met = meet(rule.items, self._catalogue, some)[at].reshape(rows.shape)
                lifted |= met & (bits[:, None] >> number & 1 > 0)
        return lifted


def meet(condition: Items, catalogue: Catalogue, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the rows meet a condition: bool, shape (len(rows),)."""
    attributes = catalogue.attributes
    met = np.ones(len(rows), np.bool_)
    if condition.ids is not None:
        met &= np.isin(rows, catalogue.rows(condition.ids))
    if condition.kinds is not None:
        met &= catalogue.are(condition.kinds, rows)
    if condition.categories is not None:
        met &= attributes.is_one_of("category", condition.categories, rows)
    if condition.brands is not None:
        met &= attributes.is_one_of("brand", condition.brands, rows)
    if condition.shops is not None:
        met &= attributes.is_one_of("shop", condition.shops, rows)
    if condition.tags is not None:
        met &= attributes.have_tag(condition.tags, rows)
    if condition.price_from is not None:
        met &= attributes.prices[rows] >= condition.price_from
    if condition.price_to is not None:
        met &= attributes.prices[rows] <= condition.price_to
    return met


def are_about(condition: Shoppers, audience: Audience, catalogue: Catalogue) -> NDArray[np.bool_]:
    """Which of the users meet a condition: bool, shape (n,)."""
    met = np.ones(len(audience.states), np.bool_)
    events = audience.headers["events"]
    if condition.events_from is not None:
        met &= events >= condition.events_from
    if condition.events_to is not None:
        met &= events <= condition.events_to
    bought = Purchases.of(audience, catalogue, condition.categories)
    for found, low, high in (
        (bought.times, condition.purchases_from, condition.purchases_to),
        (bought.spent, condition.spent_from, condition.spent_to),
    ):
        if low is not None:
            met &= found >= low
        if high is not None:
            met &= found <= high
    if condition.bought_within_s is not None:
        met &= bought.newest_s <= condition.bought_within_s
    if condition.bought_before_s is not None:
        met &= bought.newest_s > condition.bought_before_s
    return met
