"""Arrays that stay on the device and are changed in place. In: host arrays. Out: their twins.

Must not know: graphs, bundles, which array it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Resident:
    """A host array and its twin on the device; on a CPU the two are the same memory.

    Parameters
    ----------
    axis : along which it has rows: 0, or 1 for a matrix on its side

    Attributes
    ----------
    host : written by `write` and `replace` alone
    device_value : what a graph is bound to; another one after `replace`
    """

    def __init__(self, values: Array, device: str, axis: int = 0) -> None:
        self._device, self._axis = device, axis
        self.replace(values)

    @property
    def rows(self) -> int:
        rows: int = self.host.shape[self._axis]
        return rows

    @property
    def values(self) -> Array:
        """A read-only view of what graphs see now."""
        view = self.host.view()
        view.flags.writeable = False
        return view

    def replace(self, values: Array) -> None:
        """Put other values in its place, of any shape."""
        self.host = np.ascontiguousarray(values)
        self.device_value = ort.OrtValue.ortvalue_from_numpy(self.host, self._device, 0)

    def write(self, rows: Int64, values: Array) -> None:
        """Change some rows (int64, shape (m,)) in place. `values` has them along its first axis."""
        if self._axis:
            self.host[:, rows] = values.T
        else:
            self.host[rows] = values
        if self._device != "cpu":
            self.device_value.update_inplace(self.host)

    def grow(self, rows: int, fill: float) -> None:
        """Append rows of `fill` up to `rows` of them."""
        shape = list(self.host.shape)
        shape[self._axis] = rows - self.rows
        added = np.full(shape, fill, self.host.dtype)
        self.replace(np.concatenate([self.host, added], axis=self._axis))


class ResidentBias:
    """One bias a row, resident beside the item table. Made by `Model.new_bias`."""

    def __init__(self, resident: Resident) -> None:
        self.resident = resident

    @property
    def values(self) -> Float32:
        """float32, shape (rows,). A read-only view of what is scored with now."""
        return self.resident.values

    def set(self, rows: Int64, values: Float32 | float) -> None:
        """Change the biases of `rows` (int64, shape (m,)) in place; `NEVER_LISTED` bars an item."""
        self.resident.write(rows, np.asarray(values, np.float32))
