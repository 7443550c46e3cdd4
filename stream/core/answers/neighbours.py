"""Items near an item: by their vectors, and by who bought both. In: vectors, rings. Out: rows.

Knows nothing of users' names, records and placements' rules: what may be listed is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, array, compiled, many
from stream.contracts import EventType
from stream.core.model import Model
from stream.core.wire import ITEM_BITS, RING_ENTRY, join

_ROWS_AT_ONCE = 1 << 16  # of a packed item table, which is unpacked as it is read
_PURCHASE = np.uint8(EventType.PURCHASE)
# As in `wire`, and literals: compiled code does not notice a change in another module.
_ITEM_BITS, _TYPE_BITS = np.uint64(60), np.uint64(4)
assert int(_ITEM_BITS) == ITEM_BITS == 64 - int(_TYPE_BITS)


class Near(NamedTuple):
    """Items and how near they are, the nearest first: int64 and float32, shape (n,)."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


def similar(
    model: Model,
    to: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    struck: Sequence[NDArray[np.int64]],
    k: Sequence[int],
) -> list[Near]:
    """The items whose vectors point most into the direction of another item's.

    Parameters
    ----------
    to : int64, shape (m,); rows
    allowed : bool, shape (rows,); which items may be listed
    struck : for each, further rows that may not; each item itself never is
    k : for each, how many

    Returns
    -------
    for each, with the cosines; of those above 0 alone, and none where the item has no vector
    """
    table, (at,) = model.embeddings_of(to)
    wanted = _directions(table[at])
    kept_rows, kept_scores = [], []
    for first in range(0, len(allowed), _ROWS_AT_ONCE):
        rows = np.arange(first, min(first + _ROWS_AT_ONCE, len(allowed)))
        table, (at,) = model.embeddings_of(rows)
        directions = _directions(table[at])
        # One after the other: a sum's last bit must not hang on what else was asked.
        cosines = np.stack([directions @ mine for mine in wanted])  # [m, rows]
        cosines[:, ~allowed[rows]] = 0
        for mine, row, others in zip(cosines, to, struck, strict=True):
            out = np.append(others, row)
            mine[out[(out >= first) & (out <= rows[-1])] - first] = 0
        most = min(max(k), len(rows))
        best = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        kept_rows.append(rows[best])
        kept_scores.append(np.take_along_axis(cosines, best, axis=1))
    columns = zip(
        np.concatenate(kept_rows, axis=1), np.concatenate(kept_scores, axis=1), k, strict=True
    )
    return [_best(rows, scores, most) for rows, scores, most in columns]


def _directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    directions: NDArray[np.float32] = np.zeros_like(vectors)
    np.divide(vectors, lengths, out=directions, where=lengths > 0)
    return directions


def _best(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Near:
    order = np.lexsort((rows, -scores))[:k]
    order = order[scores[order] > 0]
    return Near(rows[order], np.minimum(scores[order], np.float32(1)))


class BoughtTogether(NamedTuple):
    """Who bought an item bought what else.

    Attributes
    ----------
    buyers : users whose last interactions have a purchase of the item
    items : uint64, shape (n,); 60 bits of the hashes of what else they bought
    counts : int64, shape (n,); how many of them
    """

    buyers: int
    items: NDArray[np.uint64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, rings: np.ndarray, item: np.uint64) -> BoughtTogether:
        """Look through last interactions: `RING_ENTRY`, shape (users, ring)."""
        room = 1024
        while True:
            found = np.empty(room, np.uint64)
            buyers, pairs = _bought_with(rings, join(item, _PURCHASE)[None], found)
            if pairs <= room:
                items, counts = np.unique(found[:pairs], return_counts=True)
                return cls(buyers, items, counts)
            room = pairs


@compiled(many(INT, 2), array(RING_ENTRY, 2), array("u8"), array("u8", written=True))
def _bought_with(
    rings: np.ndarray, wanted: NDArray[np.uint64], found: NDArray[np.uint64]
) -> tuple[int, int]:
    """Buyers of an item, and what else each of them bought, once each, as far as there is room.

    Answers how many buyers, and how many pairs there would be with room enough.
    """
    purchase = wanted[0]  # of the item
    buyers = 0
    pairs = 0
    size = rings.shape[1]
    for user in range(rings.shape[0]):
        bought = False
        for at in range(size):
            if rings[user, at]["item_and_type"] == purchase:
                bought = True
                break
        if not bought:
            continue
        buyers += 1
        for at in range(size):
            other = rings[user, at]["item_and_type"]
            if other >> _ITEM_BITS != purchase >> _ITEM_BITS or other == purchase:
                continue
            again = False
            for before in range(at):
                again = again or rings[user, before]["item_and_type"] == other
            if not again:
                if pairs < len(found):
                    found[pairs] = other << _TYPE_BITS >> _TYPE_BITS
                pairs += 1
    return buyers, pairs
