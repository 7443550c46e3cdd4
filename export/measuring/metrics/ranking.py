"""How well lists hold what was wanted. In: lists and targets. Out: one number a list.

A list is judged against every item of the catalogue: nothing is sampled, so no metric here needs a
correction for sampling (Krichene and Rendle 2020). All take `Hits` and k, and return float64 [n].

Must not know: models, logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Hits(NamedTuple):
    """Which places of n lists hold a target.

    Attributes
    ----------
    at : bool, shape (n, K); best place first
    wanted : int64, shape (n,), at least 1; targets of each list, those that nobody could list too
    """

    at: Bool
    wanted: Int64


def find_hits(listed: Int64, targets: Sequence[Int64]) -> Hits:
    """Look up every listed row among its own list's targets.

    Parameters
    ----------
    listed : int64, shape (n, K), >= 0; 0 where nothing is listed; no other row twice in a list
    targets : n arrays of rows, each at least one long; 0 for an item that has no row, never a hit
    """
    wanted = np.array([len(rows) for rows in targets], np.int64)
    flat = np.concatenate([*targets, np.zeros(0, np.int64)])
    stride = max(int(listed.max(initial=0)), int(flat.max(initial=0))) + 1
    keys = (np.repeat(np.arange(len(targets)), wanted) * stride + flat)[flat > 0]
    own = np.arange(len(targets))[:, None] * stride + listed
    return Hits(np.isin(own, keys), wanted)


def recall(hits: Hits, k: int) -> Float64:
    """Share of the targets that stand among the first k."""
    return np.asarray(_found(hits, k) / hits.wanted)


def precision(hits: Hits, k: int) -> Float64:
    """Share of the k places that hold a target; a place left empty holds none."""
    return np.asarray(_found(hits, k) / k)


def f1(hits: Hits, k: int) -> Float64:
    """Harmonic mean of precision and recall of each list; 0 where both are 0 (van Rijsbergen 1979).

    2 p r / (p + r) = 2 found / (k + wanted), since p = found / k and r = found / wanted.
    """
    return np.asarray(2 * _found(hits, k) / (k + hits.wanted))


def hit_rate(hits: Hits, k: int) -> Float64:
    """1 where any target stands among the first k, else 0; recall itself for a single target."""
    return np.asarray(hits.at[:, :k].any(axis=1), np.float64)


def gain(ranks: Int64, k: int) -> Float64:
    """Discounted gain 1 / log2(rank + 2) of targets at ranks from 0 on; 0 from k on.

    Jarvelin and Kekalainen 2002, with binary gains. Of a list with one target it is NDCG itself.
    """
    return np.asarray(np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0))


def ndcg(hits: Hits, k: int) -> Float64:
    """The `gain` of a list's hits, over the most that k places could have."""
    discounts = gain(np.arange(k), k)
    places = discounts[: hits.at.shape[1]]
    gained: Float64 = hits.at[:, :k] @ places
    best = np.cumsum(discounts)[np.minimum(hits.wanted, k) - 1]
    return np.asarray(gained / best)


def mrr(hits: Hits, k: int) -> Float64:
    """1 / place of the first target among the first k, else 0 (Voorhees 1999)."""
    first = hits.at[:, :k].argmax(axis=1)
    return np.asarray(hit_rate(hits, k) / (first + 1))


def _found(hits: Hits, k: int) -> Float64:
    found: Float64 = hits.at[:, :k].sum(axis=1, dtype=np.float64)
    return found


RANKING: dict[str, Callable[[Hits, int], Float64]] = {
    "recall": recall,
    "precision": precision,
    "f1": f1,
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
}


def by_list(
    hits: Hits, ks: Sequence[int], names: Sequence[str] = tuple(RANKING)
) -> dict[str, Float64]:
    """Every metric at every k: float64, shape (n,), by `name@k`."""
    return {f"{name}@{k}": RANKING[name](hits, k) for k in ks for name in names}
