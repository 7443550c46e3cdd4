"""`decay`: an interest is the fading sum of the vectors of the items a user turned towards.

    next = state * 2^(-max(gap, 0) / half_life) + weight[type] * 2^(min(gap, 0) / half_life) * item

The state is two such sums side by side: the taste, which fades over weeks, and the mood, which
fades within hours: what a user is after right now. A late event (negative gap) arrives already
faded, so the order of arrival does not matter. The readout is
u = taste / |taste| + mood_share * mood / |mood|, each length softened by `strength`, so that a user
of few or old events has a short u. An item's score is sigmoid(beta * (u.i) + bias).

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
from stream.core.bundle import Additive, FadingSum

DAY_S = 86_400.0
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on a validation month of Online Retail; see README.md."""

    dim: int = 64
    half_life_s: float = 30 * DAY_S
    beta: float = 7.0
    strength: float = 0.3
    mood_half_life_s: float = 2 * HOUR_S
    mood_share: float = 0.7
    damping: float = 0.5
    smoothing: float = 0.75
    power: float = 0.0
    popularity: float = 1.0
    min_count: int = 1


class DecayReference:
    """`decay` in NumPy."""

    def __init__(self, table: Float32, biases: Float32, weights: Float32, p: Parameters) -> None:
        self._table, self._biases, self._weights, self._p = table, biases, weights, p

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        gap = gaps_s.astype(np.float64)[:, None] / _half_lives_s(self._p)
        weight = self._weights[event_types].astype(np.float64)[:, None]
        arriving = np.tile(self._table[item_rows], 2) * weight * 2 ** np.minimum(gap, 0)
        faded = state.astype(np.float64) * 2 ** -np.maximum(gap, 0)
        following: Float32 = (faded + arriving).astype(np.float32)
        return following

    def logits(self, state: Float32, beta: float) -> Float32:
        sums = state.astype(np.float64).reshape(len(state), 2, -1)
        length = np.sqrt((sums**2).sum(axis=2, keepdims=True) + self._p.strength**2)
        u = (sums / length * np.array([1, self._p.mood_share])[:, None]).sum(axis=1)
        logits: Float32 = (beta * u @ self._table.T + self._biases).astype(np.float32)
        return logits


def _half_lives_s(p: Parameters) -> npt.NDArray[np.float64]:
    """The half-life of each number of the state: float64, shape (2 D,)."""
    return np.repeat([p.half_life_s, p.mood_half_life_s], p.dim)


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`."""
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    table = item_vectors(
        baskets.cooccurrence(p.damping),
        p.dim,
        smoothing=p.smoothing,
        power=p.power,
    )
    return assemble(
        p,
        baskets.item_ids,
        table,
        baskets.popularity_bias(p.popularity),
        created=log.ends,
        training={"events": len(log), "sessions": baskets.matrix.shape[0]},
    )


def assemble(
    p: Parameters,
    item_ids: list[str],
    table: Float32,
    biases: Float32,
    *,
    created: str,
    training: dict[str, Any],
) -> Trained:
    """The model around given item vectors (`table`, float32 [n, dim]) and `biases`, float32 [n]."""
    weights = weight_table(EVENT_WEIGHTS)
    return Trained(
        model="decay",
        item_ids=item_ids,
        embeddings=table,
        biases=biases,
        state_size=2 * p.dim,
        storage="int8",
        beta=p.beta,
        additive=Additive(
            sums=(FadingSum(p.half_life_s, 1.0), FadingSum(p.mood_half_life_s, p.mood_share)),
            strength=p.strength,
        ),
        event_weights=EVENT_WEIGHTS,
        update_onnx=_update(weights, p),
        score_onnx=_score(p),
        reference=DecayReference(table, biases, weights, p),
        created=created,
        training={**training, **asdict(p)},
    )


def _update(weights: Float32, p: Parameters) -> bytes:
    # Exp works on two numbers a row, and ONNX Runtime's Exp gives the same bits whatever the batch;
    # a test holds that.
    nodes = [
        node("Unsqueeze", ["gap_s", "column"], ["gap_column"]),
        node("Mul", ["gap_column", "rates"], ["gap"]),  # [B, 2]: taste, mood
        node("Neg", ["gap"], ["minus_gap"]),
        node("Min", ["minus_gap", "nought"], ["elapsed"]),
        node("Min", ["gap", "nought"], ["lateness"]),
        node("Exp", ["elapsed"], ["kept"]),
        node("Exp", ["lateness"], ["arrived"]),
        node("Gather", ["weights", "event_type"], ["weight"]),
        node("Unsqueeze", ["weight", "column"], ["weight_column"]),
        node("Mul", ["weight_column", "arrived"], ["share"]),
        # Broadcast over [B, 2, D]: gathering columns instead made an update eight times as dear.
        node("Unsqueeze", ["kept", "last_axis"], ["kept_3d"]),
        node("Unsqueeze", ["share", "last_axis"], ["share_3d"]),
        node("Gather", ["item_table", "item_row"], ["item"]),
        node("Unsqueeze", ["item", "column"], ["item_3d"]),
        node("Reshape", ["state", "to_sums"], ["sums"]),
        node("Mul", ["sums", "kept_3d"], ["faded"]),
        node("Mul", ["item_3d", "share_3d"], ["arriving"]),
        node("Add", ["faded", "arriving"], ["next_sums"]),
        node("Reshape", ["next_sums", "to_state"], ["next_state"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "rates": (np.log(2) / np.array([p.half_life_s, p.mood_half_life_s])).astype(np.float32),
        "nought": np.array(0, np.float32),
        "weights": weights,
        "to_sums": np.array([0, 2, p.dim], np.int64),
        "to_state": np.array([0, 2 * p.dim], np.int64),
        "last_axis": np.array([2], np.int64),
        "column": np.array([1], np.int64),
    }
    return update_graph(nodes, constants, 2 * p.dim, p.dim)


def _score(p: Parameters) -> bytes:
    nodes = [
        node("Reshape", ["state", "to_sums"], ["sums"]),  # [B, 2, D]
        node("ReduceSumSquare", ["sums", "across"], ["square"]),
        node("Add", ["square", "strength_square"], ["length_square"]),
        node("Sqrt", ["length_square"], ["length"]),
        node("Div", ["sums", "length"], ["directions"]),
        node("Mul", ["directions", "shares"], ["shared"]),
        node("ReduceSum", ["shared", "sum_axis"], ["interest"], keepdims=0),
        node("Mul", ["interest", "beta"], ["scaled"]),
        node("Gemm", ["scaled", "item_table", "bias"], ["logits"], transB=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "to_sums": np.array([0, 2, p.dim], np.int64),
        "across": np.array([2], np.int64),
        "sum_axis": np.array([1], np.int64),
        "shares": np.array([[1], [p.mood_share]], np.float32),
        "strength_square": np.array(p.strength**2, np.float32),
    }
    return score_graph(nodes, constants, 2 * p.dim, p.dim)
