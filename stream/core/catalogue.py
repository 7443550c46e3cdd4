"""Items: external id <-> row of the item table, and what the catalogue says of each row.

In: the bundle's item ids, records of the items topic. Out: rows and hashes for item ids,
prices, eligibility by kind. Knows nothing of users, scores or Kafka.

Row 0 is "no item": events for items that neither bundle nor catalogue knows fold with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled, part_of_compiled
from stream.contracts import ITEM_KINDS, Item, item_hash
from stream.core.attributes import Attributes
from stream.core.wire import ITEM_MASK
from stream.errors import RecordError
from stream.words.templates import cut

NO_ITEM: Final = 0
_KIND_CODE: Final = {kind: code for code, kind in enumerate(ITEM_KINDS)}
_FREE: Final = np.uint64(0)


class Catalogue:
    """Every item that the model or the shop knows.

    Parameters
    ----------
    item_ids : of the bundle, one a row; row 0 is "" (`Bundle.item_ids`)
    titles : items' titles are kept: about 100 bytes each
    learned_s : of the bundle, after how long items are bought again (`Bundle.repurchase_s`)

    Attributes
    ----------
    ids : item id of each row; row 0 is the empty string
    hashes : uint64, shape (capacity,); `contracts.item_hash` of each row, 0 for row 0
    prices : of each row, None where the shop tells none
    attributes : what the items' records say else
    changed : rows that are new or changed since the engine last took note
    embeddings : row -> vector that the engine has yet to put into the item table; only of rows that
        the model was not trained on
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        learned_s: NDArray[np.float32] | None = None,
        *,
        titles: bool = False,
    ) -> None:
        self.ids: list[str] = [""]
        self._titles: dict[int, str] | None = {} if titles else None
        self.prices: list[float | None] = [None]
        self.hashes = np.zeros(1024, np.uint64)
        self.attributes = Attributes(1024, learned_s)
        self.changed: set[int] = set()
        self.embeddings: dict[int, tuple[float, ...] | NDArray[np.float32]] = {}
        self._row_by_id: dict[str, int] = {}
        self._row_by_hash = HashIndex()
        self._kind = np.zeros(1024, np.int8)
        self._available = np.zeros(1024, np.bool_)
        self._listed = np.zeros(1024, np.bool_)
        self._has_records = False
        self._first_untrained = len(item_ids)
        self._append(item_ids[1:])
        self._available[1 : len(self.ids)] = True
        self.changed.clear()

    def __len__(self) -> int:
        """Rows in use, row 0 included."""
        return len(self.ids)

    # -- look-up ---------------------------------------------------------------------------

    def rows(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Rows of the items, `NO_ITEM` for unknown ones: int64, shape (len(item_ids),)."""
        row_of = self._row_by_id.get
        return np.array([row_of(item_id, NO_ITEM) for item_id in item_ids], dtype=np.int64)

    def title(self, row: int) -> str:
        """An item's title, as long as words have it; its id where no title is known."""
        return self._titles.get(row, self.ids[row]) if self._titles else self.ids[row]

    def hashes_of(self, item_ids: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hashes of the items, also of unknown ones: uint64, shape (len(item_ids),)."""
        hashes = self.hashes[rows]
        for position in np.flatnonzero(rows == NO_ITEM).tolist():
            hashes[position] = item_hash(item_ids[position])
        return hashes

    def rows_of_hashes(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of item hashes, `NO_ITEM` for unknown ones and for 0. Any shape.

        60 bits of a hash are enough: rings hold no more of it.
        """
        return self._row_by_hash.find(hashes & ITEM_MASK)

    def know(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether bundle or catalogue knows the items of hashes. Any shape."""
        known: NDArray[np.bool_] = self.rows_of_hashes(hashes) != NO_ITEM
        return known

    def eligible(self, kinds: Sequence[str], rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Which rows may be listed in a placement of these kinds.

        A shop that publishes no catalogue gets all items of the bundle; one that does gets only
        items that stand in it and are available.
        """
        return self.are(kinds, rows) & self.available(rows)

    def are(self, kinds: Sequence[str], rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Which rows are of one of these kinds."""
        return np.isin(self._kind[rows], [_KIND_CODE[kind] for kind in kinds])

    @property
    def kinds(self) -> NDArray[np.int8]:
        """int8, shape (capacity,); place of each row's kind in `ITEM_KINDS`. A view."""
        return self._kind

    def available(self, rows: NDArray[np.int64] | slice) -> NDArray[np.bool_]:
        """Which rows may be listed at all, of whatever kind."""
        return self._available[rows] & (self._listed[rows] | (not self._has_records))

    def count_by_kind(self) -> dict[str, int]:
        """Items that stand in the catalogue, by kind."""
        kinds = self._kind[: len(self.ids)][self._listed[: len(self.ids)]]
        counts = np.bincount(kinds, minlength=len(ITEM_KINDS)).tolist()
        return dict(zip(ITEM_KINDS, counts, strict=True))

    # -- changes ---------------------------------------------------------------------------

    def put(self, item: Item) -> int:
        """A new or changed item; answers its row.

        Raises
        ------
        RecordError : the embedding has no direction; nothing was changed
        """
        embedding = None if item.embedding is None else unit_embedding(item.embedding)
        row = self._row_by_id.get(item.item_id, NO_ITEM)
        if row == NO_ITEM:
            row = len(self.ids)
            self._append([item.item_id])
        if not self._has_records:  # from now on only what stands in the catalogue is listed
            self._has_records = True
            self.changed.update(range(1, len(self.ids)))
        self._kind[row] = _KIND_CODE[item.kind]
        self._available[row] = item.available
        self._listed[row] = True
        self.prices[row] = item.price
        if self._titles is not None:
            self._titles[row] = cut(item.title or item.item_id)
        self.attributes.put(row, item)
        if embedding is not None and row >= self._first_untrained:
            self.embeddings[row] = embedding
        self.changed.add(row)
        return row

    def are_trained(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the model has a vector of its own for each of the rows."""
        return rows < self._first_untrained

    def is_trained(self, row: int) -> bool:
        """Whether the model has a vector of its own for the row."""
        return row < self._first_untrained

    def describe(self, row: int, vector: NDArray[np.float32]) -> None:
        """Give an item that the model was not trained on the vector of its content: shape (D,)."""
        self.embeddings[row] = vector
        self.changed.add(row)

    def remove(self, item_id: str) -> None:
        """The item is gone from the shop; its row stays, since histories refer to it."""
        row = self._row_by_id.get(item_id, NO_ITEM)
        if row != NO_ITEM:
            self._listed[row] = self._available[row] = False
            self.changed.add(row)

    def _append(self, item_ids: Sequence[str]) -> None:
        first = len(self.ids)
        self.ids.extend(item_ids)
        self.prices.extend([None] * len(item_ids))
        size = len(self.ids)
        if size > len(self.hashes):
            capacity = max(size, 2 * len(self.hashes))
            for name in ("hashes", "_kind", "_available", "_listed"):
                old = getattr(self, name)
                new = np.zeros(capacity, old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
            self.attributes.reserve(capacity)
        self._row_by_id.update(zip(item_ids, range(first, size), strict=True))
        hashes = np.array([item_hash(item_id) for item_id in item_ids], dtype=np.uint64)
        self.hashes[first:size] = hashes
        self._row_by_hash.add(hashes & ITEM_MASK, np.arange(first, size))
        self.changed.update(range(first, size))


def unit_embedding(given: Sequence[float]) -> tuple[float, ...]:
    """An item's embedding scaled to length 1, which is what the vectors of trained items have.

    A vector that is not finite would turn every state that it is folded into to NaN, for ever.

    Raises
    ------
    RecordError : a number is not finite in float32, or all of them are 0 there
    """
    with np.errstate(over="ignore"):
        vector = np.array(given, np.float64).astype(np.float32)
    if not np.isfinite(vector).all():
        raise RecordError("not_finite", "embedding")
    exact = vector.astype(np.float64)
    length = float(np.sqrt((exact**2).sum()))
    if length == 0.0:
        raise RecordError("out_of_range", "embedding")
    return tuple((exact / length).tolist())


class HashIndex:
    """uint64 hash -> row for whole arrays: an open-addressing table.

    The hashes are uniform, so their low bits are the bucket; the table stays at most a quarter
    full, which settles nearly every look-up at the first one.
    """

    def __init__(self) -> None:
        self._count = 0
        self._keys = np.zeros(4096, np.uint64)
        self._rows = np.zeros(4096, np.int64)

    def add(self, hashes: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
        """Add distinct hashes, none of them 0. One that is there already gets the new row."""
        size = len(self._keys)
        while 4 * (self._count + len(hashes)) > size:
            size *= 2
        if size != len(self._keys):
            there = self.entries()
            hashes = np.concatenate([there[0], hashes])
            rows = np.concatenate([there[1], rows])
            self._keys, self._rows = np.zeros(size, np.uint64), np.zeros(size, np.int64)
            self._count = 0
        self._count += _insert(hashes, rows, self._keys, self._rows)

    def entries(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """All hashes and their rows, in no order."""
        used = self._keys != _FREE
        return self._keys[used], self._rows[used]

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of the hashes, 0 where there is none; the shape of `hashes`."""
        rows = np.empty(hashes.shape, np.int64)
        _find(hashes.reshape(-1), self._keys, self._rows, rows.reshape(-1))
        return rows


@part_of_compiled
def _bucket(key: np.uint64, keys: NDArray[np.uint64]) -> np.int64:
    """Where `key` stands among `keys`, or the free place where it would."""
    mask = len(keys) - 1
    bucket = np.int64(key) & mask
    while keys[bucket] != key and keys[bucket] != _FREE:
        bucket = (bucket + 1) & mask
    return bucket


@compiled(INT, array("u8"), array("i8"), array("u8", written=True), array("i8", written=True))
def _insert(
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    keys: NDArray[np.uint64],
    rows_by_bucket: NDArray[np.int64],
) -> int:
    """`HashIndex.add`, with room enough; answers how many are new."""
    added = 0
    for number in range(len(hashes)):
        bucket = _bucket(hashes[number], keys)
        added += keys[bucket] == _FREE
        keys[bucket] = hashes[number]
        rows_by_bucket[bucket] = rows[number]
    return added


@compiled(NOTHING, array("u8"), array("u8"), array("i8"), array("i8", written=True))
def _find(
    hashes: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    rows_by_bucket: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    """`HashIndex.find`, into `rows`. A free bucket's row is 0, and so is that of hash 0."""
    for number in range(len(hashes)):
        rows[number] = rows_by_bucket[_bucket(hashes[number], keys)]
