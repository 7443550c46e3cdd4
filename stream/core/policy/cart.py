"""What is in users' carts, from their rings, and the states that carts alone would give.

In: rings, a model. Out: columns. Knows nothing of placements.

An item is in the cart when the newest of the user's interactions that put it there, took it out or
bought it put it there; what is older than the ring is not seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.contracts import EventType
from stream.core.catalogue import NO_ITEM
from stream.core.model import Model
from stream.core.policy.audience import Audience
from stream.core.policy.ring import Ring

_ADD, _REMOVE, _PURCHASE = (
    int(EventType.ADD_TO_CART),
    int(EventType.REMOVE_FROM_CART),
    int(EventType.PURCHASE),
)


class Cart(NamedTuple):
    """The carts of n users.

    Attributes
    ----------
    inside : bool, shape (n, ring); the entry put an item there that is there still
    order : int64, shape (n, ring); positions of the ring, newest first
    """

    inside: NDArray[np.bool_]
    order: NDArray[np.int64]

    @classmethod
    def of(cls, audience: Audience) -> Cart:
        ring = audience.ring
        inside = np.zeros(ring.rows.shape, np.bool_)
        order = audience.users.ring_order(audience.some, ring.rows.shape[1])
        _look_inside(ring.rows, ring.types, order, _ADD, _REMOVE, _PURCHASE, inside)
        return cls(inside, order)

    def rows(self, ring: Ring) -> NDArray[np.int64]:
        """Rows of what is inside, `NO_ITEM` in other places: int64, shape (n, ring)."""
        return np.where(self.inside, ring.rows, NO_ITEM)

    def ring(self, ring: Ring) -> Ring:
        """The rings with nothing but what is inside; rings of empty carts as they are."""
        filled = self.inside.any(axis=1, keepdims=True)
        rows = np.where(self.inside | ~filled, ring.rows, NO_ITEM)
        inside = np.take_along_axis(self.inside, self.order, axis=1)
        others = np.logical_not(inside) & filled
        first = np.argsort(others, axis=1, kind="stable")[:, : ring.newest.shape[1]]
        return ring._replace(rows=rows, newest=np.take_along_axis(self.order, first, axis=1))

    def behind_s(self, ring: Ring) -> NDArray[np.float32]:
        """How long before the users' newest events the newest thing was put inside.

        float32, shape (n,); 0 for empty carts.
        """
        ages_s = np.where(self.inside, ring.ages_s, np.float32(np.inf)).min(axis=1, initial=np.inf)
        behind_s: NDArray[np.float32] = np.where(np.isfinite(ages_s), ages_s, np.float32(0))
        return behind_s

    def states(self, model: Model, ring: Ring, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """States of users who did nothing but fill their carts; of an empty one as it is.

        Parameters
        ----------
        states : float32, shape (n, state_size); a copy is made
        """
        filled = np.any(self.inside, axis=1, keepdims=True)
        found = np.where(filled, np.float32(0), states)
        before_s = np.full(len(found), np.nan, np.float32)
        for back in range(self.order.shape[1] - 1, -1, -1):
            at = self.order[:, back]
            who = np.flatnonzero(np.take_along_axis(self.inside, at[:, None], axis=1))
            if len(who) == 0:
                continue
            at = at[who]
            ages_s = ring.ages_s[who, at]
            gaps_s = np.nan_to_num(before_s[who] - ages_s, nan=0.0)
            types = ring.types[who, at].astype(np.int64)
            found[who] = model.update(found[who], ring.rows[who, at], types, gaps_s)
            before_s[who] = ages_s
        return found


@compiled(
    NOTHING,
    array("i8", 2),
    array("u1", 2),
    array("i8", 2),
    INT,
    INT,
    INT,
    array("?", 2, written=True),
)
def _look_inside(
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    order: NDArray[np.int64],
    add: int,
    remove: int,
    purchase: int,
    inside: NDArray[np.bool_],
) -> None:
    """`Cart.inside`, into the last one, which is false."""
    size = rows.shape[1]
    decided = np.empty(size, np.int64)
    for user in range(len(rows)):
        count = 0
        for back in range(size):
            at = order[user, back]
            row, kind = rows[user, at], types[user, at]
            if row == 0 or kind not in (add, remove, purchase):
                continue
            known = False
            for other in decided[:count]:
                known = known or other == row
            if not known:
                decided[count] = row
                count += 1
                inside[user, at] = kind == add
