"""`cooccurrence`: the user's last items, and what stood near them in visits. The baseline.

The state holds the rows of the last L items as float32, exact up to 2^24; the newest is last. Each
brings itself and its nearest neighbours. Scores interpolate (`mixture.py`):

    logit_j = bias_j + beta * log((1 + sum over l of s_lj / (popularity * share_j)) / total)
    s_lj = again[l] * [j = i_l] + together[l] * p(j | i_l)

share_j is the item's share of exp(bias), and `total` the same sum over all items, so that scores
stay probabilities. A guest's lists are the most popular items. What the terms weigh is settled on
the newest events of the log that it is trained on. Every other model must beat it.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.data.dataset import Log
from export.data.splits import newest_share
from export.models.base import (
    Baskets,
    Float32,
    Int64,
    Trained,
    item_vectors,
)
from export.models.mixture import Asked, Float64, Weights, settle
from export.models.pairs import Neighbours, Towards, together
from export.models.space import Range, Space
from export.to_onnx import node, score_graph, update_graph
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import Head
from stream.core.weighing import weight_table


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on the newest events of three training logs; see README.md."""

    dim: int = 64
    last: int = 20
    neighbours: int = 100
    beta: float = 1.0
    damping: float = 1.0
    recency: float = 2.0
    normalising: float = 0.25
    min_count: int = 1


SPACE: Final[Space] = {
    "last": Range(1, 50, log=True),
    "neighbours": (20, 50, 100, 200),
    "beta": Range(0.5, 2.0, log=True),
    "damping": Range(0.0, 2.0),
    "recency": Range(0.0, 4.0),
    "normalising": Range(0.0, 1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Brought:
    """What each item brings, itself first: K neighbours more.

    Attributes
    ----------
    rows : int64, shape (n, 1 + K); 0 for none
    weights : float32, shape (n, 1 + K); 1, then p(j | i), over the weighted popularity of j
    positions : float32, shape (L, 1 + K); `again` and `together`, the oldest item first
    spent : float32, shape (L,); their sums over the weight of popularity
    """

    rows: Int64
    weights: Float32
    positions: Float32
    spent: Float32

    @classmethod
    def of(cls, neighbours: Neighbours, biases: Float32, weights: Weights) -> Brought:
        odds = np.exp(biases.astype(np.float64))
        odds[0] = 1  # never divided by 0
        popularity = odds / odds[1:].sum()
        own = np.arange(len(popularity))[:, None]
        rows = np.concatenate([own, neighbours.rows], axis=1)
        share = np.concatenate([np.ones(own.shape), neighbours.shares], axis=1)
        share[0] = 0
        positions = np.repeat(weights.together[::-1, None], rows.shape[1], axis=1)
        positions[:, 0] = weights.again[::-1]
        worth = share / (weights.popularity * popularity[rows])
        spent = (weights.again + weights.together)[::-1] / weights.popularity
        return cls(
            rows,
            worth.astype(np.float32),
            positions.astype(np.float32),
            np.ascontiguousarray(spent, np.float32),
        )


class CooccurrenceReference:
    """`cooccurrence` in NumPy."""

    def __init__(self, brought: Brought, moving: Float32, biases: Float32) -> None:
        self._brought, self._moving, self._biases = brought, moving, biases

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        counts = (self._moving[event_types] > 0) & (item_rows > 0)
        shifted = np.concatenate([state[:, 1:], item_rows[:, None].astype(np.float32)], axis=1)
        return np.where(counts[:, None], shifted, state).astype(np.float32)

    def logits(self, state: Float32, beta: float) -> Float32:
        b = self._brought
        n = len(b.rows)
        last = state.astype(np.int64)
        last[last >= n] = 0
        sums = np.zeros((len(state), n), np.float64)
        total = 1 + (last > 0) @ b.spent.astype(np.float64)
        for position in range(last.shape[1]):
            of = last[:, position]
            worth = b.weights[of].astype(np.float64) * b.positions[position]
            np.add.at(sums, (np.arange(len(state))[:, None], b.rows[of]), worth)
        affinity: Float64 = np.log1p(sums) - np.log(total)[:, None]
        logits: Float32 = (beta * affinity + self._biases).astype(np.float32)
        return logits


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`.

    Raises
    ------
    UsageError
        The log has fewer than two items that stand in `min_count` sessions.
    """
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    n = len(baskets.item_ids)
    events = Towards.of(log, baskets.item_ids)
    weights = _weights(events, newest_share(log), n, p)
    counts = together(events, n, damping=p.damping, recency=p.recency)
    biases = baskets.popularity_bias()
    brought = Brought.of(_neighbours(counts, events, n, p), biases, weights)
    moving = weight_table(EVENT_WEIGHTS)
    return Trained(
        model="cooccurrence",
        item_ids=baskets.item_ids,
        # Not scored with here: the policy's diversity and reasons use them.
        embeddings=item_vectors(counts, p.dim, smoothing=0.75, power=0.5),
        biases=biases,
        state_size=p.last,
        storage="float32",
        beta=p.beta,
        additive=None,
        head=Head("log ratio to popularity", "negative log-likelihood"),
        event_weights=EVENT_WEIGHTS,
        update_onnx=_update(moving, p),
        score_onnx=_score(brought, p),
        reference=CooccurrenceReference(brought, moving, biases),
        created=log.ends,
        training={
            "events": len(log),
            "sessions": baskets.matrix.shape[0],
            "again": np.round(weights.again, 8).tolist(),
            "together": np.round(weights.together, 8).tolist(),
            "popularity": round(weights.popularity, 8),
            **asdict(p),
        },
    )


def _weights(events: Towards, since_ms: int, n: int, p: Parameters) -> Weights:
    """Settled on the events from a moment on, with what the others say."""
    older = events.before(since_ms)
    if len(older) == 0:
        return Weights.prior(p.last)
    counts = together(older, n, damping=p.damping, recency=p.recency)
    shares = _neighbours(counts, older, n, p).matrix()
    return settle(Asked.of(events, since_ms, p.last), shares, _popularity(older, n))


def _neighbours(counts: sparse.csr_array, events: Towards, n: int, p: Parameters) -> Neighbours:
    return Neighbours.of(counts, _popularity(events, n), p.neighbours, p.normalising)


def _popularity(events: Towards, n: int) -> Float64:
    """Shares of events, none of them 0: float64, shape (n,)."""
    smoothed = events.counts(n) + 0.5
    popularity: Float64 = smoothed / smoothed.sum()
    return popularity


def _update(moving: Float32, p: Parameters) -> bytes:
    nodes = [
        node("Gather", ["moving", "event_type"], ["weight"]),
        node("Greater", ["weight", "nought"], ["towards"]),
        node("Greater", ["item_row", "no_item"], ["known"]),
        node("And", ["towards", "known"], ["counts"]),
        node("Unsqueeze", ["counts", "column"], ["counts_2d"]),
        node("Slice", ["state", "second", "end", "column"], ["newer"]),
        node("Cast", ["item_row"], ["item"], to=1),
        node("Unsqueeze", ["item", "column"], ["item_2d"]),
        node("Concat", ["newer", "item_2d"], ["shifted"], axis=1),
        node("Where", ["counts_2d", "shifted", "state"], ["next_state"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "moving": moving,
        "nought": np.array(0, np.float32),
        "no_item": np.array(0, np.int64),
        "column": np.array([1], np.int64),
        "second": np.array([1], np.int64),
        "end": np.array([p.last], np.int64),
    }
    return update_graph(nodes, constants, p.last, p.dim)


def _score(brought: Brought, p: Parameters) -> bytes:
    nodes = [
        node("Cast", ["state"], ["last"], to=7),
        node("Less", ["last", "trained"], ["known"]),
        node("Where", ["known", "last", "no_item"], ["of"]),  # rows added later bring nothing
        node("Gather", ["brought_rows", "of"], ["rows_3d"]),  # [B, L, 1 + K]
        node("Gather", ["brought_weights", "of"], ["weights_3d"]),
        node("Mul", ["weights_3d", "positions"], ["worth_3d"]),
        node("Reshape", ["rows_3d", "flat"], ["rows_2d"]),
        node("Reshape", ["worth_3d", "flat"], ["worth"]),
        node("Shape", ["state"], ["batch"], start=0, end=1),
        node("Shape", ["bias"], ["capacity"], start=-1),
        node("Concat", ["batch", "capacity"], ["shape"], axis=0),
        node("Expand", ["one", "shape"], ["ones"]),
        node("ScatterElements", ["ones", "rows_2d", "worth"], ["grown"], axis=1, reduction="add"),
        node("Log", ["grown"], ["gain"]),
        node("Greater", ["of", "no_item"], ["there"]),
        node("Cast", ["there"], ["there_1"], to=1),
        node("MatMul", ["there_1", "spent"], ["share"]),  # [B, 1]
        node("Add", ["share", "one"], ["total"]),
        node("Log", ["total"], ["level"]),
        node("Sub", ["gain", "level"], ["affinity"]),
        node("Mul", ["affinity", "beta"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["logits"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "brought_rows": brought.rows,
        "brought_weights": brought.weights,
        "positions": brought.positions,
        "spent": brought.spent[:, None],
        "trained": np.array(len(brought.rows), np.int64),
        "no_item": np.array(0, np.int64),
        "one": np.array(1, np.float32),
        "flat": np.array([0, -1], np.int64),
    }
    return score_graph(nodes, constants, p.last, p.dim)
