"""`decay`: an interest is the fading sum of the vectors of the items a user turned towards.

    next = state * 2^(-max(gap, 0) / half_life) + weight[type] * 2^(min(gap, 0) / half_life) * item

A late event (negative gap) arrives already faded, so that the order of arrival does not matter.
The readout is u = state / sqrt(|state|^2 + strength^2): the direction of the interest, short for a
user of few events and near 1 for one of many. An item's score is sigmoid(beta * (u.i) + bias).

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.dataset import Log
from export.models.base import (
    EVENT_WEIGHTS,
    Baskets,
    Float32,
    Int64,
    Trained,
    item_vectors,
    weight_table,
)
from export.to_onnx import node, score_graph, update_graph

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on a validation month of Online Retail; see README.md."""

    dim: int = 64
    half_life_s: float = 30 * DAY_S
    beta: float = 6.0
    strength: float = 1.0
    damping: float = 0.5
    smoothing: float = 0.75
    power: float = 0.5
    popularity: float = 1.0
    min_count: int = 1


class DecayReference:
    """`decay` in NumPy."""

    def __init__(
        self, table: Float32, biases: Float32, weights: Float32, half_life_s: float, strength: float
    ) -> None:
        self._table, self._biases, self._weights = table, biases, weights
        self._half_life_s, self._strength = half_life_s, strength

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        gap = gaps_s.astype(np.float64)[:, None] / self._half_life_s
        arriving = self._weights[event_types].astype(np.float64)[:, None] * 2 ** np.minimum(gap, 0)
        faded = state.astype(np.float64) * 2 ** -np.maximum(gap, 0)
        following: Float32 = (faded + arriving * self._table[item_rows]).astype(np.float32)
        return following

    def logits(self, state: Float32, beta: float) -> Float32:
        wide = state.astype(np.float64)
        length = np.sqrt((wide**2).sum(axis=1, keepdims=True) + self._strength**2)
        logits: Float32 = (beta * (wide / length) @ self._table.T + self._biases).astype(np.float32)
        return logits


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`."""
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    table = item_vectors(
        baskets.cooccurrence(p.damping), p.dim, smoothing=p.smoothing, power=p.power
    )
    biases = baskets.popularity_bias(p.popularity)
    weights = weight_table(EVENT_WEIGHTS)
    return Trained(
        model="decay",
        item_ids=baskets.item_ids,
        embeddings=table,
        biases=biases,
        state_size=p.dim,
        storage="int8",
        beta=p.beta,
        half_life_s=p.half_life_s,
        event_weights=EVENT_WEIGHTS,
        update_onnx=_update(weights, p),
        score_onnx=_score(p),
        reference=DecayReference(table, biases, weights, p.half_life_s, p.strength),
        created=log.ends,
        training={"events": len(log), "sessions": baskets.matrix.shape[0], **asdict(p)},
    )


def _update(weights: Float32, p: Parameters) -> bytes:
    # Exp only ever works on one number a row, and ONNX Runtime's Exp gives the same bits whatever
    # the batch; a test holds that.
    nodes = [
        node("Mul", ["gap_s", "rate"], ["gap"]),
        node("Neg", ["gap"], ["minus_gap"]),
        node("Min", ["minus_gap", "nought"], ["elapsed"]),
        node("Min", ["gap", "nought"], ["lateness"]),
        node("Exp", ["elapsed"], ["kept"]),
        node("Exp", ["lateness"], ["arrived"]),
        node("Gather", ["weights", "event_type"], ["weight"]),
        node("Mul", ["weight", "arrived"], ["share"]),
        node("Unsqueeze", ["kept", "column"], ["kept_2d"]),
        node("Unsqueeze", ["share", "column"], ["share_2d"]),
        node("Gather", ["item_table", "item_row"], ["item"]),
        node("Mul", ["state", "kept_2d"], ["faded"]),
        node("Mul", ["item", "share_2d"], ["arriving"]),
        node("Add", ["faded", "arriving"], ["next_state"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "rate": np.array(np.log(2) / p.half_life_s, np.float32),
        "nought": np.array(0, np.float32),
        "weights": weights,
        "column": np.array([1], np.int64),
    }
    return update_graph(nodes, constants, p.dim, p.dim)


def _score(p: Parameters) -> bytes:
    nodes = [
        node("ReduceSumSquare", ["state", "across"], ["square"]),
        node("Add", ["square", "strength_square"], ["length_square"]),
        node("Sqrt", ["length_square"], ["length"]),
        node("Div", ["state", "length"], ["interest"]),
        node("Mul", ["interest", "beta"], ["scaled"]),
        node("Gemm", ["scaled", "item_table", "bias"], ["logits"], transB=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "across": np.array([1], np.int64),
        "strength_square": np.array(p.strength**2, np.float32),
    }
    return score_graph(nodes, constants, p.dim, p.dim)
