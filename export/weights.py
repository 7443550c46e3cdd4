"""How much an event of each type says, and which types turn towards an item.

Must not know: logs, models.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stream.contracts import EventType
from stream.core.weighing import weight_table

# How much an event moves an interest, a purchase being 1. Logs of purchases alone cannot tell the
# others; the order is the field's usual one.
EVENT_WEIGHTS: Final[dict[EventType, float]] = {
    EventType.PURCHASE: 1.0,
    EventType.ADD_TO_CART: 0.6,
    EventType.LIKE: 0.4,
    EventType.CLICK: 0.2,
    EventType.VIEW: 0.1,
    EventType.IMPRESSION: 0.0,
    EventType.REMOVE_FROM_CART: -0.5,
    EventType.DISLIKE: -0.8,
    EventType.CANCEL: -1.0,
}


# By event code, bool, shape (16,). Who is shown an item, or takes it back, does not choose it.
TOWARDS: Final[npt.NDArray[np.bool_]] = weight_table(EVENT_WEIGHTS) > 0


def turns_towards(event_type: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which events turn towards their item, by their codes: bool, of the same shape."""
    found: npt.NDArray[np.bool_] = TOWARDS[event_type]
    return found
