"""Fading sums of item vectors as a user's state: the graphs that several models share.

    next = sum * 2^(-max(gap, 0) / half_life) + weight[type] * 2^(min(gap, 0) / half_life) * item

The state is one such sum or several side by side, each with its half-life. It is linear in the
events, and a late event (negative gap) arrives already faded, so the order of arrival does not
matter. Weights and half-lives are inputs of the graph: they may change while a worker runs. The
readout is u = sum over sums of share * s / sqrt(|s|^2 + strength^2): a user of few or old events
has a short u. An item's score is sigmoid(beta * (u.i) + bias).

Must not know: where item vectors come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.models.base import Float32, Int64, Trained
from export.to_onnx import node, score_graph, update_graph
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import Additive, FadingSum, Head
from stream.core.weighing import weight_table

DAY_S = 86_400.0
HOUR_S = 3_600.0


class FadingReference:
    """The graphs in NumPy.

    Parameters
    ----------
    table : float32, shape (n, D)
    biases : float32, shape (n,)
    weights : float32, shape (16,), by event code
    """

    def __init__(
        self,
        table: Float32,
        biases: Float32,
        weights: Float32,
        sums: Sequence[FadingSum],
        strength: float,
    ) -> None:
        self._table, self._biases, self._weights = table, biases, weights
        self._half_lives_s = np.repeat([s.half_life_s for s in sums], table.shape[1])
        self._shares = np.array([[s.share] for s in sums])
        self._strength = strength

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        gap = gaps_s.astype(np.float64)[:, None] / self._half_lives_s
        weight = self._weights[event_types].astype(np.float64)[:, None]
        item = np.tile(self._table[item_rows], len(self._shares))
        arriving = item * weight * 2 ** np.minimum(gap, 0)
        faded = state.astype(np.float64) * 2 ** -np.maximum(gap, 0)
        following: Float32 = (faded + arriving).astype(np.float32)
        return following

    def logits(self, state: Float32, beta: float) -> Float32:
        sums = state.astype(np.float64).reshape(len(state), len(self._shares), -1)
        length = np.sqrt((sums**2).sum(axis=2, keepdims=True) + self._strength**2)
        u = (sums / length * self._shares).sum(axis=1)
        logits: Float32 = (beta * u @ self._table.T + self._biases).astype(np.float32)
        return logits


def assemble(
    model: str,
    item_ids: list[str],
    table: Float32,
    biases: Float32,
    *,
    sums: Sequence[FadingSum],
    strength: float,
    beta: float,
    head: Head,
    created: str,
    training: dict[str, Any],
) -> Trained:
    """The model around given item vectors (`table`, float32 [n, D]) and `biases`, float32 [n].

    Parameters
    ----------
    model : its name in `MODELS`
    strength : softens the lengths of the sums; much larger than them, the readout is linear
    """
    weights = weight_table(EVENT_WEIGHTS)
    dim = table.shape[1]
    return Trained(
        model=model,
        item_ids=item_ids,
        embeddings=table,
        biases=biases,
        state_size=len(sums) * dim,
        storage="int8",
        beta=beta,
        additive=Additive(sums=tuple(sums), strength=strength),
        head=head,
        event_weights=EVENT_WEIGHTS,
        update_onnx=_update(len(sums), dim),
        live_weights=True,
        score_onnx=_score(sums, strength, dim),
        reference=FadingReference(table, biases, weights, sums, strength),
        created=created,
        training=training,
    )


def _update(sums: int, dim: int) -> bytes:
    # Exp works on a number or two a row, and ONNX Runtime's Exp gives the same bits whatever the
    # batch; a test holds that.
    nodes = [
        node("Unsqueeze", ["gap_s", "column"], ["gap_column"]),
        node("Mul", ["gap_column", "fading_rates"], ["gap"]),  # [B, sums]
        node("Neg", ["gap"], ["minus_gap"]),
        node("Min", ["minus_gap", "nought"], ["elapsed"]),
        node("Min", ["gap", "nought"], ["lateness"]),
        node("Exp", ["elapsed"], ["kept"]),
        node("Exp", ["lateness"], ["arrived"]),
        node("Gather", ["type_weights", "event_type"], ["weight"]),
        node("Unsqueeze", ["weight", "column"], ["weight_column"]),
        node("Mul", ["weight_column", "arrived"], ["share"]),
        # Broadcast over [B, sums, D]: gathering columns instead made an update eight times as dear.
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
        "nought": np.array(0, np.float32),
        "to_sums": np.array([0, sums, dim], np.int64),
        "to_state": np.array([0, sums * dim], np.int64),
        "last_axis": np.array([2], np.int64),
        "column": np.array([1], np.int64),
    }
    return update_graph(nodes, constants, sums * dim, dim, live_sums=sums)


def _score(sums: Sequence[FadingSum], strength: float, dim: int) -> bytes:
    nodes = [
        node("Reshape", ["state", "to_sums"], ["sums"]),  # [B, sums, D]
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
        "to_sums": np.array([0, len(sums), dim], np.int64),
        "across": np.array([2], np.int64),
        "sum_axis": np.array([1], np.int64),
        "shares": np.array([[s.share] for s in sums], np.float32),
        "strength_square": np.array(strength**2, np.float32),
    }
    return score_graph(nodes, constants, len(sums) * dim, dim)
