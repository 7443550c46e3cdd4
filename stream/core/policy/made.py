"""Records of a few users' lists, encoded, and what making them took."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.policy.arranging import Picked


class EncodedLists(NamedTuple):
    """Records of a few users, and what making them took.

    Attributes
    ----------
    records : encoded, one per user, in the order asked for
    filled : bool, shape (users, arms); lists that hold anything
    picked : the lists of each placement
    arms : uint16, shape (users, placements); numbers of the arms that made them
    list_hashes : uint64, shape (users, placements); hashes by which their names know lists
    record_hashes : uint64, shape (users,); hashes of what records show, 0 where nobody asks for
        them
    score_s, policy_s : seconds spent on the users' rings and the score graph; on reasons and JSON
    """

    records: list[bytes]
    filled: NDArray[np.bool_]
    picked: list[Picked]
    arms: NDArray[np.uint16]
    list_hashes: NDArray[np.uint64]
    record_hashes: NDArray[np.uint64]
    score_s: float
    policy_s: float
