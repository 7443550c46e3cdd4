"""Ads by what a click on them pays, times how probable it is. In: bids, scores. Out: logits, worth.

An exact top-k is by logits, and the logarithm of bid times probability is none. But it is less than
bid times odds, whose logarithm is: the logit, raised by the bid's logarithm. So a pool is found by
that, and what is outside of it is worth less than its last entry's bid times odds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.attributes import Attributes

_LEAST_GAP = 1e-12


class Bids:
    """The bids of a catalogue, against the highest, lest raised logits are all scores of 1."""

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._log_highest = 0.0
        self.rescale()

    def rescale(self) -> bool:
        """Whether the highest bid became another; then all logits did."""
        bids = self._attributes.full_bids  # pacing lowers some for a while
        highest = float(np.nanmax(bids, initial=0.0))
        before, self._log_highest = self._log_highest, float(np.log(highest)) if highest else 0.0
        return before != self._log_highest

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What raises the logits of some rows, <= 0; NaN without a bid. float32, any shape."""
        bids = self._attributes.bids
        raised = np.log(bids[np.minimum(rows, len(bids) - 1)]) - self._log_highest
        return np.asarray(raised, np.float32)

    def lowered(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores as they are without the bids, of such that were raised; 0 stays 0."""
        by = np.where(scores > 0, np.nan_to_num(self.logits(rows)), 0.0)
        odds = scores / np.maximum(1.0 - scores.astype(np.float64), _LEAST_GAP) * np.exp(-by)
        lowered: NDArray[np.float32] = (odds / (1.0 + odds)).astype(np.float32)
        return lowered

    def worth(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithm of bid times score, against the highest bid; of scores that are `lowered`."""
        tiny = np.finfo(np.float32).tiny
        worth = np.log(np.maximum(scores, tiny).astype(np.float64))
        worth += np.nan_to_num(self.logits(rows))
        return worth

    def bound(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What nothing outside of pools is worth more than: float64, shape (n,)."""
        last, row = scores[:, -1].astype(np.float64), rows[:, -1]
        odds = np.maximum(last, np.finfo(np.float32).tiny) / np.maximum(1.0 - last, _LEAST_GAP)
        bound: NDArray[np.float64] = np.log(odds) + np.nan_to_num(self.logits(row))
        return bound
