"""What the catalogue says of items, as columns by row. In: records of items. Out: codes, numbers.

Knows nothing of which items may be listed, of users or of Kafka.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Item

Attribute = Literal["category", "brand", "shop"]
ATTRIBUTES: Final[tuple[Attribute, ...]] = ("category", "brand", "shop")
NO_CODE: Final = 0  # of an item without the attribute


class Attributes:
    """Attributes of every row of a catalogue; of rows without a record there are none."""

    def __init__(self, rows: int) -> None:
        self._codes = np.zeros((len(ATTRIBUTES), rows), np.int32)
        self._code_by_text: tuple[dict[str, int], ...] = tuple({} for _ in ATTRIBUTES)

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        more = rows - self._codes.shape[1]
        if more > 0:
            self._codes = np.pad(self._codes, ((0, 0), (0, more)))

    def put(self, row: int, item: Item) -> None:
        """Replace what is known of a row by its item's record."""
        for number, known in enumerate(self._code_by_text):
            text = getattr(item, ATTRIBUTES[number])
            code = NO_CODE if not text else known.setdefault(text, len(known) + 1)
            self._codes[number, row] = code

    def codes(self, attribute: Attribute) -> NDArray[np.int32]:
        """Code of each row's attribute, `NO_CODE` for none: int32, shape (rows,). A view."""
        codes: NDArray[np.int32] = self._codes[ATTRIBUTES.index(attribute)]
        return codes

    def code_of(self, attribute: Attribute, text: str) -> int:
        """The code of an attribute's text; -1, which no row has, where no item has that text."""
        return self._code_by_text[ATTRIBUTES.index(attribute)].get(text, -1)
