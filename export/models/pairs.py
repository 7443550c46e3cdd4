"""Which items stand near each other in visits. In: a log. Out: events in order, sparse counts.

A *moment* is what a user did at one time: a click, or the lines of an order, which come in no order
of their own. Moments of a visit have one, and nearer ones say more.

Must not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.data.dataset import Log
from export.models.base import Float32, Int64
from export.weights import turns_towards

Float64 = npt.NDArray[np.float64]

FARTHEST = 20  # moments between two items that count as a pair
LEAST_VISIT = 2.0  # events; where visits are shorter on average, a user's history is one visit


@dataclass(slots=True, eq=False)
class Towards:
    """Events that turn towards an item, in time order; each column has shape (E,).

    Attributes
    ----------
    user, visit : int64; users may have visits that overlap
    row : int64, above 0; rows of the item table
    time_ms : int64
    """

    user: Int64
    visit: Int64
    row: Int64
    time_ms: Int64

    @classmethod
    def of(cls, log: Log, item_ids: Sequence[str]) -> Towards:
        """Of a log; events of items that are not among `item_ids` are left out.

        Where visits are shorter than `LEAST_VISIT` on average, the log is one of whole histories,
        and all events of a user are one visit.
        """
        row_by_id = {item_id: row for row, item_id in enumerate(item_ids)}
        row_by_code = np.array([row_by_id.get(item_id, 0) for item_id in log.items], np.int64)
        at = np.flatnonzero(turns_towards(log.event_type) & (row_by_code[log.item] > 0))
        user, visit = log.user[at].astype(np.int64), log.session[at].astype(np.int64)
        if len(at) < LEAST_VISIT * len(np.unique(visit)):
            visit = user
        return cls(user, visit, row_by_code[log.item[at]], log.time_ms[at].astype(np.int64))

    def __len__(self) -> int:
        return len(self.row)

    def before(self, time_ms: int) -> Towards:
        """The events before a moment; no copy."""
        end = int(np.searchsorted(self.time_ms, time_ms))
        return Towards(self.user[:end], self.visit[:end], self.row[:end], self.time_ms[:end])

    def counts(self, items: int) -> Float64:
        """Events of each row: float64, shape (items,)."""
        return np.bincount(self.row, minlength=items).astype(np.float64)


def together(events: Towards, items: int, *, damping: float, recency: float) -> sparse.csr_array:
    """Weighted counts of items near each other: float64, [items, items], symmetric, diagonal 0.

    Two items of one moment count 1, of two moments that are L apart in their visit 1 / L.

    Parameters
    ----------
    damping : an item of a moment of m items counts m**(-damping / 2) in each of its pairs: with 1,
        an item brings about as much from an order of 400 as from one of 2
    recency : a moment of the log's begin counts exp(-recency) in a pair, one of its end 1
    """
    order = np.lexsort((events.time_ms, events.visit))
    visit, time_ms = events.visit[order], events.time_ms[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(visit) != 0) | (np.diff(time_ms) != 0)
    moment = np.cumsum(begins) - 1
    shape = (int(begins.sum()), items)
    lines = sparse.csr_array((np.ones(len(order)), (moment, events.row[order])), shape=shape)
    lines.sum_duplicates()
    lines.data[:] = 1
    age = 1 - order[begins] / max(len(order), 1)
    size = np.maximum(np.diff(lines.indptr), 1)
    weight = size ** (-damping / 2) * np.exp(-recency * age / 2)
    scaled = sparse.csr_array(sparse.diags_array(weight) @ lines)
    total = sparse.csr_array(scaled.T @ scaled)
    visit = visit[begins]
    for lag in range(1, min(FARTHEST, len(visit) - 1) + 1):
        first = np.flatnonzero(visit[lag:] == visit[:-lag])
        if len(first) == 0:
            break
        following = sparse.csr_array(scaled[first].T @ scaled[first + lag])
        total = sparse.csr_array(total + (following + following.T) / lag)
    total.setdiag(0)
    total.eliminate_zeros()
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The nearest items of each item.

    Attributes
    ----------
    rows : int64, shape (n, K); nearest first, 0 for none
    shares : float32, shape (n, K); of the item's pairs, 0 for none; a row's sum is at most 1
    """

    rows: Int64
    shares: Float32

    @classmethod
    def of(
        cls, counts: sparse.csr_array, popularity: Float64, k: int, normalising: float
    ) -> Neighbours:
        """The k largest of each row of counts, divided by popularity**normalising.

        The work follows the pairs that stand together, not n * n.

        Parameters
        ----------
        popularity : float64, shape (n,), above 0
        normalising : 0 = the share of the pairs, 1 = lift
        """
        n = counts.shape[0]
        k = min(k, n - 1)
        found = sparse.csr_array(counts @ sparse.diags_array(popularity**-normalising)).tocoo()
        total = np.asarray(found.sum(axis=1), np.float64)
        share = found.data / total[found.row]
        order = np.lexsort((found.col, -share, found.row))
        row = found.row[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        near = place < k
        rows, shares = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
        rows[row[near], place[near]] = found.col[order[near]]
        shares[row[near], place[near]] = share[order[near]]
        return cls(rows, shares)

    def matrix(self) -> sparse.csr_array:
        """The shares as float64, [n, n]: entry (i, j) is what item i brings j."""
        n, k = self.rows.shape
        of = np.repeat(np.arange(n), k)
        there = self.shares.ravel() > 0
        entries = (
            self.shares.ravel()[there].astype(np.float64),
            (of[there], self.rows.ravel()[there]),
        )
        return sparse.csr_array(entries, shape=(n, n))
