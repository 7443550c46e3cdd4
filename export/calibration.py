"""Calibration: a monotone piecewise-linear map of logits. In: knots. Out: the map, in NumPy.

With it the scores of a list are probabilities; ranks stay, since it only rises. `to_onnx` puts the
same map into a score graph. Must not know: models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

LEAST_SLOPE = 1e-3  # what rises more slowly would make ties of ranks
# From here down a fitted map falls no faster than that: placements list nothing below 5e-7
# (`stream.core.policy.placement.LEAST_SCORE`), a logit of -14.5, and a list is to be full.
LOWEST = -11.5  # a probability of 1e-5
FAR = 1_000.0  # the logits that the map has for what lies below


class Calibration(NamedTuple):
    """Linear between P knots, and beyond the first and the last one with the slopes there.

    Attributes
    ----------
    x : float32, shape (P,), P >= 2; ascending logits
    y : float32, shape (P,); the logits in their place; no slope between two is below `LEAST_SLOPE`
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> Calibration:
        """Knots as float32.

        Raises
        ------
        ValueError : they are no such map
        """
        knots = cls(np.array(x, np.float32), np.array(y, np.float32))
        if knots.x.ndim != 1 or knots.x.shape != knots.y.shape or len(knots.x) < 2:
            raise ValueError("a calibration needs two or more knots, and as many x as y")
        if not (np.isfinite(knots.x).all() and np.isfinite(knots.y).all()):
            raise ValueError("a calibration's knots must be finite")
        if not (np.diff(knots.x) > 0).all():
            raise ValueError("a calibration's x must ascend")
        if not (knots.slopes >= LEAST_SLOPE * (1 - 1e-3)).all():  # float32 rounds
            raise ValueError(f"a calibration must rise by {LEAST_SLOPE} or more everywhere")
        return knots

    @property
    def slopes(self) -> npt.NDArray[np.float64]:
        """float64, shape (P - 1,); of each stretch between two knots."""
        slopes: npt.NDArray[np.float64] = np.diff(self.y.astype(np.float64)) / np.diff(
            self.x.astype(np.float64)
        )
        return slopes

    def apply(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The calibrated logits: float64, of the same shape. -inf stays what it is."""
        x, y = self.x.astype(np.float64), self.y.astype(np.float64)
        stretch = np.clip(np.searchsorted(x, logits, side="right") - 1, 0, len(x) - 2)
        return y[stretch] + self.slopes[stretch] * (logits - x[stretch])

    def probability(self, logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """The scores that these logits become: float64, of the same shape."""
        found: npt.NDArray[np.float64] = special.expit(self.apply(logits))
        return found


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
