"""From a pool of the best items to the list that is shown.

In: what `Placement.rank` found, best first, and whose lists they are. Out: k items of it in their
order, each with the chance it had to stand there. Knows nothing of records or Kafka.

A placement whose rules ask for no arranging has a pool of k items and shows it as it is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Cause
from stream.core.policy.ring import Ring
from stream.core.users import Users


class Audience(NamedTuple):
    """Whose lists are made.

    Attributes
    ----------
    users, some : the users, and which of them
    states : float32, shape (n, state_size); of those
    ring : their last interactions
    causes : n events, the newest that each list reflects
    now_ms : wall-clock time
    """

    users: Users
    some: slice
    states: NDArray[np.float32]
    ring: Ring
    causes: list[Cause]
    now_ms: int


class Picked(NamedTuple):
    """The lists of one placement.

    Attributes
    ----------
    rows : int64, shape (n, k)
    scores : float32, shape (n, k), in [0, 1]; a list ends before its first 0
    codes : uint8, shape (n, k); of `PLAIN_REASONS`, 0 where an interaction is the reason; None: all
        0
    explored : bool, shape (n, k); placed there to learn; None: nothing was
    propensities : float32, shape (n, k), in (0, 1]; of the item at that place, given the places
        before it; None: all 1
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    codes: NDArray[np.uint8] | None = None
    explored: NDArray[np.bool_] | None = None
    propensities: NDArray[np.float32] | None = None


class Arranging:
    """How one placement makes a list of a pool.

    Parameters
    ----------
    k : length of the list

    Attributes
    ----------
    pool : items that `arrange` wants to choose from
    """

    def __init__(self, k: int) -> None:
        self.pool = k

    def arrange(
        self, rows: NDArray[np.int64], scores: NDArray[np.float32], audience: Audience
    ) -> Picked:
        """Pools to lists.

        Parameters
        ----------
        rows : int64, shape (n, pool), best first
        scores : float32, shape (n, pool); 0 = not to be listed, and so is what comes after it
        """
        return Picked(rows, scores)
