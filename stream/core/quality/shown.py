"""Lists as columns, as far as they count as shown: the first places of each.

In: lists as they were made. Out: item rows, stated probabilities, and when an item was last listed.
Knows no user.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled

_NOT_EXPLORED = np.zeros((0, 0), np.bool_)


class Shown(NamedTuple):
    """The lists of n users; those of all placements side by side.

    Attributes
    ----------
    rows : int32, shape (n, width); item rows, negative where the place was explored, 0 behind the
        end of a list
    scores : float32, shape (n, width); the probabilities that the lists state
    arms : uint16, shape (n, placements); which variant of the placement made the list
    shows : uint64, shape (n, placements); hash by which the list's name knows it
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    arms: NDArray[np.uint16]
    shows: NDArray[np.uint64]

    @classmethod
    def empty(cls, users: int, placements: int, width: int) -> Shown:
        """Of users without lists."""
        rows, scores = np.zeros((users, width), np.int32), np.zeros((users, width), np.float32)
        each = users, placements
        return cls(rows, scores, np.zeros(each, np.uint16), np.zeros(each, np.uint64))

    def some(self, users: slice) -> Shown:
        """Those of some users: views."""
        return Shown._make(column[users] for column in self)


def take(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    explored: NDArray[np.bool_] | None,
    shown: Shown,
    places: slice,
    arms: NDArray[np.uint16],
    made: NDArray[np.int64],
    listed_s: NDArray[np.uint32],
    now_s: int,
) -> None:
    """Take note of n users' lists of one placement.

    Parameters
    ----------
    rows, scores, explored : shape (n, k), as of `policy.arranging.Picked`
    shown : of these users, without lists there yet; written
    places : those of the placement
    arms : of these users in this placement, shape (n,)
    made : shape (arms, 2); places by arm, not explored and explored, to be added to
    listed_s : shape (rows,); when each item was last listed by the placement; written
    now_s : seconds since 1970
    """
    to_learn = _NOT_EXPLORED if explored is None else explored
    kept_rows, kept_scores = shown.rows[:, places], shown.scores[:, places]
    _take(rows, scores, to_learn, kept_rows, kept_scores, arms, made, listed_s, now_s)


@compiled(
    NOTHING,
    array("i8", 2),
    array("f4", 2),
    array("?", 2),
    array("i4", 2, written=True),
    array("f4", 2, written=True),
    array("u2"),
    array("i8", 2, written=True),
    array("u4", written=True),
    INT,
)
def _take(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    explored: NDArray[np.bool_],
    kept_rows: NDArray[np.int32],
    kept_scores: NDArray[np.float32],
    arms: NDArray[np.uint16],
    made: NDArray[np.int64],
    listed_s: NDArray[np.uint32],
    now_s: int,
) -> None:
    """`take`, a place after the other; a list ends before its first score of 0."""
    explores = explored.shape[1] > 0
    for user in range(rows.shape[0]):
        for place in range(min(rows.shape[1], kept_rows.shape[1])):
            if scores[user, place] <= 0:
                break
            row = rows[user, place]
            to_learn = 1 if explores and explored[user, place] else 0
            kept_rows[user, place] = -row if to_learn else row
            kept_scores[user, place] = scores[user, place]
            made[arms[user], to_learn] += 1
            listed_s[row] = now_s
