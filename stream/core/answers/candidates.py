"""Scores of items that the caller names. In: states, item rows. Out: their scores, exactly.

The score graph ranks the whole item table. With a bias that bars all items but those asked for, the
k best of k candidates are the candidates, with the scores that lists have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.bundle import NEVER_LISTED
from stream.core.model import Model
from stream.core.policy.lists import USERS_AT_ONCE
from stream.core.policy.ring import Ring
from stream.core.recent import Recent


class Candidates:
    """Scores candidates of one model; keeps a bias of its own in the model's memory."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._bias = model.new_bias(np.empty(0, np.float32))  # nothing is listed

    def scores(
        self,
        rows: Sequence[NDArray[np.int64]],
        bias: NDArray[np.float32],
        beta: float,
        states: NDArray[np.float32],
        ring: Ring,
    ) -> list[NDArray[np.float32]]:
        """What each user's candidates score.

        Parameters
        ----------
        rows : for each user, int64, shape (m,): rows, `NO_ITEM` for unknown items
        bias : float32, shape (rows of the table,)
        beta : weight of the interest against the bias
        states : float32, shape (users, state_size)
        ring : of the same users

        Returns
        -------
        for each user float32, shape (m,), in [0, 1]; 0 for unknown items
        """
        found: list[NDArray[np.float32]] = []
        for first in range(0, len(rows), USERS_AT_ONCE):
            some = slice(first, first + USERS_AT_ONCE)
            who = np.arange(*some.indices(len(rows)))
            found += self._some(rows[some], bias, beta, states[some], ring.take(who))
        return found

    def _some(
        self,
        rows: Sequence[NDArray[np.int64]],
        bias: NDArray[np.float32],
        beta: float,
        states: NDArray[np.float32],
        ring: Ring,
    ) -> list[NDArray[np.float32]]:
        model, recent = self._model, None
        wanted = np.unique(np.concatenate(rows))
        wanted = wanted[wanted > 0]
        if not len(wanted):
            return [np.zeros(len(mine), np.float32) for mine in rows]
        if model.recent:
            recent = Recent.of(ring.rows, ring.types, ring.newest, model.recent)
        nobody = np.zeros((len(states), 1), np.int64)
        self._bias.set(wanted, bias[wanted])
        try:
            listed, scores = model.score(states, self._bias, nobody, beta, len(wanted), recent)
        finally:
            self._bias.set(wanted, NEVER_LISTED)
        by_row = np.zeros((len(states), len(wanted) + 1), np.float32)  # the last: of no item
        np.put_along_axis(by_row, np.searchsorted(wanted, listed), scores, axis=1)
        at = [np.where(mine > 0, np.searchsorted(wanted, mine), len(wanted)) for mine in rows]
        return [of_user[places] for of_user, places in zip(by_row, at, strict=True)]


def mixed(
    scores: NDArray[np.float32],
    known: NDArray[np.bool_],
    relevance: Sequence[float] | None,
    weight: float,
) -> NDArray[np.float64]:
    """What candidates are ordered by: (1 - weight) * interest + weight * relevance.

    Both are scaled to [0, 1] by the smallest and the largest among these candidates, since neither
    a probability of a hundredth nor a search engine's score of 17 says anything beside the other.
    Where all are alike they are 1. An item that nobody knows has no interest.

    Parameters
    ----------
    scores : float32, shape (m,)
    known : bool, shape (m,); of which candidates there is a score
    relevance : m numbers; None: the scores alone, as they are
    """
    if relevance is None:
        return scores.astype(np.float64)
    interest = np.zeros(len(scores))
    if known.any():
        interest[known] = _scaled(scores[known].astype(np.float64))
    return (1 - weight) * interest + weight * _scaled(np.array(relevance, np.float64))


def _scaled(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.abs(numbers).max()
    numbers = numbers / largest if largest > 0 else numbers  # a difference may not be finite else
    span = numbers.max() - numbers.min()
    return (numbers - numbers.min()) / span if span > 0 else np.ones(len(numbers))
