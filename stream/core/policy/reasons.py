"""Why an item is on a list: the interaction that speaks for it most.

In: listed rows, the users' states and last interactions. Out: one reason per listed item.
Knows nothing of records or Kafka.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EVENT_TYPES, EventType, Reason
from stream.contracts.writing import reason_piece
from stream.core.bundle import Additive
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.placement import Ring

POPULAR = Reason(code="popular", item_id=None)
_EVENT_TYPE_CODES = max(EventType) + 1
_NAMES = {int(code): name for name, code in EVENT_TYPES.items()}
_NO_INTERACTION = 0  # the code of no interaction
_MAX_PIECES = 200_000


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
        self._pieces = _Pieces(catalogue)
        self._additive = manifest.additive
        self._weights = np.zeros(_EVENT_TYPE_CODES, np.float32)
        for name, weight in manifest.event_weights.items():
            self._weights[EVENT_TYPES[name]] = max(weight, 0.0)

    def of(
        self, listed: NDArray[np.int64], ring: Ring, states: NDArray[np.float32]
    ) -> list[list[bytes]]:
        """Reasons of listed items, as pieces of a record.

        Parameters
        ----------
        listed : int64, shape (users, k); item rows
        states : float32, shape (users, state_size); what the items were scored with

        Returns
        -------
        one list per user with k pieces
        """
        return [
            list(map(self._pieces.__getitem__, row)) for row in self.codes(listed, ring, states)
        ]

    def codes(
        self, listed: NDArray[np.int64], ring: Ring, states: NDArray[np.float32]
    ) -> list[list[int]]:
        """The interactions behind listed items, as row * `_EVENT_TYPE_CODES` + type each."""
        users, looked_at = ring.newest.shape
        if looked_at == 0:
            return [[_NO_INTERACTION] * listed.shape[1]] * users
        at = ring.newest + np.arange(users)[:, None] * ring.rows.shape[1]
        rows, types = ring.rows.take(at), ring.types.take(at)
        weights = self._weights.take(types)
        weights[rows == NO_ITEM] = 0.0
        if self._additive is None:
            newest_first = np.arange(looked_at, 0, -1, dtype=np.float32)
            best = ((weights > 0) * newest_first).argmax(axis=1)[:, None]
            counts = np.take_along_axis(weights, best, axis=1) > 0
        else:
            weights *= _remaining_weight(self._additive, states, ring.ages_s.take(at))
            shares = self._contributions(listed, rows, weights)
            best = shares.argmax(axis=2)
            counts = shares.max(axis=2) > 0
        codes = np.take_along_axis(rows * _EVENT_TYPE_CODES + types, best, axis=1)
        codes[~counts] = _NO_INTERACTION
        found: list[list[int]] = np.broadcast_to(codes, listed.shape).tolist()
        return found

    def _contributions(
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


class _Pieces(dict[int, bytes]):
    """Code -> piece of a record, made at the first look: the same few come again and again."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self._catalogue = catalogue

    def __missing__(self, code: int) -> bytes:
        if len(self) >= _MAX_PIECES:
            self.clear()
        row, kind = divmod(code, _EVENT_TYPE_CODES)
        reason = POPULAR
        if code != _NO_INTERACTION:
            reason = Reason(code=_NAMES[kind], item_id=self._catalogue.ids[row])
        piece = self[code] = reason_piece(reason)
        return piece


def _remaining_weight(
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
