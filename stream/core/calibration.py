"""Calibration: a monotone piecewise-linear map of logits. In: knots. Out: the map and its inverse.

With it the scores of a list are probabilities; ranks stay, since it only rises. A score graph has
it before its Sigmoid; the manifest names its knots for what has to look behind it (`policy.bids`).
Must not know: models, how it was fitted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

LEAST_SLOPE: Final = 1e-3  # what rises more slowly would make ties of ranks
MAX_KNOTS: Final = 1_024

Floats = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]


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
        with np.errstate(over="ignore"):  # looked at below
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
    def slopes(self) -> Float64:
        """float64, shape (P - 1,); of each stretch between two knots."""
        slopes: Float64 = np.diff(self.y.astype(np.float64)) / np.diff(self.x.astype(np.float64))
        return slopes

    def apply(self, logits: Floats) -> Float64:
        """The calibrated logits: float64, of the same shape. -inf stays what it is."""
        x, y = self.x.astype(np.float64), self.y.astype(np.float64)
        stretch = np.clip(np.searchsorted(x, logits, side="right") - 1, 0, len(x) - 2)
        return y[stretch] + self.slopes[stretch] * (logits - x[stretch])

    def probability(self, logits: Floats) -> Float64:
        """The scores that these logits become, their sigmoid: float64, of the same shape."""
        found: Float64 = np.exp(-np.logaddexp(0.0, -self.apply(logits)))
        return found

    def invert(self, calibrated: Floats) -> Float64:
        """The logits that these were: float64, of the same shape."""
        x, y = self.x.astype(np.float64), self.y.astype(np.float64)
        stretch = np.clip(np.searchsorted(y, calibrated, side="right") - 1, 0, len(x) - 2)
        return x[stretch] + (calibrated - y[stretch]) / self.slopes[stretch]


class Knots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A calibration as a manifest has it; see `Calibration`."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def map(self) -> Calibration:
        """The map that these are the knots of.

        Raises
        ------
        ValueError : they are of none, or too many
        """
        if len(self.x) > MAX_KNOTS:
            raise ValueError(f"a calibration has at most {MAX_KNOTS} knots")
        return Calibration.of(self.x, self.y)


NONE: Final = Calibration.of([0, 1], [0, 1])  # every logit stays what it is
