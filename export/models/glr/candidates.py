"""The items that compete for the lists of held-out cases. In: their logits. Out: the best of each
case, and where they stand among the companions of its last interactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from export.models.base import Float32, Int64
from export.models.glr.blend import Float64
from export.models.glr.logits import Logits

CANDIDATES: Final = 120  # of a case


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The M items of the largest logits of C cases.

    Attributes
    ----------
    rows : int64 [C, M]
    logits : float32 [C, M], descending; -inf for what may not be listed
    target : int64 [C]; where the target stands among them, -1 where it does not or is not listed
    recent : int64 [C, R]; rows of the last interactions, newest first, 0 for none
    """

    rows: Int64
    logits: Float32
    target: Int64
    recent: Int64

    @classmethod
    def of(cls, logits: Logits, weights: Float64, exclude: bool) -> Candidates:
        """Of all cases; arguments as of `Logits.best`."""
        cases = logits.cases
        rows, best = logits.best(weights, exclude, min(CANDIDATES, len(logits.table) - 1))
        hit = (rows == cases.targets[:, None]) & (best > -np.inf)
        return cls(rows, best, np.where(hit.any(1), hit.argmax(1), -1), cases.recent)

    def companion_index(self, companions: Int64) -> Int64:
        """Where each candidate stands among the companions of each recent item: int64 [C, R, M].

        Indices of `companions`, int64 [n, K], flat; -1 where it is none of them.
        """
        n, k = companions.shape
        items = np.unique(self.recent)
        there = (items[:, None] * k + np.arange(k))[companions[items] > 0]
        found = np.full((*self.recent.shape, self.rows.shape[1]), -1, np.int64)
        if not len(there):
            return found
        key = there // k * n + companions.ravel()[there]
        order = np.argsort(key)
        key, there = key[order], there[order]
        for lag in range(self.recent.shape[1]):
            wanted = self.recent[:, lag, None] * n + self.rows
            at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            found[:, lag] = np.where(key[at] == wanted, there[at], -1)
        return found
