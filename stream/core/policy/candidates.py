"""Scores of items that are named. In: states, item rows. Out: their scores, exactly.

The score graph ranks the whole item table. With a bias that bars all items but those asked for, the
k best of k candidates are the candidates, with the scores that lists have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.bundle import NEVER_LISTED
from stream.core.model import USERS_AT_ONCE, Model
from stream.core.policy.audience import Basis
from stream.core.policy.ring import Ring
from stream.core.recent import Recent


class Candidates:
    """Scores candidates of one model; keeps a bias of its own in the model's memory."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._bias = model.new_bias(np.empty(0, np.float32))  # nothing is listed

    def by_rules(
        self,
        rows: Sequence[NDArray[np.int64]],
        bits: NDArray[np.int64],
        bias: Callable[[int], NDArray[np.float32]],
        beta: float,
        basis: Basis,
    ) -> list[NDArray[np.float32]]:
        """What each user's candidates score, by the rules in force for each.

        Parameters
        ----------
        rows, beta : as of `scores`
        bits : int64, shape (users,); which rules are in force
        bias : of all rows, where some rules are in force
        basis : of the same users
        """
        found = [np.empty(0, np.float32)] * len(rows)
        for some in np.unique(bits).tolist():
            who = np.flatnonzero(bits == some)
            mine = [rows[user] for user in who.tolist()]
            states, ring = basis.states[who], basis.ring.take(who)
            scores = self.scores(mine, bias(some), beta, states, ring)
            for user, of_user in zip(who.tolist(), scores, strict=True):
                found[user] = of_user
        return found

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
