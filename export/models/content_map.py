"""From what an item is said to be to its vector: learned here, computed by `content.onnx`.

In: hashed features (`stream.core.content`) and the vectors of the items that the log knows. Out: a
linear map: TF-IDF of the texts, of length 1, beside the given embedding; times a matrix.

Must not know: the log, the bundle's files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import solve

from export.to_onnx import content_graph, node
from stream.contracts import Item
from stream.core.content import Features, features
from stream.errors import UsageError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

MAX_FEATURES = 16_384  # more than as many items are solved for in 16 bytes times its square
PROBES = (Item("of everything", "ad", "Caf\u00e9 \u2167 Mug", "A.b", "B&B", 2.5, tags=("x y",)),
          Item("of nothing"))  # fmt: skip
TINY = 1e-12  # square of a length below which there is no text


@dataclass(slots=True, eq=False)
class ContentMap:
    """vector = sum over features of weight * matrix[id], weight = value * idf[id].

    The weights of the texts are scaled to length 1 together; those of an embedding are as they are.

    Attributes
    ----------
    size : ids of texts
    embedding : numbers of a given embedding
    idf : float32, shape (size + embedding,)
    matrix : float32, shape (size + embedding, D)
    examples : records for the bundle to prove itself with
    """

    size: int
    embedding: int
    idf: Float32
    matrix: Float32
    examples: list[Item] = field(default_factory=list)

    @classmethod
    def fit(
        cls, features: Features, vectors: Float64, size: int, embedding: int, shrinkage: float
    ) -> ContentMap:
        """Ridge regression of item vectors on their features.

        Parameters
        ----------
        features : of n items
        vectors : float64, shape (n, D)
        shrinkage : ridge; an item's row of features has a square length of about 1

        Raises
        ------
        UsageError : too many features to solve for
        """
        width = size + embedding
        if width > MAX_FEATURES:
            raise UsageError(
                f"{size} features and {embedding} numbers of an embedding are too many; have them "
                f"make {MAX_FEATURES} at most with --set features=N"
            )
        text = features.ids < size
        used = (features.values != 0) & text
        holding = np.bincount(features.ids[used], minlength=width)
        idf = np.log((1 + len(vectors)) / (1 + holding)) + 1  # smoothed, as scikit-learn's
        idf[size:] = 1
        made = cls(size, embedding, idf.astype(np.float32), np.zeros((width, 0), np.float32))
        weights = made.weights(features)
        at = np.nonzero(weights)
        rows = sparse.csr_array((weights[at], (at[0], features.ids[at])), (len(vectors), width))
        made.matrix = _ridge(rows, vectors, max(shrinkage, 1e-6)).astype(np.float32)
        return made

    def weights(self, features: Features) -> Float64:
        """What each feature counts: float64, shape (items, F)."""
        weights = features.values.astype(np.float64) * self.idf[features.ids]
        text = features.ids < self.size
        square = np.where(text, weights, 0) ** 2
        length = np.sqrt(np.maximum(square.sum(axis=1, keepdims=True), TINY))
        return np.where(text, weights / length, weights)

    def vectors(self, features: Features) -> Float32:
        """The reference of the graph: float32, shape (items, D), float64 inside."""
        matrix = self.matrix.astype(np.float64)
        weights = self.weights(features)
        vectors = np.zeros((len(weights), matrix.shape[1]))
        for row, (ids, of_row) in enumerate(zip(features.ids, weights, strict=True)):
            vectors[row] = of_row @ matrix[ids]
        return vectors.astype(np.float32)

    def spec(self) -> dict[str, int]:
        """The manifest's `content`."""
        return {"size": self.size, "embedding": self.embedding}

    def golden(self) -> dict[str, npt.NDArray[Any]]:
        """Records and their vectors, so that a loader finds out whether it reads them the same."""
        examples = [*self.examples, *PROBES]
        return {
            "content_records": np.array([msgspec.json.encode(item).decode() for item in examples]),
            "content_vectors": self.vectors(features(examples, self.size, self.embedding)),
        }

    def to_onnx(self) -> bytes:
        """`content.onnx`."""
        nodes = [
            node("Gather", ["idf", "feature_ids"], ["idf_of"]),
            node("Mul", ["feature_values", "idf_of"], ["weights"]),  # [B, F]
            node("Less", ["feature_ids", "size"], ["text"]),
            node("Where", ["text", "weights", "nought"], ["texts"]),
            node("ReduceSumSquare", ["texts", "across"], ["square"]),
            node("Max", ["square", "tiny"], ["some"]),
            node("Sqrt", ["some"], ["length"]),
            node("Div", ["weights", "length"], ["scaled"]),
            node("Where", ["text", "scaled", "weights"], ["counted"]),
            node("Unsqueeze", ["counted", "across"], ["counted_3d"]),  # [B, 1, F]
            node("Gather", ["matrix", "feature_ids"], ["rows"]),  # [B, F, D]
            node("MatMul", ["counted_3d", "rows"], ["vector_3d"]),
            node("Squeeze", ["vector_3d", "across"], ["vector"]),
        ]
        constants: dict[str, npt.NDArray[Any]] = {
            "idf": self.idf,
            "matrix": self.matrix,
            "size": np.array(self.size, np.int64),
            "nought": np.array(0, np.float32),
            "tiny": np.array(TINY, np.float32),
            "across": np.array([1], np.int64),
        }
        return content_graph(nodes, constants, self.matrix.shape[1])


def _ridge(rows: sparse.csr_array, vectors: Float64, shrinkage: float) -> Float64:
    """The matrix that minimises |rows @ matrix - vectors|^2 + shrinkage * |matrix|^2.

    Solved in items or in features, whichever are fewer: X' (X X' + s I)^-1 = (X' X + s I)^-1 X'.
    """
    across = sparse.csr_array(rows.T)
    if rows.shape[0] < rows.shape[1]:
        gram = (rows @ across).toarray() + shrinkage * np.eye(rows.shape[0])
        solved: Float64 = across @ solve(gram, vectors, assume_a="pos")
        return solved
    gram = (across @ rows).toarray() + shrinkage * np.eye(rows.shape[1])
    solved = solve(gram, np.asarray(across @ vectors), assume_a="pos")
    return solved
