"""What the catalogue says of items, as columns by row. In: records of items. Out: codes, numbers.

Knows nothing of which items may be listed, of users or of Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream.contracts import MAX_RATING, Item

Attribute = Literal["category", "brand", "shop"]
ATTRIBUTES: Final[tuple[Attribute, ...]] = ("category", "brand", "shop")
MIDDLE_RATING: Final = MAX_RATING / 2
NO_CODE: Final = 0  # of an item without the attribute
DAY_S: Final = 86_400.0  # a budget's period, unless its item says another


class Attributes:
    """Attributes of every row of a catalogue; of rows without a record there are none.

    Parameters
    ----------
    learned_s : float32, shape (n,); after how long the first rows are bought again, 0: not known

    Attributes
    ----------
    full_bids, budget_per_s : float64, shape (rows,); of the records, NaN for none
    paces : float64, shape (rows,); by what bids are multiplied, 1 until told
    """

    def __init__(self, rows: int, learned_s: NDArray[np.float32] | None = None) -> None:
        self._codes = np.zeros((len(ATTRIBUTES), rows), np.int32)
        self._prices = np.full(rows, np.nan)
        self._bids = np.full(rows, np.nan)
        self.full_bids = np.full(rows, np.nan)
        self.paces = np.ones(rows)
        self.budget_per_s = np.full(rows, np.nan)
        self._budgeted: set[int] = set()
        self._repurchase_s = np.zeros(rows, np.float32)
        self._learned_s = np.zeros(rows, np.float32)
        self._returns_s = np.zeros(rows, np.float32)
        self._ratings = np.zeros(rows, np.float32)
        self._brings_vector = np.zeros(rows, np.bool_)
        self._rows_by_tag: dict[str, set[int]] = {}
        self._tags_by_row: dict[int, tuple[str, ...]] = {}
        self._code_by_text: tuple[dict[str, int], ...] = tuple({} for _ in ATTRIBUTES)
        if learned_s is not None:
            self.reserve(len(learned_s))
            for of in (self._learned_s, self._returns_s):
                of[: len(learned_s)] = learned_s

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        more = rows - self._codes.shape[1]
        if more > 0:
            self._codes = np.pad(self._codes, ((0, 0), (0, more)))
            self._prices = np.pad(self._prices, (0, more), constant_values=np.nan)
            for name in ("_bids", "full_bids", "budget_per_s"):
                column = np.pad(getattr(self, name), (0, more), constant_values=np.nan)
                setattr(self, name, column)
            self.paces = np.pad(self.paces, (0, more), constant_values=1.0)
            for name in (
                *("_repurchase_s", "_learned_s", "_returns_s"),
                *("_ratings", "_brings_vector"),
            ):
                setattr(self, name, np.pad(getattr(self, name), (0, more)))

    def put(self, row: int, item: Item) -> None:
        """Replace what is known of a row by its item's record."""
        for number, known in enumerate(self._code_by_text):
            text = getattr(item, ATTRIBUTES[number])
            code = NO_CODE if not text else known.setdefault(text, len(known) + 1)
            self._codes[number, row] = code
        self._prices[row] = np.nan if item.price is None else item.price
        self.full_bids[row] = item.bid or np.nan
        if item.bid and item.budget is not None:
            self.budget_per_s[row] = item.budget / (item.budget_period_s or DAY_S)
            self._budgeted.add(row)
        else:
            self.budget_per_s[row], self.paces[row] = np.nan, 1.0
            self._budgeted.discard(row)
        paid = self.full_bids[row] * self.paces[row]
        self._bids[row] = paid if paid > 0 else np.nan
        self._repurchase_s[row] = item.repurchase_s or 0.0
        self._returns_s[row] = item.repurchase_s or self._learned_s[row]
        self._ratings[row] = 0.0 if item.rating is None else item.rating - MIDDLE_RATING
        self._brings_vector[row] = item.embedding is not None
        for tag in self._tags_by_row.pop(row, ()):
            self._rows_by_tag[tag].discard(row)
        if item.tags:
            self._tags_by_row[row] = item.tags
            for tag in item.tags:
                self._rows_by_tag.setdefault(tag, set()).add(row)

    def pace(self, rows: NDArray[np.int64], paces: NDArray[np.float64]) -> None:
        """Multiply the bids of some rows by others than so far: float64, 0 to 1; 0 takes them."""
        self.paces[rows] = paces
        bids = self.full_bids[rows] * paces
        self._bids[rows] = np.where(bids > 0, bids, np.nan)

    @property
    def budgeted(self) -> NDArray[np.int64]:
        """Rows that have a bid and a budget: int64."""
        return np.fromiter(self._budgeted, np.int64, len(self._budgeted))

    def codes(self, attribute: Attribute) -> NDArray[np.int32]:
        """Code of each row's attribute, `NO_CODE` for none: int32, shape (rows,). A view."""
        codes: NDArray[np.int32] = self._codes[ATTRIBUTES.index(attribute)]
        return codes

    def code_of(self, attribute: Attribute, text: str) -> int:
        """The code of an attribute's text; -1, which no row has, where no item has that text."""
        return self._code_by_text[ATTRIBUTES.index(attribute)].get(text, -1)

    def codes_of(self, attribute: Attribute, texts: Sequence[str]) -> NDArray[np.int32]:
        """The same of many: int32, shape (len(texts),)."""
        return np.array([self.code_of(attribute, text) for text in texts], np.int32)

    def texts(self, attribute: Attribute) -> list[str]:
        """The text of each code, from 1 on."""
        return list(self._code_by_text[ATTRIBUTES.index(attribute)])

    @property
    def ratings(self) -> NDArray[np.float32]:
        """How far each row's rating is from the middle, 0 without one; float32. A view."""
        return self._ratings

    @property
    def brings_vector(self) -> NDArray[np.bool_]:
        """Whether the record of each row has an embedding: bool, shape (rows,). A view."""
        return self._brings_vector

    @property
    def prices(self) -> NDArray[np.float64]:
        """Price of each row, NaN for none: float64, shape (rows,). A view."""
        return self._prices

    @property
    def bids(self) -> NDArray[np.float64]:
        """What a click on each row is to pay now, > 0, NaN for nothing: float64, shape (rows,).

        Its record's bid times its pace. A view.
        """
        return self._bids

    def returns_s(self, window_s: float) -> NDArray[np.float32]:
        """After how long each row is bought again, 0: not known; float32, shape (rows,). A view.

        Parameters
        ----------
        window_s : how long a placement wants bought items to be left out; finite: what was learned
            does not count beside it, what records say does
        """
        return self._repurchase_s if np.isfinite(window_s) else self._returns_s

    def is_one_of(
        self, attribute: Attribute, texts: Sequence[str], rows: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether the attribute of each of the rows is one of the texts. Any shape."""
        return np.isin(self.codes(attribute)[rows], self.codes_of(attribute, texts))

    def have_tag(self, tags: Sequence[str], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of the rows has one of the tags. Any shape."""
        several = [self._rows_by_tag.get(tag, set()) for tag in tags]
        if rows.size < sum(map(len, several)):  # a few that changed, of many that have the tag
            found = [any(row in having for having in several) for row in rows.ravel().tolist()]
            return np.array(found, np.bool_).reshape(rows.shape)
        having = set().union(*several)
        return np.isin(rows, np.fromiter(having, np.int64, len(having)))
