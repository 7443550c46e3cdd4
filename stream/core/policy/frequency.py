"""Items that users were shown often enough lately. In: remembered impressions. Out: rows.

States remember the newest impressions of items with a bid (`state.impressions`); of others nothing
is known here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.policy.audience import Audience
from stream.placements import Frequency


def shown_enough(rules: Frequency, audience: Audience, catalogue: Catalogue) -> NDArray[np.int64]:
    """Rows that were shown as often as the rules allow, within their window of the clock.

    Returns
    -------
    int64, shape (n, impressions); an item may be there several times, `NO_ITEM` where there is none
    """
    shown = audience.users.shown[audience.some]
    items = shown["item"].astype(np.uint64)
    ages_s = audience.now_ms / 1000 - shown["time_s"]
    lately = (shown["time_s"] > 0) & (ages_s < rules.window_s)
    same = (items[:, :, None] == items[:, None, :]) & lately[:, None, :]
    enough = lately & (same.sum(axis=2) >= (rules.most or 1))
    rows: NDArray[np.int64] = np.where(enough, catalogue.rows_of_hashes(items), NO_ITEM)
    return rows
