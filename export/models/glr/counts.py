"""What a log's counts say of an item, and of a companion of it. In: `Sequences`. Out: features.

They are what `correction.py` reads: numbers of events and of pairs, newer and older ones, on a
logarithmic scale. NumPy; knows neither networks nor held-out events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import sparse

from export.models.base import Float32, Int64
from export.models.glr.companions import Companions, pairs
from export.models.glr.popularity import DAY_MS
from export.models.glr.sequences import Sequences

ITEM_FEATURES: Final = 6
PAIR_FEATURES: Final = 8
HALF_LIVES_DAYS: Final = (1.0, 4.0, 16.0)  # of an event's weight among the newest
PAIR_HALF_LIFE_DAYS: Final = 8.0
LEAST: Final = 0.1  # events, within a logarithm
PAIR_UNIT: Final = 0.1  # two that are ten events apart; below it a logarithm is about linear
_PAIRS_AT_ONCE: Final = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Of n items, row 0 being "no item", and of K companions of each.

    Attributes
    ----------
    item_features : float32 [n, 6]; logarithms of an item's events that turned towards it, of the
        newest of them (three half-lives), of the days since the first and since the last of them
    companions : whose pairs are counted
    """

    item_features: Float32
    companions: Companions
    _table: Float32  # [n, D]
    _lengths: Float32  # [n]
    _forward: sparse.csr_array
    _newest: sparse.csr_array

    @classmethod
    def of(
        cls,
        sequences: Sequences,
        forward: sparse.csr_array,
        companions: Companions,
        table: Float32,
    ) -> Counts:
        """Count; times are before the newest event that turned towards an item.

        Parameters
        ----------
        forward : `companions.pairs` of the same sequences
        table : float32 [n, D], item vectors of any length
        """
        n, wanted = len(table), sequences.wanted
        newest_ms = sequences.time_ms[wanted].max(initial=0)
        age_days = np.maximum(newest_ms - sequences.time_ms, 0) / DAY_MS
        rows, age = sequences.row[wanted], age_days[wanted]
        span = float(age.max(initial=0.0))
        first, last = np.zeros(n), np.full(n, span)
        np.maximum.at(first, rows, age)
        np.minimum.at(last, rows, age)
        events = np.bincount(rows, minlength=n)
        first[events == 0] = span
        columns = [np.log1p(events)]
        for half_life in HALF_LIVES_DAYS:
            newest = np.bincount(rows, np.exp2(-age / half_life), n)
            columns.append(np.log(newest + LEAST))
        columns += [np.log1p(first), np.log1p(last)]
        return cls(
            item_features=np.stack(columns, axis=1).astype(np.float32),
            companions=companions,
            _table=table,
            _lengths=np.maximum(np.linalg.norm(table, axis=1), 1e-9).astype(np.float32),
            _forward=forward,
            _newest=pairs(sequences, n, np.exp2(-age_days / PAIR_HALF_LIFE_DAYS)),
        )

    def pair_features(self, at: Int64) -> Float32:
        """Features of some pairs of an item and a companion.

        Parameters
        ----------
        at : int64 [m]; indices of `companions.rows`, flat

        Returns
        -------
        float32 [m, 8]; what the companion is worth; logarithms of how often it came after the item
        and before it, newer pairs counting more, and the newest alone; the cosine of both vectors;
        logarithms of both items' events
        """
        found = np.empty((len(at), PAIR_FEATURES), np.float32)
        for begin in range(0, len(at), _PAIRS_AT_ONCE):
            part = slice(begin, begin + _PAIRS_AT_ONCE)
            item = at[part] // self.companions.rows.shape[1]
            other = self.companions.rows.ravel()[at[part]]
            found[part, 0] = self.companions.worth.ravel()[at[part]]
            for column, times_after in ((1, self._forward), (3, self._newest)):
                for back, (one, two) in enumerate(((item, other), (other, item))):
                    times = np.asarray(times_after[one, two]).ravel()
                    found[part, column + back] = np.log1p(times / PAIR_UNIT)
            product = np.einsum("md,md->m", self._table[item], self._table[other])
            found[part, 5] = product / (self._lengths[item] * self._lengths[other])
            found[part, 6] = self.item_features[item, 0]
            found[part, 7] = self.item_features[other, 0]
        return found
