"""What counts tell that the networks and the shares of companions do not. In: `Counts`. Out: terms
of biases, and what companions are worth.

Two multi-layer perceptrons, one of items and one of pairs, read the counts; `correcting.py` fits
them on held-out events (stacked generalisation: Wolpert 1992). What they say stands in numbers that
a bundle has anyway, so a score costs what it costs without them. NumPy.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from scipy.special import erf

from export.models.base import Float32, Int64
from export.models.glr.companions import Companions
from export.models.glr.counts import Counts

_ROWS_AT_ONCE: Final = 100_000
_ITEMS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Perceptron:
    """One hidden layer: gelu(z weight_1 + bias_1) weight_2 + bias_2, of F features and H units.

    z = (x - mean) / std, with x no smaller and no larger than what was fitted on.

    Attributes
    ----------
    minimum, maximum, mean, std : float32 [F]; of what was fitted on
    weight_1 : float32 [F, H]
    bias_1, weight_2 : float32 [H]
    bias_2 : in logits
    """

    minimum: Float32
    maximum: Float32
    mean: Float32
    std: Float32
    weight_1: Float32
    bias_1: Float32
    weight_2: Float32
    bias_2: float

    def __call__(self, features: Float32) -> Float32:
        """Of float32 [m, F]: float32 [m]."""
        found = np.empty(len(features), np.float32)
        for begin in range(0, len(features), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            z = (np.clip(features[part], self.minimum, self.maximum) - self.mean) / self.std
            wide = z @ self.weight_1 + self.bias_1
            bent = wide * (1 + erf(wide / math.sqrt(2))) / 2
            found[part] = bent @ self.weight_2 + self.bias_2
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Perceptron):
            return NotImplemented
        return all(map(np.array_equal, astuple(self), astuple(other)))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Correction:
    """What is added to an item's bias, and to what each of its companions is worth, in logits."""

    of_items: Perceptron
    of_pairs: Perceptron

    def biases(self, counts: Counts) -> Float32:
        """The term of each row: float32 [n], 0 for row 0."""
        found = self.of_items(counts.item_features)
        found[0] = 0
        return found

    def companions(self, counts: Counts, items: Int64 | None = None) -> Companions:
        """The same companions, and what they are worth now.

        `items`: rows whose companions are asked for; those of others are left as they were. None:
        all.
        """
        before = counts.companions
        rows, worth = before.rows, before.worth.copy()
        items = np.arange(len(rows)) if items is None else items
        for begin in range(0, len(items), _ITEMS_AT_ONCE):
            some = items[begin : begin + _ITEMS_AT_ONCE]
            at = (some[:, None] * rows.shape[1] + np.arange(rows.shape[1]))[rows[some] > 0]
            worth.ravel()[at] += self.of_pairs(counts.pair_features(at))
        return Companions(rows, worth)
