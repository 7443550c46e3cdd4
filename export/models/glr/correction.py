"""What counts tell that the networks and the shares of companions do not. In: `Counts`. Out: terms
of biases, and what companions are worth.

Two small networks, one of items and one of pairs, read the counts; `correcting.py` fits them on
held-out events (stacked generalisation: Wolpert 1992). What they say stands in numbers that a
bundle has anyway, so a score costs what it costs without them. NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import erf

from export.models.base import Float32
from export.models.glr.companions import Companions
from export.models.glr.counts import Counts

_AT_ONCE = 500_000


class Perceptron(NamedTuple):
    """One hidden layer: gelu(x' inward + shift) outward + constant, of F features and H units.

    x' is x within `low` and `high`, which is what it was fitted on, less `middle`, over `spread`.

    Attributes
    ----------
    low, high, middle, spread : float32 [F]
    inward : float32 [F, H]
    shift, outward : float32 [H]
    """

    low: Float32
    high: Float32
    middle: Float32
    spread: Float32
    inward: Float32
    shift: Float32
    outward: Float32
    constant: float

    def __call__(self, features: Float32) -> Float32:
        """Of float32 [m, F]: float32 [m]."""
        found = np.empty(len(features), np.float32)
        for begin in range(0, len(features), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            x = (np.clip(features[part], self.low, self.high) - self.middle) / self.spread
            wide = x @ self.inward + self.shift
            bent = wide * (1 + erf(wide / np.sqrt(2))) / 2
            found[part] = bent @ self.outward + self.constant
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What is added to an item's bias, and to what each of its companions is worth."""

    of_items: Perceptron
    of_pairs: Perceptron

    def biases(self, counts: Counts) -> Float32:
        """The term of each row: float32 [n], 0 for row 0."""
        found = self.of_items(counts.items)
        found[0] = 0
        return found

    def companions(self, counts: Counts) -> Companions:
        """The same companions, and what they are worth now."""
        before = counts.companions
        worth = before.worth.copy()
        at = np.flatnonzero(before.rows)
        for begin in range(0, len(at), _AT_ONCE):
            some = at[begin : begin + _AT_ONCE]
            worth.ravel()[some] += self.of_pairs(counts.pairs(some))
        return Companions(before.rows, worth)
