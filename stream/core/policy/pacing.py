"""Bids of ads with a budget, lowered as it is spent. In: counts of clicks. Out: paced bids.

A budget for a period is a rate of spending, budget / period, and an ad spends by its clicks: the
`recent` ones of the merged counts, which fade with a time constant tau = half-life / ln 2. At the
budget's rate that count is, in the mean, c = budget / (period x bid) x tau. Each click makes it
jump by 1 and then fade. If the ad is off the lists while the count is above c' and clicked at once
below it, the count runs from c' + 1 to c' over and over, with a mean of 1 / ln((c' + 1) / c'). So
that this is c,

    c' = 1 / (exp(1 / c) - 1)

and the bid falls from all of it at nine tenths of c' to nothing at c'. For large budgets c' is
c - 1/2; a click that costs more than the budget's rate times tau is followed by a pause as long as
the budget takes to earn it. Nothing is kept but the counts, so that all workers pace alike.

Knows nothing of lists.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import Catalogue
from stream.core.policy.exploring import ShopCounts

PACE_EVERY_MS: Final = 1000
_LOWERED_FROM: Final = 0.9  # of the highest count


class Pacing:
    """Lowers the bids of a catalogue's ads.

    Parameters
    ----------
    counts : of all workers
    """

    def __init__(self, catalogue: Catalogue, counts: ShopCounts) -> None:
        self._catalogue = catalogue
        self._counts = counts
        self._as_of_ms = -PACE_EVERY_MS

    def follow(self, now_ms: int) -> None:
        """Take note of clicks; ads whose bids become others count as changed items."""
        attributes = self._catalogue.attributes
        rows = attributes.budgeted
        if not len(rows) or 0 <= now_ms - self._as_of_ms < PACE_EVERY_MS:
            return
        self._as_of_ms = now_ms
        clicks = self._counts.by_row(self._catalogue, now_ms).recent[rows]
        tau_s = self._counts.fading.recent_ms / 1000 / np.log(2)
        afforded = attributes.budget_per_s[rows] / attributes.full_bids[rows] * tau_s
        paces = pace(clicks.astype(np.float64), afforded)
        changed = np.flatnonzero(paces != attributes.paces[rows])
        attributes.pace(rows[changed], paces[changed])
        self._catalogue.changed.update(rows[changed].tolist())


def pace(clicks: NDArray[np.float64], afforded: NDArray[np.float64]) -> NDArray[np.float64]:
    """What bids are multiplied by, 0 to 1: float64, shape (n,).

    Parameters
    ----------
    clicks : faded counts, >= 0
    afforded : their mean at the rate of the budget, >= 0
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        most = 1.0 / np.expm1(1.0 / afforded)
        left = np.where(clicks > 0, (1.0 - clicks / most) / (1.0 - _LOWERED_FROM), 1.0)
    paces: NDArray[np.float64] = np.where(afforded > 0, np.clip(left, 0.0, 1.0), 0.0)
    return paces
