"""Why an item is on a list: the interaction that speaks for it most.

In: listed rows, the users' states and last interactions. Out: one reason per listed item.
Knows nothing of records or Kafka.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import FLOAT32, NOTHING, array, compiled, sum_in_any_order
from stream.contracts import ANY_TYPE, EVENT_TYPES
from stream.core.model import Model
from stream.core.policy.ring import LOOK_BACK, Ring


class ReasonColumns(NamedTuple):
    """The interactions that speak for listed items.

    Attributes
    ----------
    rows : int64, shape (users, k); the row of the interaction's item
    types : uint8, shape (users, k); its `EventType`, or 0: none speaks for the item
    at : int64, shape (users, k); where in the ring it is, -1 where its share cannot be told
    """

    rows: NDArray[np.int64]
    types: NDArray[np.uint8]
    at: NDArray[np.int64]


class Reasons:
    """Finds reasons for the items of one model.

    Where the manifest calls the state additive, the score is a sum over interactions and the
    reason is the one that contributes most to it, exact up to the states' rounding:

        beta * weight[type] * (interaction . item) * sum_s fraction_s * 2^(-age / half_life_s) / |s|

    with the softened lengths |s| of the user's sums as they are, and the weights that are in force
    for the model when this is made. Other models have no such sum;
    there the reason is the newest interaction. In both, only the last `LOOK_BACK` interactions
    count and only types of positive weight: a dislike is nobody's reason to look at an item.
    Where the score graph takes the last interactions beside the sum, an item owes them more than
    their part of it, and no share can be told.
    """

    def __init__(self, model: Model) -> None:
        weighing = model.weighing
        self._model = model
        self._weights = np.zeros(ANY_TYPE, np.float32)
        for name, weight in weighing.event_weights.items():
            self._weights[EVENT_TYPES[name]] = max(weight, 0.0)
        additive = weighing.additive
        self._additive = additive is not None
        sums = () if additive is None else additive.sums
        self._fractions = np.array([fading.share for fading in sums], np.float32)
        self._half_lives_s = np.array([fading.half_life_s for fading in sums], np.float32)
        self._strength = np.float32(0.0 if additive is None else additive.strength)

    def of(
        self, listed: NDArray[np.int64], ring: Ring, states: NDArray[np.float32]
    ) -> ReasonColumns:
        """Reasons of listed items.

        Parameters
        ----------
        listed : int64, shape (users, k); item rows
        states : float32, shape (users, state_size); what the items were scored with
        """
        shape = listed.shape
        at = np.full(shape, -1, np.int64)
        found = ReasonColumns(np.zeros(shape, np.int64), np.zeros(shape, np.uint8), at)
        newest = ring.newest[:, :LOOK_BACK]
        if self._additive:
            done = np.take_along_axis(ring.rows, newest, axis=1)
            table, (listed_at, done_at) = self._model.embeddings_of(listed, done)
            _largest_contributions(
                listed_at,
                done_at,
                ring.rows,
                ring.types,
                ring.ages_s,
                newest,
                states,
                self._weights,
                self._fractions,
                self._half_lives_s,
                self._strength,
                table,
                *found,
            )
            if self._model.recent:
                at[:] = -1
        else:
            _newest(ring.rows, ring.types, newest, self._weights, found.rows, found.types)
        return found

    def without(
        self, states: NDArray[np.float32], ring: Ring, at: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """States as they would be without an interaction each; of an additive model.

        Parameters
        ----------
        states : float32, shape (n, state_size)
        ring : of the same users
        at : int64, shape (n,); where in the ring the interaction is that `of` named
        """
        each = np.arange(len(at))
        table, (rows,) = self._model.embeddings_of(ring.rows[each, at])
        faded = np.exp2(-ring.ages_s[each, at, None] / self._half_lives_s)
        left = self._weights[ring.types[each, at], None] * faded
        lacking: NDArray[np.float32] = left[:, :, None] * table[rows][:, None, :]
        return states - lacking.reshape(states.shape)


@sum_in_any_order
def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@compiled(
    NOTHING,
    array("i8", 2),
    array("i8", 2),
    array("i8", 2),
    array("u1", 2),
    array("f4", 2),
    array("i8", 2),
    array("f4", 2),
    array("f4"),
    array("f4"),
    array("f4"),
    FLOAT32,
    array("f4", 2, contiguous=True),
    array("i8", 2, written=True),
    array("u1", 2, written=True),
    array("i8", 2, written=True),
)
def _largest_contributions(
    listed_at: NDArray[np.int64],
    done_at: NDArray[np.int64],
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    ages_s: NDArray[np.float32],
    newest: NDArray[np.int64],
    states: NDArray[np.float32],
    weights: NDArray[np.float32],
    fractions: NDArray[np.float32],
    half_lives_s: NDArray[np.float32],
    strength: np.float32,
    table: NDArray[np.float32],
    reason_rows: NDArray[np.int64],
    reason_types: NDArray[np.uint8],
    reason_at: NDArray[np.int64],
) -> None:
    """The interaction that contributes most to each listed item's score, if that is above 0.

    The formula is that of `Reasons`, but for beta. `rows`, `types`, `ages_s`: shape (users, ring);
    `newest`: (users, n), positions in them; `table`: (m, dim), in which the vectors of what is
    listed are at `listed_at`, those of the newest at `done_at`; the last three: (users, k).
    """
    looked_at = newest.shape[1]
    remaining = np.empty(looked_at, np.float32)  # what is left of each interaction's weight
    fraction_per_length = np.empty(len(fractions), np.float32)
    dim = states.shape[1] // len(fractions)
    for user in range(len(listed_at)):
        for number in range(len(fractions)):
            square = strength * strength
            for value in states[user, number * dim : (number + 1) * dim]:
                square += value * value
            fraction_per_length[number] = fractions[number] / np.sqrt(square)
        for back in range(looked_at):
            at = newest[user, back]
            left = np.float32(0.0)
            weight = weights[types[user, at]] if rows[user, at] != 0 else np.float32(0.0)
            if weight > 0:
                for number in range(len(fractions)):
                    faded = np.exp2(-ages_s[user, at] / half_lives_s[number])
                    left += faded * fraction_per_length[number]
            remaining[back] = left * weight
        for place in range(listed_at.shape[1]):
            best = np.float32(0.0)
            for back in range(looked_at):
                if remaining[back] > 0:
                    at = newest[user, back]
                    contribution = _dot(table[listed_at[user, place]], table[done_at[user, back]])
                    contribution *= remaining[back]
                    if contribution > best:
                        best = contribution
                        reason_rows[user, place] = rows[user, at]
                        reason_types[user, place] = types[user, at]
                        reason_at[user, place] = at


@compiled(
    NOTHING,
    array("i8", 2),
    array("u1", 2),
    array("i8", 2),
    array("f4"),
    array("i8", 2, written=True),
    array("u1", 2, written=True),
)
def _newest(
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    newest: NDArray[np.int64],
    weights: NDArray[np.float32],
    reason_rows: NDArray[np.int64],
    reason_types: NDArray[np.uint8],
) -> None:
    """The newest interaction of a type of positive weight, for all of a user's items."""
    for user in range(len(rows)):
        for back in range(newest.shape[1]):
            at = newest[user, back]
            if rows[user, at] != 0 and weights[types[user, at]] > 0:
                reason_rows[user, :] = rows[user, at]
                reason_types[user, :] = types[user, at]
                break
