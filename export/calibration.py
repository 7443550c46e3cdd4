"""Fit a calibration. In: logits, and whether they were hits. Out: the map of logits to odds.

`to_onnx` puts it into a score graph, `bundle` its knots into the manifest. Must not know: models.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from stream.core.calibration import LEAST_SLOPE, Calibration

# From here down a fitted map falls no faster than that: placements list nothing below 5e-7
# (`stream.core.policy.placement.LEAST_SCORE`), a logit of -14.5, and a list is to be full.
LOWEST = -11.5  # a probability of 1e-5
FAR = 1_000.0  # the logits that the map has for what lies below


def fitted(
    logits: npt.NDArray[np.floating], hits: npt.NDArray[np.bool_], knots: int = 12
) -> Calibration | None:
    """The map that makes scores probabilities: isotonic regression on bins of equal mass.

    Zadrozny and Elkan 2002, on logits and with a slope that keeps ranks apart. Below the lowest bin
    it goes on falling as it did, down to `LOWEST`, and hardly any more from there.

    Parameters
    ----------
    logits, hits : of one shape; -inf says that nothing is listed there, and is left out
    knots : at most

    Returns
    -------
    None where there is too little to learn from: less than two bins, or no hit
    """
    listed = np.isfinite(logits)
    logit, hit = logits[listed].astype(np.float64), hits[listed]
    if not hit.any():
        return None
    edges = np.unique(np.quantile(logit, np.linspace(0, 1, knots + 1)[1:-1]))
    bin_of = np.searchsorted(edges, logit)
    size = np.bincount(bin_of, minlength=len(edges) + 1)
    used = size > 0
    mass = size[used].astype(np.float64)
    x = np.bincount(bin_of, logit, len(size))[used] / mass
    # A bin without hits is not impossible: half a hit, and half a miss, in every bin (Jeffreys).
    share = (np.bincount(bin_of, hit, len(size))[used] + 0.5) / (mass + 1)
    rising = special.logit(optimize.isotonic_regression(share, weights=mass).x)
    x, at = np.unique(x.astype(np.float32), return_index=True)
    if len(x) < 2:
        return None
    least = 2 * LEAST_SLOPE * x.astype(np.float64)  # twice: float32 rounds
    return _levelling(x.astype(np.float64), np.maximum.accumulate(rising[at] - least) + least)


def _levelling(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Calibration:
    """The map with these knots that scores of 0 are far below."""
    fall = 2 * LEAST_SLOPE * FAR
    if y[0] > LOWEST:
        slope = (y[1] - y[0]) / (x[1] - x[0])
        x = np.append(x[0] - (y[0] - LOWEST) / slope, x)
        y = np.append(LOWEST, y)
    return Calibration.of(np.append(x[0] - FAR, x), np.append(y[0] - fall, y))
