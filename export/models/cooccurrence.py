"""`cooccurrence`: what stood in the same sessions as the user's last items. The baseline.

The state holds the rows of the last L items as float32, exact up to 2^24; the newest is last. Each
brings its nearest neighbours, an older one with less weight. Every other model must beat it.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

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
from export.models.space import Range, Space
from export.to_onnx import node, score_graph, update_graph


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on a validation month of Online Retail; see README.md."""

    dim: int = 64
    last: int = 20
    neighbours: int = 100
    position_decay: float = 0.8
    beta: float = 128.0
    damping: float = 0.5
    popularity: float = 1.0
    normalising: float = 0.5
    min_count: int = 1


SPACE: Final[Space] = {
    "last": Range(1, 50, log=True),
    "neighbours": (20, 50, 100, 200),
    "position_decay": Range(0.4, 1.0),
    "beta": Range(8.0, 1024.0, log=True),
    "damping": Range(0.0, 1.0),
    "popularity": Range(0.0, 1.0),
    "normalising": Range(0.0, 1.0),
}


class CooccurrenceReference:
    """`cooccurrence` in NumPy."""

    def __init__(
        self, rows: Int64, weights: Float32, positions: Float32, moving: Float32, biases: Float32
    ) -> None:
        self._rows, self._weights, self._positions = rows, weights, positions
        self._moving, self._biases = moving, biases

    def update(
        self, state: Float32, item_rows: Int64, event_types: Int64, gaps_s: Float32
    ) -> Float32:
        counts = (self._moving[event_types] > 0) & (item_rows > 0)
        shifted = np.concatenate([state[:, 1:], item_rows[:, None].astype(np.float32)], axis=1)
        return np.where(counts[:, None], shifted, state).astype(np.float32)

    def logits(self, state: Float32, beta: float) -> Float32:
        n = len(self._rows)
        last = state.astype(np.int64)
        last[last >= n] = 0
        sums = np.zeros((len(state), n), np.float64)
        for position in range(last.shape[1]):
            of = last[:, position]
            brought = self._weights[of] * np.float64(self._positions[position])
            np.add.at(sums, (np.arange(len(state))[:, None], self._rows[of]), brought)
        return (beta * sums + self._biases).astype(np.float32)


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`."""
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    together = baskets.cooccurrence(p.damping)
    rows, weights = _neighbours(together, baskets.counts(), p)
    positions = p.position_decay ** np.arange(p.last - 1, -1, -1, dtype=np.float64)
    positions = (positions / positions.sum()).astype(np.float32)
    moving = weight_table(EVENT_WEIGHTS)
    biases = baskets.popularity_bias(p.popularity)
    return Trained(
        model="cooccurrence",
        item_ids=baskets.item_ids,
        # Not scored with here: the policy's diversity and reasons use them.
        embeddings=item_vectors(together, p.dim, smoothing=0.75, power=0.5),
        biases=biases,
        state_size=p.last,
        storage="float32",
        beta=p.beta,
        additive=None,
        event_weights=EVENT_WEIGHTS,
        update_onnx=_update(moving, p),
        score_onnx=_score(rows, weights, positions, p),
        reference=CooccurrenceReference(rows, weights, positions, moving, biases),
        created=log.ends,
        training={"events": len(log), "sessions": baskets.matrix.shape[0], **asdict(p)},
    )


def _neighbours(
    together: sparse.csr_array, counts: npt.NDArray[np.float64], p: Parameters
) -> tuple[Int64, Float32]:
    """The nearest neighbours of each row: rows int64 [n, K] and weights float32 [n, K].

    The work follows the pairs that stand together, not n * n.
    """
    n = len(counts)
    k = min(p.neighbours, n - 1)
    scale = np.maximum(counts, 1.0)
    pairs = together.tocoo()
    # normalising: 0 = given this item, 0.5 = cosine, 1 = lift
    strength = (
        pairs.data
        / scale[pairs.row] ** (1 - p.normalising / 2)
        / scale[pairs.col] ** p.normalising
        * scale.mean() ** p.normalising
    )
    order = np.lexsort((pairs.col, -strength, pairs.row))
    row = pairs.row[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    near = place < k
    rows, weights = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    rows[row[near], place[near]] = pairs.col[order[near]]
    weights[row[near], place[near]] = strength[order[near]]
    return rows, weights


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


def _score(rows: Int64, weights: Float32, positions: Float32, p: Parameters) -> bytes:
    nodes = [
        node("Cast", ["state"], ["last"], to=7),
        node("Less", ["last", "trained"], ["known"]),
        node("Where", ["known", "last", "no_item"], ["of"]),  # rows added later have no neighbours
        node("Gather", ["neighbour_rows", "of"], ["rows_3d"]),  # [B, L, K]
        node("Gather", ["neighbour_weights", "of"], ["weights_3d"]),
        node("Mul", ["weights_3d", "positions"], ["brought_3d"]),
        node("Reshape", ["rows_3d", "flat"], ["brought_rows"]),
        node("Reshape", ["brought_3d", "flat"], ["brought"]),
        node("Shape", ["state"], ["batch"], start=0, end=1),
        node("Shape", ["item_table"], ["capacity"], start=0, end=1),
        node("Concat", ["batch", "capacity"], ["shape"], axis=0),
        node("Expand", ["nought", "shape"], ["empty"]),
        node(
            "ScatterElements",
            ["empty", "brought_rows", "brought"],
            ["sums"],
            axis=1,
            reduction="add",
        ),
        node("Mul", ["sums", "beta"], ["scaled"]),
        node("Add", ["scaled", "bias"], ["logits"]),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "neighbour_rows": rows,
        "neighbour_weights": weights,
        "positions": positions[:, None],
        "trained": np.array(len(rows), np.int64),
        "no_item": np.array(0, np.int64),
        "nought": np.array(0, np.float32),
        "flat": np.array([0, -1], np.int64),
    }
    return score_graph(nodes, constants, p.last, p.dim)
