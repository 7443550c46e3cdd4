"""Fit a `Correction` on held-out events. In: logits of cases. Out: two small networks, and how the
lists of others are with them. PyTorch.

The softmax is over a case's candidates, the items of its largest logits, which compete for its
list. What a correction is worth is told by cross-fitting: the lists of a fourth of the users are
judged, among all items, by what the others have fitted, and so with each fourth. The one that is
kept is fitted on all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.models.base import Float32, Int64
from export.models.glr.blend import Entries, Float64
from export.models.glr.candidates import Candidates
from export.models.glr.correction import Correction, Perceptron
from export.models.glr.counts import Counts
from export.models.glr.fitting import Report
from export.models.glr.logits import Logits

FOLDS: Final = 4  # of users
FEWEST: Final = 1_000  # cases with the target among their candidates
HIDDEN: Final = 8  # units
STEPS: Final = 600
BATCH: Final = 256  # cases
RATE: Final = 0.01  # of AdamW, at most
DECAY: Final = 0.01
LOWEST: Final = -1e4  # a logit that is not listed; an infinite one would make gradients no numbers


class Corrected(NamedTuple):
    """A correction that all cases have fitted, and what those are worth that a part of them have.

    Attributes
    ----------
    correction : in logits of before
    ranks : int64 [C]; from 0, of the targets among all items, by what other users have fitted
    """

    correction: Correction
    ranks: Int64


def correct(
    logits: Logits,
    weights: Float64,
    exclude: bool,
    counts: Counts,
    report: Report,
    over: Callable[[], bool],
) -> Corrected | None:
    """Fit, and see what it is worth. None, with a report why, where that cannot be done.

    Parameters
    ----------
    weights : float64 [2 R]; of the last interactions, as of `Logits.ranks`
    exclude : whether seen items are left out
    counts : of what the networks were trained on
    over : whether the time is; asked between steps
    """
    cases = logits.cases
    candidates = Candidates.of(logits, weights, exclude)
    known, user = candidates.target >= 0, cases.sequences.user[cases.windows[:, 0]]
    users = np.unique(user)
    if (bad := np.isnan(candidates.logits) | np.isposinf(candidates.logits)).any():
        report(
            f"  counts are not asked: {bad.any(1).sum():,} cases have logits that are no numbers"
        )
        return None
    if known.sum() < FEWEST or len(users) < 2:
        report(
            f"  counts are not asked: {known.sum():,} cases of {len(users):,} users have their "
            f"target among the best {candidates.rows.shape[1]}, too few (of {FEWEST:,}) to learn by"
        )
        return None
    tables = Tables.of(candidates, weights[cases.p.last :], counts)
    fold = np.random.default_rng([cases.p.seed, 1]).permutation(len(users)) % FOLDS
    fold = fold[np.searchsorted(users, user)]
    ranks = np.empty(len(known), np.int64)
    for one in range(min(FOLDS, len(users))):
        judged = fold == one
        correction = tables.fit(np.flatnonzero(known & ~judged), cases.p.seed, over)
        if correction is None:
            break
        others = corrected(logits, correction, counts, np.flatnonzero(judged))
        ranks[judged] = others.ranks(weights, exclude)
    else:
        correction = tables.fit(np.flatnonzero(known), cases.p.seed, over)
    if correction is None:
        why = "the time for that is over" if over() else "what was fitted are no numbers"
        report(f"  counts are not asked: {why}")
        return None
    return Corrected(correction, ranks)


def corrected(
    logits: Logits, correction: Correction, counts: Counts, at: Int64 | None = None
) -> Logits:
    """The same cases with it. `at`: int64; some of them, by index. None: all."""
    at = np.arange(len(logits.found)) if at is None else at
    cases = logits.cases.some(at)
    companions = correction.companions(counts, np.unique(cases.recent))
    return Logits(
        cases,
        logits.found[torch.from_numpy(at)],
        logits.table,
        logits.biases + correction.biases(counts),
        Entries.of(cases.recent, companions),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Standardised:
    """Features of the items, or pairs, that stand in the cases: float32 [m, F], of mean 0 and
    deviation 1, and what they were."""

    features: Tensor
    minimum: Float32
    maximum: Float32
    mean: Float32
    std: Float32

    @classmethod
    def of(cls, features: Float32) -> _Standardised:
        mean = features.mean(0, dtype=np.float64).astype(np.float32)
        std = np.maximum(features.std(0, dtype=np.float64), 1e-6).astype(np.float32)
        scaled = torch.from_numpy((features - mean) / std)
        return cls(scaled, features.min(0), features.max(0), mean, std)

    def perceptron(self, network: nn.Sequential, factor: float) -> Perceptron:
        """As NumPy has it, what it says times `factor`."""
        first, _, second = network
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        with torch.no_grad():
            return Perceptron(
                self.minimum,
                self.maximum,
                self.mean,
                self.std,
                first.weight.T.numpy().copy(),
                first.bias.numpy().copy(),
                second.weight[0].numpy() * np.float32(factor),
                second.bias.item() * factor,
            )


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Candidates and features as networks read them.

    Attributes
    ----------
    logits : float [C, M]; target : int64 [C]; together : float [R]
    item : int64 [C, M], of `items`; pair : int64 [C, R, M], of `pairs`, -1 for none
    """

    logits: Tensor
    target: Tensor
    together: Tensor
    item: Tensor
    pair: Tensor
    items: _Standardised
    pairs: _Standardised

    @classmethod
    def of(cls, candidates: Candidates, together: Float64, counts: Counts) -> Tables:
        """`together`: float64 [R], see `blend.py`; all in float32 from here on."""
        rows, item = np.unique(candidates.rows, return_inverse=True)
        pair = candidates.companion_index(counts.companions.rows)
        at, pair[pair >= 0] = np.unique(pair[pair >= 0], return_inverse=True)
        if not len(at):  # no candidate is a companion: features of a pair that nobody has
            at = np.zeros(1, np.int64)
        return cls(
            logits=torch.from_numpy(candidates.logits).clamp(min=LOWEST),
            target=torch.from_numpy(candidates.target),
            together=torch.from_numpy(together.astype(np.float32)),
            item=torch.from_numpy(item.reshape(candidates.rows.shape)),
            pair=torch.from_numpy(pair),
            items=_Standardised.of(counts.item_features[rows]),
            pairs=_Standardised.of(counts.pair_features(at)),
        )

    def fit(
        self, cases: Int64, seed: int, over: Callable[[], bool] = lambda: False
    ) -> Correction | None:
        """Fitted on some cases, all of which have a target. The same for the same seed.

        None when the time is over before, or where numbers became none.
        """
        network = _Network.drawn(self, seed)
        if not network.fit(self, cases, seed, over):
            return None
        return network.correction(self)


class _Network(nn.Module):
    """factor * logits + of_items + the sum over lags of together * of_pairs.

    The factor is what makes the targets likeliest; lists do not depend on it, and it is divided
    out in the end.
    """

    def __init__(self, items: int, pairs: int) -> None:
        super().__init__()
        self.of_items = _silent(items)
        self.of_pairs = _silent(pairs)
        self.log_factor = nn.Parameter(torch.zeros(()))

    @classmethod
    def drawn(cls, tables: Tables, seed: int) -> _Network:
        """At random, by the seed; other draws of the process stay what they are."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(tables.items.features.shape[1], tables.pairs.features.shape[1])

    def fit(self, tables: Tables, cases: Int64, seed: int, over: Callable[[], bool]) -> bool:
        """Whether it came to its end, with numbers."""
        draw = np.random.default_rng(seed)
        optimiser = torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=DECAY)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.1)
        order = np.empty(0, np.int64)
        for _ in range(STEPS):
            if over():
                return False
            if len(order) < min(BATCH, len(cases)):
                order = np.concatenate([order, draw.permutation(cases)])
            some, order = torch.from_numpy(order[:BATCH]), order[BATCH:]
            loss = functional.cross_entropy(self(tables, some), tables.target[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
        return all(bool(value.isfinite().all()) for value in self.parameters())

    def forward(self, tables: Tables, cases: Tensor) -> Tensor:
        """Logits of the candidates of some cases: float [c, M]."""
        said = self.of_items(tables.items.features[tables.item[cases]])[..., 0]
        pair = tables.pair[cases]
        there = pair >= 0
        worth = torch.zeros(pair.shape)
        worth[there] = self.of_pairs(tables.pairs.features[pair[there]])[:, 0]
        brought = (worth * tables.together[:, None]).sum(1)
        logits: Tensor = self.log_factor.exp() * tables.logits[cases] + said + brought
        return logits

    def correction(self, tables: Tables) -> Correction:
        """In logits of before."""
        factor = math.exp(-self.log_factor.item())
        return Correction(
            tables.items.perceptron(self.of_items, factor),
            tables.pairs.perceptron(self.of_pairs, factor),
        )


def _silent(features: int) -> nn.Sequential:
    """A perceptron that says 0 of everything, and can learn."""
    network = nn.Sequential(nn.Linear(features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))
    nn.init.zeros_(network[2].weight)
    nn.init.zeros_(network[2].bias)
    return network
