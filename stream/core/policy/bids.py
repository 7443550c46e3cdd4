"""Ads by what a click on them pays, times how probable it is. In: bids, scores. Out: logits, worth.

An exact top-k is by logits, and the logarithm of bid times probability is none. But logits can be
raised by the bid's logarithm: then a pool is found by those, and what is outside of it cannot be
worth more than its last entry's raised logit allows (`Bids.bound`). Where the bundle maps logits to
those of probabilities, a bid was added before that map, and is taken off before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.attributes import Attributes
from stream.core.calibration import NONE, Calibration
from stream.core.manifest import Manifest
from stream.errors import SettingsError

_LEAST_GAP = 1e-12


def map_of(manifest: Manifest) -> Calibration:
    """The map of logits that a bundle's score graph has before its sigmoid.

    Raises
    ------
    SettingsError
        The manifest does not tell it: bids cannot be told from what the map made of them.
    """
    if manifest.calibration is not None:
        return manifest.calibration.map()
    if manifest.head is not None and manifest.head.score == "calibrated sigmoid":
        raise SettingsError(
            "by_bid: this bundle's scores are calibrated, and its manifest does not tell how, as "
            "`freshet-export train` wrote them before; train it again, or leave by_bid out"
        )
    return NONE


class Bids:
    """The bids of a catalogue, against the highest, lest raised logits are all scores of 1.

    Parameters
    ----------
    calibration : of the bundle's score graph
    """

    def __init__(self, attributes: Attributes, calibration: Calibration = NONE) -> None:
        self._attributes = attributes
        self._calibration = calibration
        self._log_highest = 0.0
        self._lowest = 0.0
        self.rescale()

    def rescale(self) -> bool:
        """Whether the highest bid became another; then all logits did."""
        bids = self._attributes.full_bids  # pacing lowers some for a while
        highest = float(np.nanmax(bids, initial=0.0))
        before, self._log_highest = self._log_highest, float(np.log(highest)) if highest else 0.0
        lowest = float(np.nanmin(self._attributes.bids, initial=highest))
        self._lowest = float(np.log(lowest)) - self._log_highest if highest else 0.0
        return before != self._log_highest

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What raises the logits of some rows, <= 0; NaN without a bid. float32, any shape."""
        bids = self._attributes.bids
        raised = np.log(bids[np.minimum(rows, len(bids) - 1)]) - self._log_highest
        return np.asarray(raised, np.float32)

    def lowered(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores as they are without the bids, of such that were raised; 0 stays 0."""
        by = np.where(scores > 0, np.nan_to_num(self.logits(rows)), 0.0)
        lowered = self._calibration.probability(self._logit(scores) - by)
        return np.where(scores > 0, lowered, 0.0).astype(np.float32)

    def _logit(self, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """The logits before the map, of these scores: float64, of the same shape."""
        score = np.maximum(scores, np.finfo(np.float32).tiny).astype(np.float64)
        return self._calibration.invert(np.log(score / np.maximum(1.0 - score, _LEAST_GAP)))

    def worth(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithm of bid times score, against the highest bid; of scores that are `lowered`."""
        tiny = np.finfo(np.float32).tiny
        worth = np.log(np.maximum(scores, tiny).astype(np.float64))
        worth += np.nan_to_num(self.logits(rows))
        return worth

    def bound(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """What nothing outside of pools is worth more than: float64, shape (n,).

        Outside, a logit raised by b is at most the last entry's L, and so its worth at most
        b + log sigmoid(c(L - b)) < b + min(0, c(L - b)), c being the map. That is linear in b
        between the knots of c, so it is largest at one of them, where c is 0, or at an end.
        """
        last = self._logit(scores[:, -1]) + np.nan_to_num(self.logits(rows[:, -1]))
        c = self._calibration
        corners = np.concatenate([c.x, c.invert(np.zeros(1)), [-np.inf, np.inf]])
        logits = np.clip(corners, last[:, None], last[:, None] - self._lowest)
        bound: NDArray[np.float64] = np.max(
            last[:, None] - logits + np.minimum(0.0, c.apply(logits)), axis=1
        )
        return bound
