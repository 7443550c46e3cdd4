"""How much each member of an ensemble weighs. In: members, held-out events. Out: weights.

A log-linear pool (Genest and Zidek 1986): p(j) ~ product over members of p_m(j)^w_m, so that logits
add up with the weights. They maximise the likelihood of events that no member was trained on; its
logarithm is concave in them, so there is one maximum. Lists depend on the weights' proportions
alone. They are scaled to a sum of 1: a guest's logits are then a mean of the members'.

Must not know: which models there are, graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import softmax

from export.data.dataset import Log, by_user
from export.data.visits import one_a_moment
from export.measuring.metrics.ranking import gain
from export.models.base import Float32, HeldOut, Int64, Trained
from stream.contracts import EventType
from stream.core.recent import Recent

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

CASES = 4_000  # that weights are fitted on
FEWEST = 200  # of those, where the catalogue is large
LOGITS = 1 << 25  # of a member in memory, about
LOOKED_AT = 1_000  # a user's last events, at most, that a case is asked from
PRIOR = 20.0  # that weights are equal; a case says as much as the variance of its logits
AT_ONCE = 256
K = 20


@dataclass(frozen=True, slots=True)
class Weighed:
    """What held-out events say of an ensemble.

    Attributes
    ----------
    weights : of the members; their sum is 1
    cases : that they were fitted on
    exclude_seen : whether lists are better without what the user has seen; fitted for such lists
    ndcg, alone : of the ensemble's lists at `K`, and of each member's
    """

    weights: tuple[float, ...]
    cases: int = 0
    exclude_seen: bool = False
    ndcg: float = 0.0
    alone: tuple[float, ...] = ()

    @classmethod
    def equal(cls, members: int) -> Weighed:
        """Where nothing is held out."""
        return cls((1 / members,) * members)


def weigh(members: Sequence[Trained], log: Log, held_out: HeldOut) -> Weighed:
    """Fit the weights.

    Parameters
    ----------
    members : of equal `item_ids`, trained on what is not held out
    """
    asked = Asked.of(log, held_out, members[0].item_ids)
    logits = [asked.logits(member) for member in members]
    found = []
    for struck in (None, asked.seen()):
        pool = Pool(logits, asked.target - 1, struck)
        weights = np.round(pool.fit(), 6)
        ndcg, *alone = (round(pool.ndcg(of), 4) for of in (weights, *np.eye(len(members))))
        of = tuple(weights.tolist())
        found.append(Weighed(of, len(asked), struck is not None, ndcg, tuple(alone)))
    return max(found, key=lambda weighed: weighed.ndcg)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """C held-out moments, of each one item to be predicted from what its user did before.

    Attributes
    ----------
    items : n, rows of the item table
    row, event_type : int64 [E]; of the log's events, user by user, in time order
    gap_s : float32 [E]; since the event before of the same user
    begins, stops : int64 [C]; the events that a case knows, the longest cases first
    target : int64 [C]; rows
    """

    items: int
    row: Int64
    event_type: Int64
    gap_s: Float32
    begins: Int64
    stops: Int64
    target: Int64

    @classmethod
    def of(cls, log: Log, held_out: HeldOut, item_ids: Sequence[str]) -> Asked:
        """Some of the moments of held-out events, drawn at random, the same for the same log.

        A user's events of one moment come in no order: a case knows what lies before it, and one of
        its items is asked for. Events of items without a row ask for nothing.
        """
        row_by_id = {item_id: row for row, item_id in enumerate(item_ids)}
        row_by_code = np.array([row_by_id.get(item_id, 0) for item_id in log.items])
        order = by_user(log)
        user, time_ms, row = log.user[order], log.time_ms[order], row_by_code[log.item[order]]
        at = np.arange(len(order))
        new = np.ones(len(order), np.bool_)
        new[1:] = user[1:] != user[:-1]
        gap_s = np.where(new, 0, np.diff(time_ms, prepend=0) / 1000).astype(np.float32)
        user_begins = np.maximum.accumulate(np.where(new, at, 0))
        new[1:] |= time_ms[1:] != time_ms[:-1]
        moment_begins = np.maximum.accumulate(np.where(new, at, 0))
        wanted = np.zeros(len(log), np.bool_)
        wanted[held_out.asked] = True
        wanted = wanted[order] & (row > 0) & (moment_begins > user_begins)
        rng = np.random.default_rng(0)
        drawn = one_a_moment(np.flatnonzero(wanted), moment_begins, rng)
        drawn = drawn[: max(FEWEST, min(CASES, LOGITS // len(item_ids)))]
        stops = moment_begins[drawn]
        begins = np.maximum(user_begins[drawn], stops - LOOKED_AT)
        longest_first = np.argsort(begins - stops, kind="stable")
        return cls(
            len(item_ids),
            row,
            log.event_type[order].astype(np.int64),
            gap_s,
            begins[longest_first],
            stops[longest_first],
            row[drawn[longest_first]],
        )

    def __len__(self) -> int:
        return len(self.target)

    def logits(self, trained: Trained) -> Float32:
        """What a model says of all items but row 0: float32 [C, n - 1]."""
        state = np.zeros((len(self), trained.state_size), np.float32)
        lengths = self.stops - self.begins
        for step in range(int(lengths.max(initial=0))):
            at = self.begins[: np.searchsorted(-lengths, -step)] + step
            gap_s = self.gap_s[at] if step else np.zeros(len(at), np.float32)
            state[: len(at)] = trained.reference.update(
                state[: len(at)], self.row[at], self.event_type[at], gap_s
            )
        recent = self._recent(trained.recent)
        logits = np.empty((len(self), self.items - 1), np.float32)
        for first in range(0, len(self), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            seen = [Recent(*(column[some] for column in recent))] if trained.recent else []
            logits[some] = trained.reference.logits(state[some], trained.beta, *seen)[:, 1:]
        return logits

    def _recent(self, size: int) -> Recent:
        """The last interactions of each case, as a ring has them."""
        remembered = np.flatnonzero(self.event_type != EventType.IMPRESSION)
        back = np.searchsorted(remembered, self.stops)[:, None] - 1 - np.arange(size)
        at = remembered[np.maximum(back, 0)] if len(remembered) else np.zeros_like(back)
        there = (back >= 0) & (at >= self.begins[:, None]) & (self.row[at] > 0)
        return Recent(np.where(there, self.row[at], 0), np.where(there, self.event_type[at], 0))

    def seen(self) -> Bool:
        """Which items but row 0 are among a case's events: bool [C, n - 1]."""
        seen = np.zeros((len(self), self.items), np.bool_)
        for case, (begin, stop) in enumerate(zip(self.begins, self.stops, strict=True)):
            seen[case, self.row[begin:stop]] = True
        return seen[:, 1:]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """What members say of the cases.

    Attributes
    ----------
    logits : of each member, float32 [C, n - 1]
    target : int64 [C]; columns
    struck : bool [C, n - 1]; what may not be listed. A case whose target is struck tells nothing of
        weights, and its list is worth nothing. None: everything may be listed
    """

    logits: Sequence[Float32]
    target: Int64
    struck: Bool | None = None

    def fit(self) -> Float64:
        """The weights under which the targets are likeliest; few cases leave them near equal."""
        equal = np.full(len(self.logits), 1 / len(self.logits))

        def objective(weights: Float64) -> tuple[float, Float64]:
            off = weights - equal
            loss, slope = PRIOR * float(off @ off) / 2, PRIOR * off
            for some, mixed in self._mixed(weights):
                at_target = np.arange(len(some)), self.target[some]
                p = softmax(mixed, axis=1)
                loss -= float(np.log(np.maximum(p[at_target], 1e-38)).sum(dtype=np.float64))
                for member, x in enumerate(self.logits):
                    expected = np.einsum("ij,ij->i", p, x[some])
                    slope[member] += float((expected - x[some][at_target]).sum())
            return loss, slope

        bounds = [(0.0, None)] * len(equal)
        found: Float64 = minimize(objective, equal, jac=True, method="L-BFGS-B", bounds=bounds).x
        return found / found.sum() if found.sum() > 0 else equal

    def ndcg(self, weights: Float64) -> float:
        """NDCG at `K` over all items."""
        found = 0.0
        for some, mixed in self._mixed(weights):
            of_target = mixed[np.arange(len(some)), self.target[some]][:, None]
            found += float(gain((~(mixed <= of_target)).sum(axis=1), K).sum())
        return found / max(len(self.target), 1)

    def _mixed(self, weights: Float64) -> Iterator[tuple[Int64, Float32]]:
        """Some of the cases that tell, and their logits, as many as fit into a cache."""
        cases = np.arange(len(self.target))
        if self.struck is not None:
            cases = cases[~self.struck[cases, self.target]]
        for first in range(0, len(cases), AT_ONCE):
            some = cases[first : first + AT_ONCE]
            mixed = np.zeros((len(some), self.logits[0].shape[1]), np.float32)
            for x, weight in zip(self.logits, weights, strict=True):
                mixed += np.float32(weight) * x[some]
            if self.struck is not None:
                mixed[self.struck[some]] = -np.inf
            yield some, mixed
