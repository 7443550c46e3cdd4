"""Item vectors with fewer bits. In: float32 vectors. Out: the same packed, and unpacked again.

    float32   as they are
    float16   rounded
    int8      rint(v / scale), scale = max|v| / 127, one a row

Every row is packed by itself, so that one that comes later is what it would have been at first.
Must not know: bundles, graphs, devices.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Storage = Literal["float32", "float16", "int8"]
Values = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

_INT8_MAX: Final = np.float32(127.0)
_FLOAT16_MAX: Final = np.float32(np.finfo(np.float16).max)
_TINY: Final = np.float32(np.finfo(np.float32).tiny)


class Packed(NamedTuple):
    """Item vectors as they are stored.

    Attributes
    ----------
    values : float32, float16 or int8, shape (n, D)
    scales : float32, shape (n,), of int8: a vector is its values times its scale; else None
    """

    values: Values
    scales: Float32 | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def unpacked(self) -> Float32:
        """float32, shape (n, D); the values themselves where they are float32."""
        vectors: Float32 = self.values.astype(np.float32, copy=False)
        return vectors if self.scales is None else vectors * self.scales[:, None]


def pack(vectors: Float32, storage: Storage) -> Packed:
    """Of finite vectors, float32, shape (n, D). What float16 cannot hold becomes its largest."""
    if storage == "float32":
        return Packed(vectors)
    if storage == "float16":
        return Packed(np.clip(vectors, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16))
    scales = np.abs(vectors).max(axis=1, initial=0.0) / _INT8_MAX
    scales = np.where(scales < _TINY, np.float32(0), scales)  # there a quotient may exceed 127
    divisors = np.where(scales > 0, scales, np.float32(1))
    return Packed(np.rint(vectors / divisors[:, None]).astype(np.int8), scales)
