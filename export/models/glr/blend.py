"""What the last interactions add to an item's logit. In: held-out cases. Out: a few weights.

    added(i) = sum over lags l of  again[l] * [i is the item at lag l]
                                 + together[l] * log(1 + p(i | item at lag l) / RARE)

p is the share of the companions of an item, RARE that of `companions`; log(1 + p / RARE) is what a
`Correction` may change. The weights maximise the likelihood of held-out events under
softmax(base + added), with the network's logits as base. Only items that stand in `added` change
it: with b = base - logsumexp(base), the new normaliser is the sum over those of exp(b + added), and
of exp(b) over all others. So no pass over the whole catalogue is needed while the weights are
fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from export.models.base import Int64
from export.models.glr.companions import Companions

Float64 = npt.NDArray[np.float64]

RIDGE = 1e-3  # a case; without repeats in the log nothing else holds their weights
BOUND = 20.0
LEAST_SHARE = 1e-12  # of all items that bring nothing


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Every contribution to an item of a case; E contributions to U items of C cases.

    Attributes
    ----------
    case, row : int64 [U]; the case and the item, each pair once
    item : int64 [E]; index of the pair
    weight : int64 [E]; which weight: lag l is `again[l]`, R + l `together[l]`
    value : float64 [E]
    """

    case: Int64
    row: Int64
    item: Int64
    weight: Int64
    value: Float64

    @classmethod
    def of(cls, recent: Int64, companions: Companions) -> Entries:
        """Of cases whose last items are `recent`: int64 [C, R], newest first, 0 for none."""
        cases, last = recent.shape
        lag = np.broadcast_to(np.arange(last), recent.shape)
        case = np.broadcast_to(np.arange(cases)[:, None], recent.shape)
        k = companions.rows.shape[1]
        rows = np.concatenate([recent.ravel(), companions.rows[recent].ravel()])
        value = np.concatenate([np.ones(recent.size), companions.worth[recent].ravel()])
        weight = np.concatenate([lag.ravel(), np.repeat(last + lag.ravel(), k)])
        of = np.concatenate([case.ravel(), np.repeat(case.ravel(), k)])
        there = (rows > 0) & (value != 0)
        n = len(companions.rows)
        pair, item = np.unique(of[there] * n + rows[there], return_inverse=True)
        return cls(pair // n, pair % n, item, weight[there], value[there].astype(np.float64))

    def added(self, weights: Float64) -> Float64:
        """The sum for each pair: float64 [U]."""
        contributions = weights[self.weight] * self.value
        return np.bincount(self.item, contributions, len(self.case)).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class AddedUp:
    """The normalisers of C cases when the last interactions have their say.

    Attributes
    ----------
    case : int64 [U]; of each pair
    begins : int64; the first pair of each case that has one
    log_others : float64 [C]; log of the share of the items that are in no pair
    """

    case: Int64
    begins: Int64
    log_others: Float64

    @classmethod
    def of(cls, entries: Entries, base: Float64, cases: int) -> AddedUp:
        """`base`: float64 [U]; log-probability of each pair under the network alone."""
        inside = np.bincount(entries.case, np.exp(base), cases)
        log_others = np.log(np.maximum(1 - inside, LEAST_SHARE))
        return cls(entries.case, np.flatnonzero(np.diff(entries.case, prepend=-1)), log_others)

    def normaliser(self, logit: Float64) -> Float64:
        """Log of the sum over items of exp(logit), where those in no pair keep theirs: float64 [C].

        `logit`: float64 [U]; base + added.
        """
        most, has = self.log_others.copy(), self.case[self.begins]
        if len(has):
            most[has] = np.maximum(most[has], np.maximum.reduceat(logit, self.begins))
        total = np.exp(self.log_others - most)
        total += np.bincount(self.case, np.exp(logit - most[self.case]), len(most))
        normaliser: Float64 = most + np.log(total)
        return normaliser


def fit(entries: Entries, base: Float64, target: Int64, last: int) -> Float64:
    """The weights that make the targets likeliest.

    Parameters
    ----------
    base : float64 [U]; log-probability of each pair under the network alone
    target : int64 [C]; index of the pair that is the case's target, -1 when it is none of them
    last : R

    Returns
    -------
    float64 [2 R]; `again`, then `together`
    """
    cases = len(target)
    added_up = AddedUp.of(entries, base, cases)
    hit = np.zeros(len(base))
    hit[target[target >= 0]] = 1.0

    def objective(weights: Float64) -> tuple[float, Float64]:
        added = entries.added(weights)
        logit = base + added
        normaliser = added_up.normaliser(logit)
        loss = normaliser.sum() - (hit * added).sum()
        of_pair = np.exp(logit - normaliser[entries.case]) - hit
        slope = np.bincount(entries.weight, of_pair[entries.item] * entries.value, 2 * last)
        ridge = RIDGE * cases
        return loss + ridge * (weights**2).sum() / 2, slope + ridge * weights

    if not len(base):
        return np.zeros(2 * last)
    found = minimize(
        objective,
        np.zeros(2 * last),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-BOUND, BOUND)] * 2 * last,
    )
    weights: Float64 = found.x
    return weights
