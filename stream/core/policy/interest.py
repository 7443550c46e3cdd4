"""How sure a user's interest is: from few, old or contradicting events, little; and how fresh.

In: last interactions, item vectors, states. Out: a few numbers per user. Knows nothing of lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import FLOAT32, INT, NOTHING, array, compiled, sum_in_any_order
from stream.contracts import ANY_TYPE, EVENT_TYPES
from stream.core.manifest import Additive
from stream.core.policy.ring import Ring

SESSION_GAP_S = 1800.0  # without an event for so long, the next one begins a session
NO_HALF_LIFE_S = 30 * 86_400.0  # where the model states none


class Interest(NamedTuple):
    """What is known of the interests of n users.

    Attributes
    ----------
    evidence : float32, shape (n,), >= 0; the weight of the last interactions that point the same
        way. With w the weight of an interaction by its type and age and v its item's direction:
        |sum w v|^2 / sum |w|, which is the whole weight where all point the same way and that of
        one where each points elsewhere
    fresh : float32, shape (n,), in [0, 1]; 1 with the first event of a session, 1/2 with the second
    drift : float32, shape (n,), in [0, 1]; half of 1 - cosine between the fastest and the slowest
        fading sum of the state; 0 where the model has no two
    """

    evidence: NDArray[np.float32]
    fresh: NDArray[np.float32]
    drift: NDArray[np.float32]


class Interests:
    """Tells how sure the interests of one model's users are.

    Parameters
    ----------
    event_weights, additive : of the model, as they are in force

    Attributes
    ----------
    terms : what their numbers hang on, beside the items' vectors
    """

    def __init__(self, event_weights: Mapping[str, float], additive: Additive | None) -> None:
        self._weights = np.zeros(ANY_TYPE, np.float32)
        for name, weight in event_weights.items():
            self._weights[EVENT_TYPES[name]] = weight
        sums = () if additive is None else additive.sums
        half_lives_s = [float(fading.half_life_s) for fading in sums]
        self.terms = {
            "event_weights": {name: float(weight) for name, weight in event_weights.items()},
            "half_lives_s": half_lives_s or [NO_HALF_LIFE_S],
            "session_gap_s": SESSION_GAP_S,
        }
        self._half_life_s = np.float32(max(half_lives_s, default=NO_HALF_LIFE_S))
        self._sums = len(sums)
        self._fast = int(np.argmin(half_lives_s)) if sums else 0
        self._slow = int(np.argmax(half_lives_s)) if sums else 0

    def of(
        self,
        ring: Ring,
        table: NDArray[np.float32],
        at: NDArray[np.int64],
        states: NDArray[np.float32],
    ) -> Interest:
        """What is known of n users.

        Parameters
        ----------
        ring : their last interactions; those that `newest` names are looked at
        table, at : float32, shape (m, dim), and where in it the vectors of the newest are: int64,
            shape (n, newest)
        states : float32, shape (n, state_size)
        """
        n = len(states)
        evidence, fresh = np.empty(n, np.float32), np.empty(n, np.float32)
        columns = (ring.rows, ring.types, ring.ages_s, ring.newest, at, table)
        limits = (self._half_life_s, np.float32(SESSION_GAP_S))
        _look_back(*columns, self._weights, *limits, evidence, fresh)
        return Interest(evidence, fresh, self._drift(states))

    def _drift(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        drift = np.zeros(len(states), np.float32)
        if self._fast != self._slow:
            dim = states.shape[1] // self._sums
            _find_drift(states, dim, self._fast * dim, self._slow * dim, drift)
        return drift


@sum_in_any_order
def _add(total: NDArray[np.float32], vector: NDArray[np.float32], times: np.float32) -> None:
    for at in range(len(total)):
        total[at] += times * vector[at]


@sum_in_any_order
def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@compiled(NOTHING, array("f4", 2), INT, INT, INT, array("f4", written=True))
def _find_drift(
    states: NDArray[np.float32],
    dim: int,
    fast_at: int,
    slow_at: int,
    drift: NDArray[np.float32],
) -> None:
    """`Interest.drift`, into the last one, of sums that begin at two places of each state."""
    for user in range(len(states)):
        fast = states[user, fast_at : fast_at + dim]
        slow = states[user, slow_at : slow_at + dim]
        length = np.sqrt(_dot(fast, fast)) * np.sqrt(_dot(slow, slow))
        if length > 0:
            apart = np.float32(0.5) - np.float32(0.5) * _dot(fast, slow) / length
            drift[user] = min(max(apart, np.float32(0.0)), np.float32(1.0))


@compiled(
    NOTHING,
    array("i8", 2),
    array("u1", 2),
    array("f4", 2),
    array("i8", 2),
    array("i8", 2),
    array("f4", 2, contiguous=True),
    array("f4"),
    FLOAT32,
    FLOAT32,
    array("f4", written=True),
    array("f4", written=True),
)
def _look_back(
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    ages_s: NDArray[np.float32],
    newest: NDArray[np.int64],
    at: NDArray[np.int64],
    table: NDArray[np.float32],
    weights: NDArray[np.float32],
    half_life_s: np.float32,
    session_gap_s: np.float32,
    evidence: NDArray[np.float32],
    fresh: NDArray[np.float32],
) -> None:
    """Evidence and freshness of `Interest`, into the last two."""
    total = np.empty(table.shape[1], np.float32)
    for user in range(len(newest)):
        total[:] = 0
        weight_of_all = np.float32(0.0)
        in_session = 0
        going_on = True
        newer_s = np.float32(0.0)
        for back in range(newest.shape[1]):
            place = newest[user, back]
            if types[user, place] == 0:
                break  # the ring is used from the newest back, without gaps
            age_s = ages_s[user, place]
            going_on = going_on and age_s - newer_s <= session_gap_s
            in_session += going_on
            newer_s = age_s
            weight = weights[types[user, place]] * np.exp2(-age_s / half_life_s)
            vector = table[at[user, back]]
            square = _dot(vector, vector)
            if rows[user, place] != 0 and weight != 0 and square > 0:
                _add(total, vector, weight / np.sqrt(square))
                weight_of_all += abs(weight)
        evidence[user] = _dot(total, total) / weight_of_all if weight_of_all > 0 else 0
        fresh[user] = np.float32(1.0) / max(in_session, 1)
