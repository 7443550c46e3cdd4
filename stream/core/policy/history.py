"""What users bought: how often, for how much, how long ago; and at which prices.

In: states, rings, the catalogue. Out: columns. Knows nothing of rules.

Of all categories together the state tells, exactly, what its events said. Of some of them the ring
tells: what is older than its entries does not count, and an item is taken to have cost what the
catalogue says that it costs now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.core.catalogue import Catalogue
from stream.core.policy.audience import Audience
from stream.core.policy.ring import Ring


class Purchases(NamedTuple):
    """What n users bought.

    Attributes
    ----------
    times : int64, shape (n,); purchases without those that were cancelled, >= 0
    spent : float64, shape (n,); for how much, >= 0; what has no price is left out
    newest_s : float64, shape (n,); how long ago the newest purchase was, inf for none
    """

    times: NDArray[np.int64]
    spent: NDArray[np.float64]
    newest_s: NDArray[np.float64]

    @classmethod
    def of(
        cls, audience: Audience, catalogue: Catalogue, categories: Sequence[str] | None = None
    ) -> Purchases:
        """Of these users, in some categories or in all."""
        if categories is None:
            headers = audience.headers
            ago_s = np.maximum(audience.now_ms / 1000.0 - headers["bought_s"], 0.0)
            return cls(
                headers["purchases"].astype(np.int64),
                headers["spent"].astype(np.float64),
                np.where(headers["bought_s"] > 0, ago_s, np.inf),
            )
        rows, types, ages_s, _ = audience.ring
        sign = np.where(types == EventType.PURCHASE, 1, 0) - (types == EventType.CANCEL)
        sign[~catalogue.attributes.is_one_of("category", categories, rows)] = 0
        prices = np.nan_to_num(catalogue.attributes.prices[rows], nan=0.0)
        ago_s = np.where(sign > 0, ages_s + audience.idle_s[:, None], np.inf)
        return cls(
            np.maximum(sign.sum(axis=1), 0),
            np.maximum((sign * prices).sum(axis=1), 0.0),
            ago_s.min(axis=1, initial=np.inf),
        )


_TOWARDS = [
    EventType.VIEW,
    EventType.CLICK,
    EventType.ADD_TO_CART,
    EventType.LIKE,
    EventType.PURCHASE,
]


def own_prices(ring: Ring, catalogue: Catalogue) -> NDArray[np.float64]:
    """The price level of each user: float64, shape (n,); NaN where nothing tells it.

    The median of what items cost that the user bought, if there are any with a price, else of those
    that the user turned to.
    """
    prices = catalogue.attributes.prices[ring.rows]
    level = np.full(len(prices), np.nan)
    for types in (_TOWARDS, [EventType.PURCHASE]):
        of_type = np.where(np.isin(ring.types, types), prices, np.nan)
        of_type.sort(axis=1)  # NaN comes last; NumPy's own nanmedian is slower
        known = np.count_nonzero(np.isfinite(of_type), axis=1)
        some = np.flatnonzero(known)
        lower, upper = (known[some] - 1) // 2, known[some] // 2
        level[some] = (of_type[some, lower] + of_type[some, upper]) / 2
    return level
