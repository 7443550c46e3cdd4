"""Why an item is on a list: the interaction that speaks for it most.

In: listed rows, the users' last interactions. Out: one reason per listed item.
Knows nothing of records or Kafka.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EVENT_TYPES, EventType, Reason
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.placement import Ring

POPULAR = Reason(code="popular", item_id=None)
# Interactions looked at per user, newest first: older ones rarely weigh enough to be the reason.
LOOK_BACK = 8
_KINDS = max(EventType) + 1
_KEPT = 200_000


class Reasons:
    """Finds reasons for the items of one model.

    For `decay` the score is a sum over interactions, so the reason is exact among the last 8: the
    one whose w(type) * 2^(-age / half life) * (e_interaction . e_item) is largest. Other models
    have no such sum; there the reason is the newest interaction that speaks for anything.
    """

    def __init__(self, model: Model, catalogue: Catalogue) -> None:
        manifest = model.bundle.manifest
        self._model = model
        self._catalogue = catalogue
        self._additive = manifest.model == "decay"
        self._half_life_s = np.float32(manifest.half_life_s or np.inf)
        self._weights = np.zeros(_KINDS, np.float32)
        for name, weight in manifest.event_weights.items():
            self._weights[EVENT_TYPES[name]] = max(weight, 0.0)
        self._name = {int(code): name for name, code in EVENT_TYPES.items()}
        self._made: dict[int, Reason] = {}

    def of(self, listed: NDArray[np.int64], ring: Ring) -> list[list[Reason]]:
        """Reasons of listed items.

        Parameters
        ----------
        listed : int64, shape (users, k); item rows

        Returns
        -------
        one list per user with k reasons
        """
        at = np.arange(len(listed))[:, None]
        rows, types = ring.rows[at, ring.newest], ring.types[at, ring.newest]
        shares = self._shares(listed, rows, types, ring.ages_s[at, ring.newest])
        if shares.shape[2] == 0:
            return [[POPULAR] * listed.shape[1] for _ in listed]
        best = np.where(shares.max(axis=2) > 0, shares.argmax(axis=2), -1)  # (users, k); -1: none
        known = self._made.get
        return [
            list(
                map([*(known(code) or self._make(code) for code in codes), POPULAR].__getitem__, b)
            )
            for codes, b in zip((rows * _KINDS + types).tolist(), best.tolist(), strict=True)
        ]

    def _shares(
        self,
        listed: NDArray[np.int64],
        rows: NDArray[np.int64],
        types: NDArray[np.uint8],
        ages_s: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """How much each interaction speaks for each listed item.

        Parameters
        ----------
        listed : int64, shape (users, k)
        rows, types, ages_s : shape (users, n), of the n newest interactions

        Returns
        -------
        float32, shape (users, k, n)
        """
        weights = np.where(rows == NO_ITEM, np.float32(0.0), self._weights[types])
        if self._additive:
            weights *= np.exp2(-ages_s / self._half_life_s)
            table = self._model.embeddings
            weighted = table[rows] * weights[:, :, None]
            shares: NDArray[np.float32] = np.matmul(table[listed], weighted.transpose(0, 2, 1))
            return shares
        newest_first = np.arange(rows.shape[1], 0, -1, dtype=np.float32)
        speaks = (weights > 0) * newest_first
        return np.broadcast_to(speaks[:, None, :], (*listed.shape, rows.shape[1]))

    def _make(self, code: int) -> Reason:
        """The reason of row * _KINDS + type, kept: the same few come again and again."""
        row, kind = divmod(code, _KINDS)
        reason = POPULAR
        if kind:
            reason = Reason(code=self._name[kind], item_id=self._catalogue.ids[row])
        if len(self._made) >= _KEPT:
            self._made.clear()
        self._made[code] = reason
        return reason
