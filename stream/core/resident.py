"""Arrays that stay on the device and are changed in place. In: host arrays. Out: their twins.

Must not know: graphs, bundles, which array it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Resident:
    """A host array and its twin on the device; on a CPU the two are the same memory.

    Attributes
    ----------
    host : float32; written by `write` and `replace` alone
    device_value : what a graph is bound to; another one after `replace`
    """

    def __init__(self, values: Float32, device: str) -> None:
        self._device = device
        self.replace(values)

    @property
    def values(self) -> Float32:
        """A read-only view of what graphs see now."""
        view = self.host.view()
        view.flags.writeable = False
        return view

    def replace(self, values: Float32) -> None:
        """Put other values in its place, of any shape."""
        self.host = np.ascontiguousarray(values, np.float32)
        self.device_value = ort.OrtValue.ortvalue_from_numpy(self.host, self._device, 0)

    def write(self, rows: Int64, values: Float32) -> None:
        """Change some rows (int64, shape (m,)) in place."""
        self.host[rows] = values
        if self._device != "cpu":
            self.device_value.update_inplace(self.host)

    def grow(self, rows: int, fill: float) -> None:
        """Append rows of `fill` up to `rows` of them."""
        added = np.full((rows - len(self.host), *self.host.shape[1:]), fill, np.float32)
        self.replace(np.concatenate([self.host, added]))


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
