"""What impressions and clicks tell of items: more or less than the model's biases foretell.

In: an item's impressions and clicks, its bias. Out: what to add to its logit, and how sure that is.

Clicks of an item are taken as Poisson around `lift x expected`, where expected are the clicks that
an item of its bias would have had from as many impressions; the lift before any impression as Gamma
with mean 1 (the gamma-Poisson model of DuMouchel 1999, "Bayesian Data Mining in Large Frequency
Tables"). A prior of s clicks leaves the lift's logarithm a standard deviation of about 1 / sqrt(s):
for items of the training `TRAINED_CLICKS`, for others the spread of all biases, since theirs is
only the median. The upper bound is the mean plus some standard deviations, as Bayes-UCB has
quantiles (Kaufmann, Cappe and Garivier 2012, "On Bayesian Upper Confidence Bounds").

Knows nothing of users or lists.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAINED_CLICKS: Final = 8.0
_NEW_CLICKS: Final = (0.25, 4.0)  # at least and at most: a spread of 2, and of 1/2
# Below this rate of clicks a shop's impressions are not believed: it may send none of its clicks.
LEAST_RATE: Final = 1e-4


class Appeal(NamedTuple):
    """What to add to the logits of items, by row.

    Attributes
    ----------
    learned : float32, shape (rows,); logarithm of the lift's mean; 0 without impressions
    hoped : float32, shape (rows,), >= 0; by how much an optimist adds more: large where little is
        known, next to nothing after many clicks
    new : bool, shape (rows,); not trained, and shown too seldom to tell: fewer clicks are expected
        than its prior has
    """

    learned: NDArray[np.float32]
    hoped: NDArray[np.float32]
    new: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        impressions: NDArray[np.float32],
        clicks: NDArray[np.float32],
        bias: NDArray[np.float32],
        trained: int,
        optimism: float,
    ) -> Appeal:
        """Of every row.

        Parameters
        ----------
        impressions, clicks : float32, shape (rows,), >= 0, decayed to the same time
        bias : float32, shape (rows,); the model's
        trained : rows that the model was trained on, the first ones
        optimism : standard deviations
        """
        odds = np.exp(np.clip(bias, -30.0, 30.0), dtype=np.float64)
        foretold = impressions * odds
        seen, clicked = foretold.sum(), float(clicks.sum())
        if seen > 0 and clicked >= LEAST_RATE * impressions.sum():
            expected = foretold * (clicked / seen)
        else:
            expected = np.zeros_like(foretold)
        prior = np.full(len(bias), TRAINED_CLICKS)
        if trained:
            variance = float(bias[:trained].var(dtype=np.float64))
            prior[trained:] = np.clip(1 / max(variance, 1e-9), *_NEW_CLICKS)
        learned = np.log((clicks + prior) / (expected + prior))
        hoped = optimism / np.sqrt(clicks + prior)
        new = expected < prior
        new[:trained] = False
        return cls(learned.astype(np.float32), hoped.astype(np.float32), new)
