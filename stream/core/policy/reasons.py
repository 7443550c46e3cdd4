"""Why an item is on a list: the interaction that speaks for it most.

In: listed rows, the users' states and last interactions. Out: one reason per listed item.
Knows nothing of records or Kafka.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EVENT_TYPES, EventType, Reason
from stream.core.bundle import Additive
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.placement import Ring

POPULAR = Reason(code="popular", item_id=None)
_KINDS = max(EventType) + 1
_KEPT = 200_000


class Reasons:
    """Finds reasons for the items of one model.

    Where the manifest calls the state additive, the score is a sum over interactions and the
    reason is the one with the largest share in it, exact up to the states' rounding:

        beta * weight[type] * (interaction . item) * sum_s share_s * 2^(-age / half_life_s) / |s|

    with the softened lengths |s| of the user's sums as they are. Other models have no such sum;
    there the reason is the newest interaction. In both, only the last `LOOK_BACK` interactions
    count and only types of positive weight: a dislike is nobody's reason to look at an item.
    """

    def __init__(self, model: Model, catalogue: Catalogue) -> None:
        manifest = model.bundle.manifest
        self._model = model
        self._catalogue = catalogue
        self._additive = manifest.additive
        self._weights = np.zeros(_KINDS, np.float32)
        for name, weight in manifest.event_weights.items():
            self._weights[EVENT_TYPES[name]] = max(weight, 0.0)
        self._name = {int(code): name for name, code in EVENT_TYPES.items()}
        self._made: dict[int, Reason] = {}

    def of(
        self, listed: NDArray[np.int64], ring: Ring, states: NDArray[np.float32]
    ) -> list[list[Reason]]:
        """Reasons of listed items.

        Parameters
        ----------
        listed : int64, shape (users, k); item rows
        states : float32, shape (users, state_size); what the items were scored with

        Returns
        -------
        one list per user with k reasons
        """
        at = np.arange(len(listed))[:, None]
        rows, types = ring.rows[at, ring.newest], ring.types[at, ring.newest]
        if rows.shape[1] == 0:
            return [[POPULAR] * listed.shape[1] for _ in listed]
        weights = np.where(rows == NO_ITEM, np.float32(0.0), self._weights[types])
        if self._additive is None:
            newest_first = np.arange(rows.shape[1], 0, -1, dtype=np.float32)
            shares = ((weights > 0) * newest_first)[:, None, :]
        else:
            weights *= _kept(self._additive, states, ring.ages_s[at, ring.newest])
            shares = self._shares(listed, rows, weights)
        best = np.where(shares.max(axis=2) > 0, shares.argmax(axis=2), -1)  # -1: none
        best = np.broadcast_to(best, listed.shape)
        known = self._made.get
        return [
            list(
                map([*(known(code) or self._make(code) for code in codes), POPULAR].__getitem__, b)
            )
            for codes, b in zip((rows * _KINDS + types).tolist(), best.tolist(), strict=True)
        ]

    def _shares(
        self, listed: NDArray[np.int64], rows: NDArray[np.int64], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The share of each interaction in each listed item's score, but for beta.

        Parameters
        ----------
        listed : int64, shape (users, k)
        rows, weights : shape (users, n); of the n newest interactions

        Returns
        -------
        float32, shape (users, k, n)
        """
        table = self._model.embeddings
        weighted = table[rows] * weights[:, :, None]
        shares: NDArray[np.float32] = np.matmul(table[listed], weighted.transpose(0, 2, 1))
        return shares

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


def _kept(
    additive: Additive, states: NDArray[np.float32], ages_s: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What is left of an interaction of weight 1 in the score: float32, shape (users, n).

    Parameters
    ----------
    states : float32, shape (users, state_size)
    ages_s : float32, shape (users, n)
    """
    sums = states.reshape(len(states), len(additive.sums), -1)
    square = np.einsum("usd,usd->us", sums, sums) + np.float32(additive.strength**2)
    shares = np.array([s.share for s in additive.sums], np.float32) / np.sqrt(square)
    kept = np.zeros(ages_s.shape, np.float32)
    for number, fading in enumerate(additive.sums):
        faded = np.exp2(ages_s * np.float32(-1 / fading.half_life_s))
        kept += faded * shares[:, number, None]
    return kept
