"""Placements by other settings, made ready while lists go on by the old ones.

In: settings by placement name. Out: what takes long to make of them, piece by piece. Knows nothing
of files, users or Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.policy.arranging import Arranging, pool_of
from stream.core.policy.biases import Biases
from stream.core.policy.exploring import Explorer, ShopCounts, explores
from stream.core.policy.placement import Placement
from stream.core.policy.variants import arms_of
from stream.placements import Placement as PlacementRules


class Change:
    """Settings of all placements that are to be in force once they are ready.

    Made by `Lists.change_to`, and taken by `Lists.adopt`.

    Parameters
    ----------
    rules : settings by placement name
    now : the placements by the settings in force
    item_bias : float32, shape (rows,); the model's bias of every row
    """

    def __init__(
        self,
        rules: Mapping[str, PlacementRules],
        now: Iterable[Placement],
        model: Model,
        catalogue: Catalogue,
        item_bias: NDArray[np.float32],
    ) -> None:
        self.rules = dict(rules)
        self._changed_rows: set[int] = set()
        there = _biases(now)
        self._made = {
            name: Biases(of, model, catalogue, item_bias)
            for name, of in arms_of(self.rules).items()
            if name not in there or not there[name].suit(of)
        }

    def pieces(self, now_ms: int) -> Iterator[None]:
        """Make ready, a few milliseconds between two steps of the iteration.

        Lists may be made between them, and the catalogue may change.

        Parameters
        ----------
        now_ms : wall-clock time: rules of another time are not made ready
        """
        for biases in self._made.values():
            yield from biases.make(now_ms)

    def note(self, rows: Iterable[int]) -> None:
        """Take note of changed catalogue rows."""
        self._changed_rows.update(rows)

    def biases(self, now: Iterable[Placement], item_bias: NDArray[np.float32]) -> dict[str, Biases]:
        """By arm: what was made, as the catalogue is now, and what is there already."""
        rows = np.fromiter(self._changed_rows, np.int64, len(self._changed_rows))
        for made in self._made.values():
            made.refresh(rows, item_bias)
        return _biases(now) | self._made


def _biases(placements: Iterable[Placement]) -> dict[str, Biases]:
    return {placement.name: placement.by_rules for placement in placements}


class Placed(NamedTuple):
    """What settings make.

    Attributes
    ----------
    explorers : by arm, of those that explore
    placements, arranging : of each arm, in the order of the settings
    """

    explorers: dict[str, Explorer]
    placements: list[Placement]
    arranging: list[Arranging]


def place(
    rules: Mapping[str, PlacementRules],
    biases: Mapping[str, Biases],
    model: Model,
    catalogue: Catalogue,
    counts: ShopCounts,
    item_bias: NDArray[np.float32],
) -> Placed:
    """Build placements.

    Parameters
    ----------
    rules : settings by arm (`variants.py`)
    biases : of the arms for which there are some
    counts : of items, and of rewards of exploring
    item_bias : float32, shape (rows,); the model's bias of every row
    """
    placed = Placed({}, [], [])
    for arm, of in rules.items():
        explorer = None
        if explores(of.explore):
            explorer = Explorer(arm, of.explore, model, catalogue, counts)
            explorer.item_bias = item_bias
            placed.explorers[arm] = explorer
        pool = pool_of(of, exploring=explorer is not None)
        placement = Placement(arm, of, model, catalogue, item_bias, pool, biases.get(arm))
        placed.placements.append(placement)
        placed.arranging.append(Arranging(of, placement, model, catalogue, explorer))
    return placed
