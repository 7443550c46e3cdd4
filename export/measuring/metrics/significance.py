"""How sure a figure is. In: one value a list, and whose list it was. Out: intervals, p.

Users are drawn, not lists: those of one user are alike, and drawn apart they would feign a
certainty that is not there. A mean over lists is then a ratio of two sums over users. Everything
is seeded, and all metrics share each draw.

Must not know: which metrics these are, models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

DRAWS = 1_000
LEVEL = 0.95
_AT_ONCE = 2_000_000  # numbers of a block of draws: 16 MB


class Interval(NamedTuple):
    """float64, shape (m,) each."""

    low: Float64
    high: Float64


class Compared(NamedTuple):
    """The first model against the second, on the same lists. float64, shape (m,) each.

    Attributes
    ----------
    difference : mean of the first minus mean of the second
    low, high : confidence interval of it
    p : probability of a difference as large, either way, if the two were alike
    """

    difference: Float64
    low: Float64
    high: Float64
    p: Float64


def bootstrap(
    values: Float64, user: Int64, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Percentile intervals of the means over lists (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    values : float64, shape (n, m); m metrics of n lists
    user : int64, shape (n,); equal for lists of one user
    level : share of the draws inside
    """
    sums, lists = _by_user(values, user)
    means = np.concatenate(
        [(drawn @ sums) / (drawn @ lists)[:, None] for drawn in _resampled(len(lists), draws, seed)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high)


def compare(
    first: Float64,
    second: Float64,
    user: Int64,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Compared:
    """Test two models on the same lists, metric by metric.

    The randomisation test: if the two were alike, each user's difference could as well have the
    other sign (Fisher 1935; Smucker, Allan and Carterette 2007 advise it for rankings). p counts
    the sign flips that differ at least as much, the observed one among them (Phipson and Smyth
    2010), so it is never below 1 / (draws + 1). The interval is `bootstrap` of the difference.

    Parameters
    ----------
    first, second : float64, shape (n, m); row i of both is the same question
    user : int64, shape (n,)
    """
    sums, lists = _by_user(first - second, user)
    n = lists.sum()
    seen = sums.sum(axis=0)
    # Sums of equal numbers in another order differ by rounding, which must not hide a tie.
    least = np.abs(seen) - 1e-9 * np.abs(sums).sum(axis=0)
    beyond = np.zeros(len(seen))
    rng = np.random.default_rng(seed)
    for count in _blocks(len(lists), draws):
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-count * len(lists) // 8)), np.uint8))
        signs = bits[: count * len(lists)].reshape(count, -1) * 2.0 - 1.0
        beyond += (np.abs(signs @ sums) >= least).sum(axis=0)
    interval = bootstrap(first - second, user, draws, level, seed)
    return Compared(seen / n, *interval, (beyond + 1) / (draws + 1))


def _by_user(values: Float64, user: Int64) -> tuple[Float64, Float64]:
    """Sums of each metric and number of lists of each user: shapes (users, m) and (users,)."""
    number = np.unique(user, return_inverse=True)[1]
    columns = [np.bincount(number, column) for column in values.T]
    return np.stack(columns, axis=1), np.bincount(number).astype(np.float64)


def _resampled(users: int, draws: int, seed: int) -> Iterator[Float64]:
    """How often each user is drawn: float64, shape (some draws, users)."""
    rng = np.random.default_rng(seed)
    for count in _blocks(users, draws):
        drawn = rng.integers(0, users, (count, users)) + np.arange(count)[:, None] * users
        yield (
            np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users).astype(float)
        )


def _blocks(users: int, draws: int) -> Iterator[int]:
    """Numbers of draws that together are `draws`, each small enough for memory."""
    size = max(1, _AT_ONCE // max(users, 1))
    for first in range(0, draws, size):
        yield min(size, draws - first)
