"""What trends, and what is popular, in each kind and category. In: counts. Out: records by key.

An item trends when it has a larger share of its kind's recent interactions than of the usual ones,
by so much that chance is no explanation. With the recent count f and the expected one m (its usual
count times the kind's recent by usual sum), that is in standard deviations

    z = 2 (sqrt(2 f + 3/8) - sqrt(2 m + 3/8))

A count that fades exponentially has half the variance of its mean when events come at random, so
2 f is nearly a Poisson number; the square root makes its deviation 1 (Anscombe, "The transformation
of Poisson, binomial and negative-binomial data", Biometrika 35, 1948). Since shares are compared,
neither an evening's traffic nor a shop's first hour makes anything trend. Impressions are not
counted: a shop chooses what it shows, and this list would feed itself.

Knows nothing of Kafka, of users and of the catalogue; arrays are by row of an item table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.statistics.merged import ItemCounts

Key = tuple[str, str | None]  # kind, category; None: all categories of the kind


class Rules(NamedTuple):
    """What counts as trending.

    Attributes
    ----------
    k : most items of a list
    significance : standard deviations above the usual level
    least : recent interactions
    """

    k: int = 20
    significance: float = 4.0
    least: float = 10.0


class Shop(NamedTuple):
    """What stands in the shop, by row of the item table.

    Attributes
    ----------
    kinds, categories : names by code
    kind, category : int, shape (rows,); codes; category 0 is none
    listed : bool, shape (rows,); may be listed
    """

    kinds: tuple[str, ...]
    categories: list[str]
    kind: NDArray[np.int64]
    category: NDArray[np.int64]
    listed: NDArray[np.bool_]


class Levels(NamedTuple):
    """Items of one list, the first one first.

    Attributes
    ----------
    rows : int64, shape (n,)
    recent, usual, significance : float32, shape (n,); recent interactions, as many as were to be
        expected, standard deviations between the two
    """

    rows: NDArray[np.int64]
    recent: NDArray[np.float32]
    usual: NDArray[np.float32]
    significance: NDArray[np.float32]


def significance_of(recent: NDArray[np.float32], usual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations of recent counts above expected ones. Any shape."""
    above = np.sqrt(2.0 * recent + 0.375) - np.sqrt(2.0 * usual + 0.375)
    return np.asarray(2.0 * above, np.float32)


def look(counts: ItemCounts, shop: Shop, rules: Rules) -> dict[Key, tuple[Levels, Levels]]:
    """What trends and what is popular, of each kind and category in which anything happened."""
    interactions = counts.clicks + counts.carts + counts.purchases
    size = len(interactions)
    kind, category = shop.kind[:size], shop.category[:size]
    usual, z = _levels(counts, interactions, kind, len(shop.kinds))
    rows = np.flatnonzero(shop.listed[:size] & (interactions > 0))
    found: dict[Key, tuple[Levels, Levels]] = {}
    trends = _trends(counts, z, rules)
    for whole in (True, False):
        some = rows if whole else rows[category[rows] > 0]
        group = kind[some] if whole else kind[some] + len(shop.kinds) * category[some]
        popular = _best(group, some, interactions[some], rules.k)
        up = np.flatnonzero(trends[some])
        trending = _best(group[up], some[up], z[some[up]], rules.k)
        for code, best in popular.items():
            name = shop.categories[code // len(shop.kinds)] if not whole else None
            lists = (trending.get(code, best[:0]), best)
            found[shop.kinds[code % len(shop.kinds)], name] = (
                Levels(lists[0], counts.recent[lists[0]], usual[lists[0]], z[lists[0]]),
                Levels(lists[1], counts.recent[lists[1]], usual[lists[1]], z[lists[1]]),
            )
    return found


def top(
    counts: ItemCounts, kind: NDArray[np.int64], allowed: NDArray[np.bool_], rules: Rules
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What trends among the items that are allowed: `rules.k` rows and their significance.

    Parameters
    ----------
    kind : int, shape (rows,); the share of its kind is what an item's is compared with
    allowed : bool, shape (rows,)
    """
    interactions = counts.clicks + counts.carts + counts.purchases
    z = _levels(counts, interactions, kind, int(kind.max(initial=0)) + 1)[1]
    rows = np.flatnonzero(_trends(counts, z, rules) & allowed)
    best = rows[np.lexsort((rows, -z[rows]))[: rules.k]]
    return best, z[best]


def _levels(
    counts: ItemCounts, interactions: NDArray[np.float32], kind: NDArray[np.int64], kinds: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Expected recent interactions of each item, and the deviations of the counted ones."""
    sums = [np.bincount(kind, of, kinds) for of in (counts.recent, interactions)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(sums[1] > 0, sums[0] / sums[1], 0.0)
    usual = (interactions * share[kind]).astype(np.float32)
    return usual, significance_of(counts.recent, usual)


def _trends(counts: ItemCounts, z: NDArray[np.float32], rules: Rules) -> NDArray[np.bool_]:
    trends: NDArray[np.bool_] = (z >= rules.significance) & (counts.recent >= rules.least)
    return trends


def _best(
    group: NDArray[np.int64], rows: NDArray[np.int64], values: NDArray[np.float32], k: int
) -> dict[int, NDArray[np.int64]]:
    """Rows of the k largest values of each group, the largest first; equal ones by row."""
    order = np.lexsort((rows, -values, group))
    codes, firsts = np.unique(group[order], return_index=True)
    edges = [*firsts.tolist(), len(order)]
    return {
        code: rows[order[first : min(first + k, edge)]]
        for code, first, edge in zip(codes.tolist(), edges, edges[1:], strict=False)
    }
