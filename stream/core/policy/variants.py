"""Variants of placements, and who gets which. In: settings, user keys. Out: arms.

An arm is a placement with the settings of one of its variants: `home/B`. The placement as it stands
itself, which the other users get, is the arm `home`. No placement's name has a `/`.

Knows nothing of lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import NO_ITEM
from stream.core.mixing import points_of
from stream.core.policy.arranging import Picked
from stream.core.policy.audience import Audience
from stream.placements import CONTROL, Placement

_BETWEEN: Final = "/"


def arms_of(rules: Mapping[str, Placement]) -> dict[str, Placement]:
    """Settings by arm, those of one placement next to each other, itself first."""
    arms = {}
    for name, of in rules.items():
        arms[name] = of
        for variant, other in of.variants.items():
            arms[_named(name, variant)] = other.placement
    return arms


def _named(placement: str, variant: str) -> str:
    return f"{placement}{_BETWEEN}{variant}"


def placement_and_variant(arm: str) -> tuple[str, str]:
    """The names of an arm's placement and variant."""
    placement, _, variant = arm.partition(_BETWEEN)
    return placement, variant or CONTROL


class Dealt(NamedTuple):
    """Users of one arm.

    Attributes
    ----------
    arm : its number
    who : int64, shape (n,); which of the audience they are; None: all of it, in order
    """

    placement: str
    variant: str | None
    arm: int
    who: NDArray[np.int64] | None
    audience: Audience


class Deal:
    """One placement's users, shared out over its arms.

    Parameters
    ----------
    first : number of its first arm; the others follow
    """

    def __init__(self, placement: str, rules: Placement, first: int) -> None:
        self.placement = placement
        self._first = first
        self._variants = [CONTROL, *rules.variants]
        shares = [variant.share for variant in rules.variants.values()]
        self._ends = np.cumsum(np.array(shares, np.float64))

    @property
    def numbered(self) -> list[tuple[int, str]]:
        """Its arms, by number and name."""
        names = [self.placement, *(_named(self.placement, name) for name in self._variants[1:])]
        return list(enumerate(names, self._first))

    def arms(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Numbers of users' arms: int64, shape (n,)."""
        if not len(self._ends):
            return np.full(len(keys), self._first)
        # Where users stand on the line that a placement's variants share: of each another line.
        points = points_of(keys, salt=self.placement.encode())
        passed = (points[:, None] >= self._ends).sum(axis=1)
        arms: NDArray[np.int64] = self._first + (passed + 1) % len(self._variants)
        return arms

    def deal(self, audience: Audience) -> list[Dealt]:
        """The arms that some of the users get, each with these users."""
        if not len(self._ends):
            return [Dealt(self.placement, None, self._first, None, audience)]
        arms = self.arms(audience.keys)
        dealt = []
        for arm in np.unique(arms).tolist():
            who = np.flatnonzero(arms == arm)
            variant = self._variants[arm - self._first]
            dealt.append(Dealt(self.placement, variant, arm, who, audience.take(who)))
        return dealt


def together(
    dealt: Sequence[Dealt], picked: Sequence[Picked], users: int
) -> tuple[list[Picked], NDArray[np.uint16]]:
    """The lists of each placement, of all its arms.

    Parameters
    ----------
    dealt, picked : users and their lists, arms of one placement one after the other
    users : how many there are

    Returns
    -------
    lists : of all users, as long as the longest; without codes and propensities where there are
        variants
    arms : uint16, shape (users, placements); numbers of the arms that made them
    """
    lists, arms = [], []
    for _, some in groupby(zip(dealt, picked, strict=True), key=lambda pair: pair[0].placement):
        parts = list(some)
        whole, by = parts[0][1], np.full(users, parts[0][0].arm, np.uint16)
        if parts[0][0].who is not None:
            shape = users, max(shown.rows.shape[1] for _, shown in parts)
            rows, scores = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
            explored = np.zeros(shape, np.bool_)
            for one, shown in parts:
                who = np.arange(users) if one.who is None else one.who
                at = np.ix_(who, np.arange(shown.rows.shape[1]))
                rows[at], scores[at], by[who] = shown.rows, shown.scores, one.arm
                explored[at] = False if shown.explored is None else shown.explored
            whole = Picked(rows, scores, explored=explored)
        lists.append(whole)
        arms.append(by)
    return lists, np.stack(arms, axis=1)


def columns_of(arm: int, shown: Picked, prices: NDArray[np.float64]) -> NDArray[np.int64]:
    """What a reader of an arm's lists sees: items in their order, and what they cost.

    Parameters
    ----------
    prices : float64, shape (rows,); of all items

    Returns
    -------
    int64, shape (n, any); equal for lists that show the same
    """
    listed = np.logical_and.accumulate(shown.scores > 0, axis=1)
    rows = np.where(listed, shown.rows, NO_ITEM)
    cost = prices[rows].view(np.int64)
    return np.concatenate([np.full((len(rows), 1), arm), rows, cost], axis=1)
