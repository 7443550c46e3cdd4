"""How much each of a user's last items says about the next. In: held-out events. Out: weights.

The probability that the next item is j, given the last items i_1, i_2, ... (newest first):

    p(j) ~ popularity * odds_j + sum over l of  again[l] * [j = i_l] + together[l] * p(j | i_l)

an interpolation whose weights maximise the likelihood of events that nothing was counted in
(Jelinek and Mercer 1980). Users with fewer items lack the terms of the others, so p is divided by
the weights that are there; the fixed point is that of Hunter's MM algorithms (2004).

Must not know: the models, graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.measuring.metrics.ranking import gain
from export.models.base import Int64
from export.models.pairs import Towards

Float64 = npt.NDArray[np.float64]

CASES = 8_000  # of each kind that weights are fitted on
RANKED = 2_000  # that the weight of popularity is chosen by
PRIOR_CASES = 50.0  # that the weights to begin with count as
SWEEPS = 100
AT_ONCE = 1 << 24  # scores in memory
K = 20
# Likelihood trusts popularity more than lists should: each is tried as a factor of its weight.
FACTORS = (1.0, 0.3, 0.1)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What the terms of the mixture weigh; all are positive or 0, and sum to about 1.

    Attributes
    ----------
    again, together : float64, shape (L,); of the item l events ago, and of its neighbours
    popularity : of the items' popularity
    """

    again: Float64
    together: Float64
    popularity: float

    @classmethod
    def prior(cls, last: int) -> Weights:
        """What is taken for true before an event was seen: newer items say more."""
        fading = 0.8 ** np.arange(last, dtype=np.float64)
        fading /= fading.sum()
        return cls(0.2 * fading, 0.6 * fading, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Events to be predicted.

    Attributes
    ----------
    recent : int64, shape (C, L); rows of what the user turned to before, newest first, 0 for none
    target : int64, shape (C,); rows
    """

    recent: Int64
    target: Int64

    @classmethod
    def of(cls, events: Towards, since_ms: int, last: int) -> Asked:
        """Some of the events from `since_ms` on, drawn at random, the same for the same log.

        Each is asked for from what lies before its moment; one of several lines of an order also
        from the lines that were entered before it.
        """
        order = np.lexsort((events.time_ms, events.user))
        user, time_ms, row = events.user[order], events.time_ms[order], events.row[order]
        at = np.arange(len(order))
        first = np.ones(len(order), np.bool_)
        first[1:] = np.diff(user) != 0
        user_begins = np.maximum.accumulate(np.where(first, at, 0))
        first[1:] |= np.diff(time_ms) != 0
        moment_begins = np.maximum.accumulate(np.where(first, at, 0))
        rng = np.random.default_rng(0)
        recent, target = [np.zeros((0, last), np.int64)], [np.zeros(0, np.int64)]
        for known in (moment_begins, at):
            asked = (time_ms >= since_ms) & (known > user_begins)
            if known is at:
                asked &= at > moment_begins
            chosen = np.sort(rng.permutation(np.flatnonzero(asked))[:CASES])
            back = known[chosen, None] - 1 - np.arange(last)
            inside = back >= user_begins[chosen, None]
            recent.append(np.where(inside, row[np.maximum(back, 0)], 0))
            target.append(row[chosen])
        return cls(np.concatenate(recent), np.concatenate(target))

    def __len__(self) -> int:
        return len(self.target)

    def some(self, n: int) -> Asked:
        """At most n of them, spread over all."""
        step = max(-(-len(self) // n), 1)
        return Asked(self.recent[::step], self.target[::step])


def fit(asked: Asked, shares: sparse.csr_array, popularity: Float64) -> Weights:
    """The weights that make the targets likeliest; few cases move them little from the prior.

    Parameters
    ----------
    shares : [n, n]; entry (i, j) is p(j | i)
    popularity : float64, shape (n,); sums to 1
    """
    last = asked.recent.shape[1]
    prior = Weights.prior(last)
    begin = np.concatenate([prior.again, prior.together, [prior.popularity]])
    if len(asked) == 0:
        return prior
    there = (asked.recent > 0).astype(np.float64)
    said = np.concatenate(
        [
            asked.recent == asked.target[:, None],
            np.stack([shares[rows, asked.target] for rows in asked.recent.T], axis=1),
            popularity[asked.target][:, None],
        ],
        axis=1,
    ).astype(np.float64)
    there = np.concatenate([there, there, np.ones((len(asked), 1))], axis=1)
    weights = begin
    for _ in range(SWEEPS):
        share = weights * (said.T @ (1 / (said @ weights))) + PRIOR_CASES * begin
        weights = share / (there.T @ (1 / (there @ weights)) + PRIOR_CASES)
        weights /= weights.sum()
    return Weights(weights[:last], weights[last:-1], float(weights[-1]))


def settle(asked: Asked, shares: sparse.csr_array, popularity: Float64) -> Weights:
    """`fit`, and of the `FACTORS` of popularity's weight the one whose lists are best (NDCG)."""
    weights = fit(asked, shares, popularity)
    if len(asked) == 0:
        return weights
    tried = [replace(weights, popularity=weights.popularity * factor) for factor in FACTORS]
    some = asked.some(RANKED)
    return max(tried, key=lambda each: ndcg(each, some, shares, popularity))


def ndcg(weights: Weights, asked: Asked, shares: sparse.csr_array, popularity: Float64) -> float:
    """NDCG at `K` over all items, of one target a case."""
    n = len(popularity)
    found = 0.0
    for first in range(0, len(asked), max(AT_ONCE // n, 1)):
        part = slice(first, first + max(AT_ONCE // n, 1))
        recent, target = asked.recent[part], asked.target[part]
        case = np.arange(len(target))
        of = np.repeat(case, recent.shape[1])
        at = (of, recent.ravel())
        shape = (len(case), n)
        history = sparse.csr_array((np.tile(weights.together, len(case)), at), shape=shape)
        again = sparse.csr_array((np.tile(weights.again, len(case)), at), shape=shape)
        scores = (history @ shares + again).toarray() + weights.popularity * popularity
        scores[:, 0] = 0
        rank = (~(scores <= scores[case, target][:, None])).sum(axis=1)
        found += float(gain(rank, K).sum())
    return found / len(asked)
