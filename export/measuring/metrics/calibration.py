"""Whether a score is a probability. In: scores and hits of listed items. Out: bins, their error.

Must not know: models, lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

BINS = 15


class Reliability(NamedTuple):
    """Scores in bins of about as many listed items each.

    Attributes
    ----------
    items : int64, shape (bins,); listed items in each
    score : float64, shape (bins,), ascending; their mean score
    hits : float64, shape (bins,); the share of them that were wanted
    """

    items: npt.NDArray[np.int64]
    score: Float64
    hits: Float64

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |hits - score|, weighted by items; 0 is perfect.

        Naeini, Cooper and Hauskrecht 2015. Bins of equal mass, since most scores of a catalogue
        are near 0 and would share one bin of equal width (Nixon et al. 2019).
        """
        if not len(self.items):
            return 0.0
        return float(np.average(np.abs(self.hits - self.score), weights=self.items))


def reliability(
    scores: npt.NDArray[np.floating], hits: npt.NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Sort listed items into bins by score.

    Parameters
    ----------
    scores, hits : of one shape; a score of 0 says that nothing is listed there, and is left out

    Returns
    -------
    at most `bins` bins; equal scores stay together
    """
    some = scores > 0
    score, hit = scores[some].astype(np.float64), hits[some]
    if not len(score):
        return Reliability(np.zeros(0, np.int64), score, score)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    bin_of = np.searchsorted(edges, score)
    items = np.bincount(bin_of)
    used = items > 0
    sums = np.bincount(bin_of, score)[used], np.bincount(bin_of, hit)[used]
    return Reliability(items[used], sums[0] / items[used], sums[1] / items[used])
