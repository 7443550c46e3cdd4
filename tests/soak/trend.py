"""Whether a figure grows: a slope, how sure it is, and a verdict. In: samples. Out: words.

A sample is not independent of the one before it (a slow minute is slow throughout), so a line
through all of them would be far surer of itself than it may be. The line goes through the means of
a few blocks instead, which is what a confidence interval by Student's t may be taken of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

BLOCKS = 20
MIN_BLOCKS = 5
CONFIDENCE = 0.95

Verdict = Literal["steady", "grows", "undecided"]


@dataclass(frozen=True)
class Slope:
    """A fitted line's slope per hour, and its confidence interval."""

    per_hour: float
    low: float
    high: float

    def verdict(self, limit_per_hour: float) -> Verdict:
        """`grows`: surely more than the limit; `steady`: surely less; else there is too little."""
        if self.low > limit_per_hour:
            return "grows"
        return "steady" if self.high < limit_per_hour else "undecided"


def fit(times_s: Sequence[float], values: Sequence[float]) -> Slope | None:
    """The slope of `values` over `times_s`; None of fewer than five samples."""
    blocks = min(BLOCKS, len(values))
    if blocks < MIN_BLOCKS:
        return None
    hours = [float(part.mean()) / 3600 for part in np.array_split(np.array(times_s), blocks)]
    means = [float(part.mean()) for part in np.array_split(np.array(values), blocks)]
    line = stats.linregress(hours, means)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, blocks - 2)) * float(line.stderr)
    return Slope(float(line.slope), float(line.slope) - reach, float(line.slope) + reach)
