"""The resident item table. In: packed item vectors. Out: what graphs are bound to.

    storage   CPU                                  CUDA
    float32   float32 [N, D]                       the same
    float16   float32 [N, D], rounded              float16 [N, D]
    int8      int8 [N, D] and [D, N], and scales   the same

A CPU computes in float32 and would unpack float16 at every use. int8 is there twice: on its side,
as ONNX Runtime's product of integers wants it, else it would be turned for every batch; and row by
row, since a gathered vector would be a cache miss a number on its side (45 ns each, measured).

Must not know: bundles, graphs, users.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core.packing import Float32, Int64, Packed, Storage, pack
from stream.core.resident import Resident


class ItemTable:
    """N item vectors on a device, changed in place.

    Parameters
    ----------
    items : the first rows
    storage : of these, and of those to come
    rows : N, at least as many; the others are zeros
    device : "cpu" or "cuda"
    """

    def __init__(self, items: Packed, storage: Storage, rows: int, device: str) -> None:
        self._storage = storage
        self._dense = storage == "float32" or (storage == "float16" and device == "cpu")
        values = items.unpacked() if self._dense else items.values
        table = np.zeros((rows, values.shape[1]), values.dtype)
        table[: len(values)] = values
        self._values = Resident(table, device)
        self._columns: Resident | None = None
        self._scales: Resident | None = None
        if items.scales is not None:
            self._columns = Resident(table.T, device, axis=1)
            self._scales = Resident(np.pad(items.scales, (0, rows - len(items.scales))), device)

    @property
    def rows(self) -> int:
        """N."""
        return self._values.rows

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return sum(array.host.nbytes for array in self._arrays())

    def _arrays(self) -> list[Resident]:
        further = (self._columns, self._scales)
        return [self._values, *(array for array in further if array is not None)]

    @property
    def for_update(self) -> dict[str, Any]:
        """What an update graph is bound to, by the names of its inputs."""
        values = {"item_table": self._values.device_value}
        if self._scales is not None:
            values["item_scale"] = self._scales.device_value
        return values

    @property
    def for_score(self) -> dict[str, Any]:
        """What a score graph is bound to, by the names of its inputs."""
        values = self.for_update
        if self._columns is not None:
            values["item_columns"] = self._columns.device_value
        return values

    def vectors(self) -> Float32:
        """float32, shape (N, D): a read-only view where the table is float32, else a copy."""
        return self._values.values if self._dense else self._some(slice(None))

    def gather(self, *rows: Int64) -> tuple[Float32, list[Int64]]:
        """Some vectors as float32, shape (m, D), and where in them each of `rows` is.

        All of them, without a copy, where the table is float32.
        """
        if self._dense:
            return self._values.values, list(rows)
        found, places = np.unique(np.concatenate([r.ravel() for r in rows]), return_inverse=True)
        cuts = np.cumsum([r.size for r in rows])[:-1]
        parts = zip(np.split(places, cuts), rows, strict=True)
        return self._some(found), [part.reshape(r.shape) for part, r in parts]

    def _some(self, rows: Int64 | slice) -> Float32:
        scales = None if self._scales is None else self._scales.host[rows]
        return Packed(self._values.host[rows], scales).unpacked()

    def write(self, rows: Int64, vectors: Float32) -> None:
        """Change some rows (int64, shape (m,)) in place, packed like the others."""
        items = pack(np.asarray(vectors, np.float32), self._storage)
        self._values.write(rows, items.values)
        if self._columns is not None:
            self._columns.write(rows, items.values)
        if self._scales is not None and items.scales is not None:
            self._scales.write(rows, items.scales)

    def grow(self, rows: int) -> None:
        """Append zeros up to `rows` rows."""
        for array in self._arrays():
            array.grow(rows, 0)
