"""Vectors of shops: the direction of what they sell. In: changed rows. Out: vectors in the model.

A shop (an item of kind `shop`, with its id as the `shop` of its items) that the model was not
trained on, and whose record brings no vector, has the mean of its items' vectors, scaled to length
1: whoever is interested in many of them is interested in it. Knows nothing of users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.attributes import NO_CODE
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model


class Shops:
    """Keeps the vectors of shops up to date."""

    def __init__(self, model: Model, catalogue: Catalogue) -> None:
        self._model = model
        self._catalogue = catalogue
        self._codes = np.zeros(0, np.int32)  # of each row, when last looked at

    def follow(self, rows: NDArray[np.int64]) -> None:
        """Take note of changed catalogue rows (int64, shape (n,)), whose own vectors are there."""
        attributes = self._catalogue.attributes
        codes = attributes.codes("shop")[: len(self._catalogue)]
        if len(self._codes) < len(codes):
            self._codes = np.pad(self._codes, (0, len(codes) - len(self._codes)))
        texts = attributes.texts("shop")
        if not texts:
            return
        named = attributes.codes_of("shop", [self._catalogue.ids[row] for row in rows.tolist()])
        concerned = np.unique(np.concatenate([codes[rows], self._codes[rows], named]))
        self._codes[rows] = codes[rows]
        concerned = concerned[concerned > NO_CODE]
        shops = self._catalogue.rows([texts[code - 1] for code in concerned.tolist()])
        known = (shops != NO_ITEM) & self._catalogue.are(["shop"], shops)
        known &= ~attributes.brings_vector[shops] & ~self._catalogue.are_trained(shops)
        concerned, shops = concerned[known], shops[known]
        if len(shops):
            self._set(concerned, shops, codes)

    def _set(
        self, concerned: NDArray[np.int32], shops: NDArray[np.int64], codes: NDArray[np.int32]
    ) -> None:
        all_rows = np.arange(len(codes))
        sold = np.flatnonzero(np.isin(codes, concerned) & self._catalogue.available(all_rows))
        table, (at,) = self._model.embeddings_of(sold)
        sums = np.zeros((len(concerned), table.shape[1]))
        np.add.at(sums, np.searchsorted(concerned, codes[sold]), table[at])
        lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True))
        vectors = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        self._model.set_embeddings(shops, vectors.astype(np.float32))
