"""Errors of predicted ratings. In: predictions and ratings, float64 [n]. Out: a number.

Must not know: models.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def rmse(predicted: Float64, rated: Float64) -> float:
    """Root of the mean squared error, in the rating's own unit."""
    return float(np.sqrt(np.mean((predicted - rated) ** 2)))


def mae(predicted: Float64, rated: Float64) -> float:
    """Mean absolute error, in the rating's own unit."""
    return float(np.mean(np.abs(predicted - rated)))
