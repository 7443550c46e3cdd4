"""Fit a `Correction` on held-out events. In: the best candidates of each case. Out: two small
networks, or none where the lists are no better for them. PyTorch.

The softmax is over a case's candidates, which compete for its list. What a correction is worth is
told by cross-fitting: half of the users fit it, the other half's lists are judged, and the other
way round. The one that is kept is fitted on all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from export.models.base import Float32, Int64
from export.models.glr.correction import Correction, Perceptron
from export.models.glr.counts import Counts

CANDIDATES: Final = 120  # the best items of a case
FEWEST: Final = 1_000  # cases with the target among them
HIDDEN: Final = 8
STEPS: Final = 600
BATCH: Final = 256  # cases
RATE: Final = 0.01
DECAY: Final = 0.01
LOWEST: Final = -1e4  # a logit that is not listed; an infinite one would make gradients no numbers


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The best items of C cases.

    Attributes
    ----------
    rows : int64 [C, K]
    logits : float32 [C, K], descending
    target : int64 [C]; where the target stands among them, -1 where it does not
    user : int64 [C]
    recent : int64 [C, R]; rows of the last interactions, 0 for none
    """

    rows: Int64
    logits: Float32
    target: Int64
    user: Int64
    recent: Int64

    def pairs(self, counts: Counts) -> Int64:
        """Where each candidate stands among the companions of each recent item: int64 [C, R, K].

        Indices of `Companions.rows`, flat; -1 where it is none of them.
        """
        rows = counts.companions.rows
        n, k = rows.shape
        items = np.unique(self.recent)
        there = (items[:, None] * k + np.arange(k))[rows[items] > 0]
        found = np.full((*self.recent.shape, self.rows.shape[1]), -1, np.int64)
        if not len(there):
            return found
        key = there // k * n + rows.ravel()[there]
        order = np.argsort(key)
        key, there = key[order], there[order]
        for lag in range(self.recent.shape[1]):
            wanted = self.recent[:, lag, None] * n + self.rows
            at = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            found[:, lag] = np.where(key[at] == wanted, there[at], -1)
        return found


def correct(
    candidates: Candidates, together: npt.NDArray[np.float64], counts: Counts, seed: int
) -> tuple[Correction, Int64, Int64] | None:
    """Fit, and see what it is worth.

    Parameters
    ----------
    together : float64 [R], weights of the last interactions
    counts : of what the networks were trained on

    Returns
    -------
    The correction fitted on all cases, and ranks from 0 of the targets, int64 [C]: without any
    correction, and with one that other users have fitted; K for a target that is no candidate.
    None where there is too little to fit one on.
    """
    known = candidates.target >= 0
    users = np.unique(candidates.user)
    if known.sum() < FEWEST or len(users) < 2 or np.isnan(candidates.logits).any():
        return None
    tables = _Tables.of(candidates, together, counts)
    half = np.random.default_rng(seed).permutation(users)[: len(users) // 2]
    first = np.isin(candidates.user, half)
    ranks = np.empty(len(known), np.int64)
    for judged in (first, ~first):
        fitted = _Fitted.on(tables, np.flatnonzero(known & ~judged), seed)
        ranks[judged] = tables.ranks(np.flatnonzero(judged), fitted)
    before = tables.ranks(np.arange(len(known)), None)
    return _Fitted.on(tables, np.flatnonzero(known), seed).correction(tables), before, ranks


@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Features of the items, or pairs, that stand in the cases: float32 [m, F], and how scaled."""

    features: Tensor
    low: Float32
    high: Float32
    middle: Float32
    spread: Float32

    @classmethod
    def of(cls, features: Float32) -> _Scaled:
        middle, spread = features.mean(0), np.maximum(features.std(0), 1e-6)
        scaled = torch.from_numpy((features - middle) / spread)
        return cls(scaled, features.min(0), features.max(0), middle, spread)

    def numbers(self, network: nn.Sequential, factor: float) -> Perceptron:
        """As NumPy has it, what it says times `factor`."""
        inward, _, outward = network
        assert isinstance(inward, nn.Linear)
        assert isinstance(outward, nn.Linear)
        with torch.no_grad():
            return Perceptron(
                self.low,
                self.high,
                self.middle,
                self.spread,
                inward.weight.T.numpy().copy(),
                inward.bias.numpy().copy(),
                outward.weight[0].numpy() * np.float32(factor),
                outward.bias.item() * factor,
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """Candidates as a network reads them.

    Attributes
    ----------
    logits : float [C, K]; target : int64 [C]; together : float [R]
    item : int64 [C, K], of `items`; pair : int64 [C, R, K], of `pairs`, -1 for none
    """

    logits: Tensor
    target: Tensor
    together: Tensor
    item: Tensor
    pair: Tensor
    items: _Scaled
    pairs: _Scaled

    @classmethod
    def of(
        cls, candidates: Candidates, together: npt.NDArray[np.float64], counts: Counts
    ) -> _Tables:
        rows, item = np.unique(candidates.rows, return_inverse=True)
        at = candidates.pairs(counts)
        pairs, pair = np.unique(at[at >= 0], return_inverse=True)
        at[at >= 0] = pair
        if not len(pairs):  # no companion is a candidate: one pair that nobody has
            pairs = np.zeros(1, np.int64)
        return cls(
            logits=torch.from_numpy(candidates.logits).clamp(min=LOWEST),
            target=torch.from_numpy(candidates.target),
            together=torch.from_numpy(together.astype(np.float32)),
            item=torch.from_numpy(item.reshape(candidates.rows.shape)),
            pair=torch.from_numpy(at),
            items=_Scaled.of(counts.items[rows]),
            pairs=_Scaled.of(counts.pairs(pairs)),
        )

    @torch.no_grad()
    def ranks(self, cases: Int64, fitted: _Fitted | None) -> Int64:
        """Ranks from 0 of the targets among the candidates, K for one that is none of them."""
        found = np.empty(len(cases), np.int64)
        for begin in range(0, len(cases), BATCH):
            part = torch.from_numpy(cases[begin : begin + BATCH])
            logits = self.logits[part] if fitted is None else fitted(self, part)
            target = self.target[part]
            worth = logits.gather(1, target.clamp(min=0)[:, None])
            rank = (logits > worth).sum(1)
            rank[target < 0] = logits.shape[1]
            found[begin : begin + BATCH] = rank.numpy()
        return found


class _Fitted(nn.Module):
    """factor * logits + of_items + together * of_pairs.

    The factor is what makes the targets likeliest; lists do not depend on it, and it is divided
    out in the end.
    """

    def __init__(self, items: int, pairs: int) -> None:
        super().__init__()
        self.of_items = _perceptron(items)
        self.of_pairs = _perceptron(pairs)
        self.log_factor = nn.Parameter(torch.zeros(()))

    @classmethod
    def on(cls, tables: _Tables, cases: Int64, seed: int) -> _Fitted:
        """Fitted on some cases, all of which have a target. The same for the same seed."""
        draw = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fitted = cls(tables.items.features.shape[1], tables.pairs.features.shape[1])
        optimiser = torch.optim.AdamW(fitted.parameters(), lr=RATE, weight_decay=DECAY)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.1)
        order = np.empty(0, np.int64)
        for _ in range(STEPS):
            if len(order) < min(BATCH, len(cases)):
                order = np.concatenate([order, draw.permutation(cases)])
            some, order = torch.from_numpy(order[:BATCH]), order[BATCH:]
            loss = functional.cross_entropy(fitted(tables, some), tables.target[some])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
        return fitted

    def forward(self, tables: _Tables, cases: Tensor) -> Tensor:
        """Logits of the candidates of some cases: float [c, K]."""
        said = self.of_items(tables.items.features[tables.item[cases]])[..., 0]
        pair = tables.pair[cases]
        there = pair >= 0
        worth = torch.zeros(pair.shape)
        worth[there] = self.of_pairs(tables.pairs.features[pair[there]])[:, 0]
        brought = (worth * tables.together[:, None]).sum(1)
        logits: Tensor = self.log_factor.exp() * tables.logits[cases] + said + brought
        return logits

    def correction(self, tables: _Tables) -> Correction:
        """In logits of before."""
        factor = math.exp(-self.log_factor.item())
        return Correction(
            tables.items.numbers(self.of_items, factor), tables.pairs.numbers(self.of_pairs, factor)
        )


def _perceptron(features: int) -> nn.Sequential:
    """One that says nothing yet."""
    network = nn.Sequential(nn.Linear(features, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))
    nn.init.zeros_(network[2].weight)
    nn.init.zeros_(network[2].bias)
    return network
