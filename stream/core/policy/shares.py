"""How much of its score a listed item owes to the interaction that is named as its reason.

In: lists or ranked candidates, their reasons. Out: a number for each item: its score less what the
graph scores it without that interaction. For models that score by a state which is a sum, and by
nothing else that a user did: there, taking one out is a subtraction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.core.policy.arranging import Picked
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.candidates import Candidates
from stream.core.policy.placement import Placement
from stream.core.policy.reasons import ReasonColumns, Reasons
from stream.placements import MOST_WITH_SHARES


class Shares:
    """Tells what scores owe to their reasons, for the lists of one model.

    Parameters
    ----------
    candidates : scores the items without an interaction
    reasons : named the interactions
    """

    def __init__(self, candidates: Candidates, reasons: Reasons) -> None:
        self._candidates = candidates
        self._reasons = reasons

    def of(
        self,
        placement: Placement,
        shown: Picked,
        why: ReasonColumns,
        basis: Basis,
        audience: Audience,
        bias: Callable[[int], NDArray[np.float32]] | None = None,
    ) -> NDArray[np.float32] | None:
        """What the scores of lists owe to their reasons: float32, shape (users, k); NaN: not known.

        None: the placement does not want to know.

        An interaction is taken out with the weights in force, as of the user's newest event. Users'
        states are scored once for each interaction that is named. Places from `MOST_WITH_SHARES` on
        are left out.

        Parameters
        ----------
        why : where it names something else than an interaction, `at` is -1
        bias : by which the items were scored, of all rows, by the rules in force; None: the
            placement's
        """
        if not placement.reason_shares:
            return None
        found = np.full(shown.rows.shape, np.nan, np.float32)
        named_places = (why.at >= 0) & (shown.scores > 0)
        named_places[:, MOST_WITH_SHARES:] = False
        users, places = np.nonzero(named_places)
        if not len(users):
            return found
        ring_size = basis.ring.rows.shape[1]
        named, number = np.unique(users * ring_size + why.at[users, places], return_inverse=True)
        order = np.argsort(number, kind="stable")
        users, places = users[order], places[order]
        rows = np.split(shown.rows[users, places], np.cumsum(np.bincount(number))[:-1])
        who, at = np.divmod(named, ring_size)
        without = self._reasons.without(basis.states[who], basis.as_of_states.take(who), at)
        scores = self._candidates.by_rules(
            rows,
            placement.in_force(audience)[who],
            bias or placement.biases,
            placement.beta,
            Basis(without, basis.ring.take(who)),
        )
        found[users, places] = shown.scores[users, places] - np.concatenate(scores)
        return found
