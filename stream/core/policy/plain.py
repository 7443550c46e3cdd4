"""Reasons where no interaction speaks for an item: a rule that lifts it, what trends in the shop.

In: reasons as interactions give them, what is in force for each user. Out: the same, changed in
place. Knows nothing of records or words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.contracts import PLAIN_REASONS
from stream.core.policy.audience import Audience
from stream.core.policy.placement import Placement

_BOOSTED, _TRENDING = PLAIN_REASONS["boosted"], PLAIN_REASONS["trending"]


def name_others(
    types: NDArray[np.uint8],
    rows: NDArray[np.int64],
    placement: Placement,
    audience: Audience,
    trends: NDArray[np.bool_],
) -> None:
    """Say of items that nothing which their user did speaks for why they are listed all the same.

    A rule that lifts an item comes before its trend; what is neither stays popular.

    Parameters
    ----------
    types : uint8, shape (users, k); of `ReasonColumns`, changed in place where they are 0
    rows : int64, shape (users, k)
    trends : bool, shape (n,); what trends, by row; rows from n on do not
    """
    if len(trends):
        known = rows < len(trends)
        up = known & trends[np.where(known, rows, 0)]
        types[up & (types == 0)] = _TRENDING
    rules = placement.rules
    if rules is not None and rules.boosts:
        plain = (types == 0) | (types == _TRENDING)
        if plain.any():
            types[plain & rules.boosted(rules.in_force(audience), rows)] = _BOOSTED
