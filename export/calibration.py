"""Calibration: a monotone piecewise-linear map of logits. In: knots. Out: the map, in NumPy.

With it the scores of a list are probabilities; ranks stay, since it only rises. `to_onnx` puts the
same map into a score graph. Must not know: models, how the knots were found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LEAST_SLOPE = 1e-3  # what rises more slowly would make ties of ranks


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
        """The calibrated logits: float64, of the same shape."""
        x, y = self.x.astype(np.float64), self.y.astype(np.float64)
        stretch = np.clip(np.searchsorted(x, logits, side="right") - 1, 0, len(x) - 2)
        return y[stretch] + self.slopes[stretch] * (logits - x[stretch])
