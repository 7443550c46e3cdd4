"""How exploring pays: a bandit over temperatures, one for each segment of users.

In: impressions and clicks by segment and place of their user. Out: by what to multiply the
temperature of each user. Knows nothing of lists, nor of how temperatures come about.

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
_TRIED: Final = 0.1  # of the users, shared by all multipliers whatever they brought
_DRAWS: Final = 512
# Clicks of one user go together: so many times the variance that they had if each came alone.
_CLUSTERED: Final = 4.0


class Payoffs:
    """What each multiplier brought in each segment; counts fade.

    Parameters
    ----------
    segments : how many
    half_life_s : of the counts

    Attributes
    ----------
    impressions, clicks : float64, shape (segments, multipliers), faded to the newest `count`
    shares : float64, shape (segments, multipliers); of the users, each row adds up to 1
    """

    def __init__(self, segments: int, half_life_s: float) -> None:
        shape = (segments, len(MULTIPLIERS))
        self._half_life_s = half_life_s
        self._time_s = 0.0
        self.impressions, self.clicks = np.zeros(shape), np.zeros(shape)
        # The same numbers every time: shares change with what is counted alone.
        self._normal = np.random.default_rng(0).standard_normal((_DRAWS, *shape))
        self._share()

    def go_on(self, before: Payoffs) -> None:
        """Begin with what another one has counted, which fades by this one's half-life from now."""
        self._time_s = before._time_s
        self.impressions, self.clicks = before.impressions.copy(), before.clicks.copy()
        self._share()

    def multipliers(
        self, segments: NDArray[np.int64], places: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """By what to multiply temperatures: float32, shape (n,).

        Parameters
        ----------
        segments, places : of n users; places in [0, 1)
        """
        return np.array(MULTIPLIERS, np.float32)[self._arms(segments, places)]

    def _arms(self, segments: NDArray[np.int64], places: NDArray[np.float64]) -> NDArray[np.int64]:
        ends = np.cumsum(self.shares, axis=1)[segments, :-1]
        arms: NDArray[np.int64] = (places[:, None] >= ends).sum(axis=1)
        return arms

    def count(
        self,
        segments: NDArray[np.int64],
        places: NDArray[np.float64],
        impressions: NDArray[np.int64],
        clicks: NDArray[np.int64],
        time_s: float,
    ) -> None:
        """Count what n users were shown and clicked, at a time that never goes back."""
        faded = 2.0 ** (-max(time_s - self._time_s, 0.0) / self._half_life_s)
        self._time_s = max(time_s, self._time_s)
        at = (segments, self._arms(segments, places))
        self.impressions *= faded
        self.clicks *= faded
        np.add.at(self.impressions, at, impressions)
        np.add.at(self.clicks, at, clicks)
        self._share()

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
