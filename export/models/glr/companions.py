"""Which items follow each other. In: `Sequences`. Out: sparse counts, the nearest few of each, and
what they are worth.

Two events of a user that are L events apart count 1 / L, newer ones of the log more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.models.base import Float32, Int64
from export.models.glr.sequences import Sequences

FARTHEST = 20  # events between two that belong together
RECENCY = 2.0  # a pair of the log's begin counts exp(-2) of one of its end
BACKWARD = 0.5  # what an item says of the one before it, against the one after it
DOUBT = 5.0  # counts that are added to a row's sum: few pairs prove little
RARE = 0.01  # share at which a companion begins to be worth something


def pairs(
    sequences: Sequences, items: int, weight: npt.NDArray[np.float64] | None = None
) -> sparse.csr_array:
    """Weighted counts of the column's item after the row's: [items, items], diagonal 0.

    `weight`: float64 [events], of the second event of a pair; None: by `RECENCY`.
    """
    s = sequences
    if weight is None:
        age = 1 - s.position / max(int(s.position.max(initial=0)) + 1, 1)
        weight = np.exp(-RECENCY * age)
    total = sparse.csr_array((items, items))
    for lag in range(1, min(FARTHEST, max(len(s) - 1, 0)) + 1):
        one, other = s.row[:-lag], s.row[lag:]
        near = (s.user[:-lag] == s.user[lag:]) & (one != other) & s.wanted[:-lag] & s.wanted[lag:]
        if not near.any():
            break
        counts = (weight[lag:][near] / lag, (one[near], other[near]))
        total = total + sparse.coo_array(counts, shape=(items, items)).tocsr()
    return total


def both_ways(forward: sparse.csr_array, backward: float = 1.0) -> sparse.csr_array:
    """`pairs`, an item before another one counting `backward` times as much as one after it."""
    both: sparse.csr_array = (forward + backward * forward.T).tocsr()
    return both


def nearest(counts: sparse.csr_array, k: int) -> tuple[Int64, Float32]:
    """The k largest of each row.

    Returns
    -------
    rows : int64 [n, k], padded with 0
    counts : float32 [n, k], descending, padded with 0
    """
    n = counts.shape[0]
    counts = counts.tocsr()
    counts.sort_indices()
    row = np.repeat(np.arange(n), np.diff(counts.indptr))
    order = np.lexsort((counts.indices, -counts.data, row))
    rank = np.arange(len(order)) - counts.indptr[row]  # `order` keeps rows together
    kept = rank < k
    rows, values = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    at = (row[kept], rank[kept])
    rows[at] = counts.indices[order][kept]
    values[at] = counts.data[order][kept]
    return rows, values


@dataclass(frozen=True, slots=True, eq=False)
class Companions:
    """What each item brings. `rows`: int64 [n, K], 0 for none; `worth`: float32 [n, K], 0 there."""

    rows: Int64
    worth: Float32

    @classmethod
    def of(cls, counts: sparse.csr_array, k: int) -> Companions:
        """From `pairs`: log(1 + share / RARE) of the k nearest of each row."""
        rows, found = nearest(counts, k)
        total = np.asarray(counts.sum(axis=1), np.float64)[:, None] + DOUBT
        return cls(rows, np.log1p(found / total / RARE).astype(np.float32))
