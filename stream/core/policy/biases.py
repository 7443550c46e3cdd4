"""What a placement's items are listed by: a bias a row, one for each set of rules in force.

In: settings, what the catalogue says of items. Out: biases that stay on the device and follow the
catalogue. Knows nothing of users: which rules are in force comes in, as bits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.core.bundle import NEVER_LISTED
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.bids import Bids
from stream.core.policy.rules import Rules
from stream.core.resident import ResidentBias
from stream.placements import Placement as PlacementRules

MOST_BIASES: Final = 16  # of users with different rules in force; each takes 4 bytes an item
LEVELS: Final = 4  # of bids that are usually looked at, so so many times as many biases
PIECE_ROWS: Final = 1 << 15  # made between two looks at what else is to be done


class Biases:
    """The biases of one placement; a few are kept.

    Parameters
    ----------
    settings : the placement's
    item_bias : float32, shape (rows,); the model's bias of every row

    Attributes
    ----------
    bids : what items are ordered by besides their scores; None: nothing
    rules : the placement's; None: it has none
    """

    def __init__(
        self,
        settings: PlacementRules,
        model: Model,
        catalogue: Catalogue,
        item_bias: NDArray[np.float32],
    ) -> None:
        self._made_of = _makes(settings)
        self._model = model
        self._catalogue = catalogue
        self._kinds = settings.kinds
        self._rating_weight = np.float32(settings.rating_weight)
        self._item_bias = item_bias
        self.bids = Bids(catalogue.attributes) if settings.by_bid else None
        self.rules = Rules(settings.rules, catalogue) if settings.rules else None
        self._kept: OrderedDict[tuple[int, int | None], ResidentBias] = OrderedDict()

    def suit(self, settings: PlacementRules) -> bool:
        """Whether a placement of these settings has the same biases."""
        return self._made_of == _makes(settings)

    def of(self, bits: int, level: int | None = None) -> ResidentBias:
        """The bias of users for whom these rules are in force.

        Parameters
        ----------
        level : of `Bids`, whose items alone are listed; None: all with a bid
        """
        bias = self._kept.get((bits, level))
        if bias is None:
            bias = self._keep(bits, self._eligible(self._rows(), bits, level), level)
        self._kept.move_to_end((bits, level))
        return bias

    def make(self, now_ms: int) -> Iterator[None]:
        """Make those ahead that are likely to be asked for, piece by piece: `PIECE_ROWS` rows,
        or all that a rule is about.

        Rows that change meanwhile are for `refresh` to tell of afterwards.

        Parameters
        ----------
        now_ms : wall-clock time
        """
        rows = self._rows()
        plain = []
        for first in range(0, len(rows), PIECE_ROWS):
            plain.append(self._eligible(rows[first : first + PIECE_ROWS], 0))
            yield
        bias = np.concatenate(plain)
        several = [0] if self.rules is None else self.rules.likely(now_ms)
        met: dict[int, NDArray[np.bool_]] = {}
        for bits in several:
            of_these = bias.copy()
            if self.rules is not None:
                for number in range(bits.bit_length()):
                    if bits >> number & 1 and number not in met:
                        met[number] = self.rules.met(number, rows)
                        yield
                self.rules.act(bits, rows, of_these, NEVER_LISTED, met)
            self._keep(bits, of_these)
            yield

    def refresh(self, rows: NDArray[np.int64], item_bias: NDArray[np.float32]) -> None:
        """Take note of changed catalogue rows: int64, shape (n,)."""
        self._item_bias = item_bias
        if self.bids is not None:
            self.bids.refresh()
        for (bits, level), bias in self._kept.items():
            bias.set(rows, self._eligible(rows, bits, level))

    def _rows(self) -> NDArray[np.int64]:
        return np.arange(min(len(self._catalogue), len(self._item_bias)))

    def _keep(
        self, bits: int, values: NDArray[np.float32], level: int | None = None
    ) -> ResidentBias:
        bias = self._kept[bits, level] = self._model.new_bias(values)
        if len(self._kept) > MOST_BIASES * (1 if self.bids is None else LEVELS):
            self._kept.popitem(last=False)
        return bias

    def _eligible(
        self, rows: NDArray[np.int64], bits: int, level: int | None = None
    ) -> NDArray[np.float32]:
        """Biases of some rows where the rules of these bits are in force; see `of`."""
        eligible = self._catalogue.eligible(self._kinds, rows) & (rows != NO_ITEM)
        bias = np.where(eligible, self._item_bias[rows], np.float32(NEVER_LISTED))
        if self.bids is not None:
            bias = np.where(self.bids.on(rows, level), bias, np.float32(NEVER_LISTED))
        if self._rating_weight:
            bias += self._rating_weight * self._catalogue.attributes.ratings[rows] * eligible
        if self.rules is not None and bits:
            self.rules.act(bits, rows, bias, NEVER_LISTED)
        return bias


def _makes(settings: PlacementRules) -> tuple[Any, ...]:
    """What of a placement's settings biases are made of."""
    return (settings.kinds, settings.by_bid, settings.rating_weight, settings.rules)


def item_biases(model: Model) -> NDArray[np.float32]:
    """The model's bias of every row of its item table: float32, shape (rows,).

    An item that the model never saw has the median item's bias: a neutral prior.
    """
    trained = model.bundle.biases
    neutral = np.median(trained[1:]) if len(trained) > 1 else 0.0
    biases = np.full(model.rows, neutral, np.float32)
    biases[: len(trained)] = trained
    return biases
