"""What lists are made of, and lists as they are made, as columns of n users.

Knows nothing of settings, nor of where pools come from.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray


class Pool(NamedTuple):
    """Of n users, what their lists are made of.

    Attributes
    ----------
    rows : int64, shape (n, pool)
    scores : float32, shape (n, pool), in [0, 1]; 0 = not to be listed
    worth : float64, shape (n, pool), finite where the score is above 0
    allowed : bool, shape (n, pool)
    whole : bool, shape (n,); everything that may be listed is in it
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    worth: NDArray[np.float64]
    allowed: NDArray[np.bool_]
    whole: NDArray[np.bool_]


class Pins(NamedTuple):
    """What stands at which place of n users' lists, whatever their pools say.

    Attributes
    ----------
    rows : int64, shape (n, k)
    scores : float32, shape (n, k), in [0, 1]; 0 = nothing is pinned there
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Chance(NamedTuple):
    """How the lists of n users are drawn.

    Attributes
    ----------
    temperatures : float32, shape (n,), >= 0; 0: nothing is drawn
    uniforms : float64, shape (n, k), in [0, 1); independent
    """

    temperatures: NDArray[np.float32]
    uniforms: NDArray[np.float64]


class Caps(NamedTuple):
    """How many items of one code a list may have.

    Attributes
    ----------
    codes : int32, shape (caps, item rows); 0 = not capped
    limits : int64, shape (caps,), >= 1
    """

    codes: NDArray[np.int32]
    limits: NDArray[np.int64]


class Likeness(NamedTuple):
    """What tells how alike items are.

    Attributes
    ----------
    strength : >= 0; 0: it does not count, and the others are not looked at
    table : float32, shape (m, dim)
    pool_at, pinned_at, listed_at : int64, shape (n, pool), (n, k), (n, k); where in it the vectors
        are of the pool, of the pins, of what is listed already
    """

    strength: float
    table: NDArray[np.float32]
    pool_at: NDArray[np.int64]
    pinned_at: NDArray[np.int64]
    listed_at: NDArray[np.int64]


class Made(NamedTuple):
    """Lists, some of them unfinished.

    Attributes
    ----------
    rows, scores : shape (n, k), as in `Pool`
    pinned, explored : bool, shape (n, k); it was pinned; it was drawn and another was worth more
    propensities : float32, shape (n, k), in (0, 1]
    length : int64, shape (n,)
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    pinned: NDArray[np.bool_]
    explored: NDArray[np.bool_]
    propensities: NDArray[np.float32]
    length: NDArray[np.int64]

    @classmethod
    def empty(cls, users: int, k: int) -> Made:
        """Lists with nothing on them."""
        shape = (users, k)
        return cls(
            np.zeros(shape, np.int64),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.bool_),
            np.ones(shape, np.float32),
            np.zeros(users, np.int64),
        )

    def take(self, who: NDArray[np.int64]) -> Made:
        """A copy of some users' lists."""
        return Made._make(column[who] for column in self)

    def put(self, who: NDArray[np.int64], made: Made) -> None:
        """Replace some users' lists."""
        columns = cast("tuple[NDArray[Any], ...]", self)
        for column, new in zip(columns, made, strict=True):
            column[who] = new
