"""Ads by what a click on them pays, times how probable it is. In: bids, scores. Out: the best.

An exact top-k is by scores alone. So ads are looked at level by level, the highest bids first: the
best of a level by score, until nothing that is left can be worth more than what was found (the
threshold algorithm of Fagin, Lotem and Naor 2003). Scores are those of the model, whatever maps
logits to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.core.attributes import Attributes

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
# The best of a level (None: of all that have a bid) for some users, and how many: rows and scores,
# shape (users, as many or as there are), best first; a score of 0 is nothing.
Score = Callable[[int | None, NDArray[np.int64], int], Found]

_PER_OCTAVE: Final = 2  # levels between a bid and twice as much


class Bids:
    """The bids of a catalogue, by level.

    Attributes
    ----------
    levels : level and logarithm of its highest bid, the highest level first; of those with any ad
    """

    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self.levels: list[tuple[int, float]] = []
        self.refresh()

    def refresh(self) -> None:
        """Take note of changed bids."""
        logs = np.log(self._attributes.bids)
        logs = logs[np.isfinite(logs)]
        found, at = np.unique(_levels(logs).astype(np.int64), return_inverse=True)
        highest = np.full(len(found), -np.inf)
        np.maximum.at(highest, at, logs)
        self.levels = list(zip(found.tolist(), highest.tolist(), strict=True))[::-1]

    def on(self, rows: NDArray[np.int64], level: int | None) -> NDArray[np.bool_]:
        """Which rows have a bid of that level; None: any bid. bool, any shape."""
        logs = self._logs(rows)
        if level is None:
            return np.isfinite(logs)
        there: NDArray[np.bool_] = _levels(logs) == level
        return there

    def worth(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithm of bid times score: float64, any shape; -inf where either is missing."""
        with np.errstate(divide="ignore"):
            worth = self._logs(rows) + np.log(scores.astype(np.float64))
        return np.where(np.isfinite(worth), worth, -np.inf)

    def best(self, users: int, k: int, score: Score) -> Found:
        """The k of the highest bid times score for each user.

        Returns
        -------
        rows : int64, shape (users, k), best first
        scores : float32, of that shape, the model's own; 0 where nothing was left to list
        """
        rows, scores = np.zeros((users, k), np.int64), np.zeros((users, k), np.float32)
        worth = np.full((users, k), -np.inf)
        _, highest = score(None, np.arange(users), 1)
        for level, log_bid in self.levels:
            who = np.flatnonzero(_times(log_bid, highest[:, 0]) > worth[:, -1])
            if not len(who):
                break  # bids only fall from here on
            before, size = (rows[who], scores[who], worth[who]), k
            while len(who):
                found, found_scores = score(level, who, size)
                there = self.worth(found, found_scores)
                merged = np.concatenate([before[2], there], axis=1)
                order = np.argsort(-merged, axis=1, kind="stable")[:, :k]
                worth[who] = np.take_along_axis(merged, order, axis=1)
                rows[who] = _picked(before[0], found, order)
                scores[who] = _picked(before[1], found_scores, order)
                # Of this level there may be more that is worth as much.
                more = _times(log_bid, found_scores[:, -1]) > worth[who, -1]
                more &= found.shape[1] >= size
                who, size = who[more], 2 * size
                before = before[0][more], before[1][more], before[2][more]
        return rows, scores

    def _logs(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        bids = self._attributes.bids
        logs: NDArray[np.float64] = np.log(bids[np.minimum(rows, len(bids) - 1)])
        return logs


def _levels(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Levels of bids, by their logarithms; NaN for none. Of the same shape."""
    levels: NDArray[np.float64] = np.floor(logs * (_PER_OCTAVE / np.log(2)))
    return levels


def _picked(before: NDArray[Any], found: NDArray[Any], order: NDArray[np.int64]) -> NDArray[Any]:
    """What was there and what was found, side by side, in this order."""
    return np.take_along_axis(np.concatenate([before, found], axis=1), order, axis=1)


def _times(log_bid: float, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The logarithm of what a bid of that logarithm times scores is: float64, shape (n,)."""
    with np.errstate(divide="ignore"):
        return log_bid + np.log(scores.astype(np.float64))
