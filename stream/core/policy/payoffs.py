"""How exploring pays: a bandit over multipliers of the temperature, one for each segment of users.

In: impressions (trials) and clicks (rewards of 1) by segment (context) and multiplier (action; an
arm is a placement's here, `variants.py`). Out: by what to multiply the temperature of each user.
Knows nothing of lists, of how temperatures come about, nor of how counts are kept.

Each user has a place in [0, 1) for good, and each multiplier of a segment a share of that line. So
a user stays with a multiplier while its share stands, and what exploring costs now and brings later
are counted together. Shares follow Thompson (1933): the chance that a multiplier's click rate is
the best one, by what was counted.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS: Final = (0.0, 0.5, 1.0, 2.0)
_TRIED: Final = 0.1  # of the users, shared by all multipliers whatever their rewards
_DRAWS: Final = 512
# Clicks of one user go together: so many times the variance that they had if each came alone.
_CLUSTERED: Final = 4.0


class Payoffs:
    """Shares of the multipliers in each segment, by their rewards.

    Parameters
    ----------
    segments : how many

    Attributes
    ----------
    shape : segments, multipliers
    impressions, clicks : float64, of that shape; trials and rewards
    shares : float64, of that shape; of the users, each row adds up to 1: the policy
    """

    def __init__(self, segments: int) -> None:
        self.shape = (segments, len(MULTIPLIERS))
        # The same numbers every time: shares change with what is counted alone.
        self._normal = np.random.default_rng(0).standard_normal((_DRAWS, *self.shape))
        self.follow(*np.zeros((2, *self.shape)))

    def follow(self, impressions: NDArray[np.float64], clicks: NDArray[np.float64]) -> None:
        """Share users out by these counts from now on."""
        self.impressions, self.clicks = impressions, clicks
        self._share()

    def multipliers(
        self, segments: NDArray[np.int64], places: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """By what to multiply temperatures: float32, shape (n,).

        Parameters
        ----------
        segments, places : of n users; places in [0, 1)
        """
        return np.array(MULTIPLIERS, np.float32)[self._chosen(segments, places)]

    def cells(self, segments: NDArray[np.int64], places: NDArray[np.float64]) -> NDArray[np.int64]:
        """Where n users stand in arrays of `shape`, flattened: int64, shape (n,)."""
        return segments * len(MULTIPLIERS) + self._chosen(segments, places)

    def _chosen(
        self, segments: NDArray[np.int64], places: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """The users' multipliers, by number."""
        ends = np.cumsum(self.shares, axis=1)[segments, :-1]
        chosen: NDArray[np.int64] = (places[:, None] >= ends).sum(axis=1)
        return chosen

    def _share(self) -> None:
        """Shares from the posteriors: normal, around the rates, each drawn to its segment's."""
        seen = self.impressions.sum(axis=1, keepdims=True)
        usual = (self.clicks.sum(axis=1, keepdims=True) + 1) / (seen + 2)
        known = self.impressions + _CLUSTERED / usual
        rates = (self.clicks + _CLUSTERED) / known
        spread = np.sqrt(_CLUSTERED * rates * np.maximum(1 - rates, 0) / known)
        best = (rates + spread * self._normal).argmax(axis=2)  # [draws, segments]
        won = (best[:, :, None] == np.arange(len(MULTIPLIERS))).mean(axis=0)
        self.shares = (1 - _TRIED) * won + _TRIED / len(MULTIPLIERS)
