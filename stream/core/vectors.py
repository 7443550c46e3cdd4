"""A user's state vector as it is stored: float32, or int8 with a scale.

In: the vectors that a model made. Out: the same as stored, and as they will be read again. Knows
nothing of models, shards or Kafka.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.core.wire import HEADER

_INT8_MAX: Final = np.float32(127.0)
_TINY: Final = np.float32(np.finfo(np.float32).tiny)


@compiled(
    INT,
    array("i8"),
    array("f4", 2),
    array("i1", 2, written=True),
    array(HEADER, written=True),
    array("f4", 2, written=True),
)
def store_as_int8(
    who: NDArray[np.int64],
    vectors: NDArray[np.float32],
    stored: NDArray[np.int8],
    headers: np.ndarray,
    kept: NDArray[np.float32],
) -> int:
    """Keep a state vector x of some users as rint(x / scale), scale = max|x| / 127, one a user.

    Parameters
    ----------
    who : int64, shape (m,), distinct; the users' numbers among the n of the other arrays
    vectors : float32, shape (m, state_size)
    stored : int8, shape (n, state_size); changed in place, as are `headers` and `kept`
    headers : `HEADER`, shape (n,); `scale` is changed, to 0 where it would be too small
    kept : float32, shape (n, state_size); the vectors as they are stored, rounded

    Returns
    -------
    how many were not finite; they change nothing
    """
    refused = 0
    for number in range(len(who)):
        largest = np.float32(0.0)
        finite = True
        for value in vectors[number]:
            finite = finite and np.isfinite(value)
            largest = max(largest, abs(value))
        if not finite:
            refused += 1
            continue
        user = who[number]
        scale = largest / _INT8_MAX
        if scale < _TINY:  # there a quotient may exceed 127
            scale = np.float32(0.0)
        divisor = scale if scale > 0 else np.float32(1.0)
        for column in range(vectors.shape[1]):
            rounded = np.int8(np.rint(vectors[number, column] / divisor))
            stored[user, column] = rounded
            kept[user, column] = np.float32(rounded) * scale
        headers[user]["scale"] = scale
    return refused


@compiled(
    INT, array("i8"), array("f4", 2), array("f4", 2, written=True), array("f4", 2, written=True)
)
def store_as_float32(
    who: NDArray[np.int64],
    vectors: NDArray[np.float32],
    stored: NDArray[np.float32],
    kept: NDArray[np.float32],
) -> int:
    """`store_as_int8` for states that are stored as they are."""
    refused = 0
    for number in range(len(who)):
        finite = True
        for value in vectors[number]:
            finite = finite and np.isfinite(value)
        if not finite:
            refused += 1
            continue
        user = who[number]
        for column in range(vectors.shape[1]):
            stored[user, column] = kept[user, column] = vectors[number, column]
    return refused


@compiled(NOTHING, array("i1", 2), array(HEADER), array("f4", 2, written=True))
def read_int8(stored: NDArray[np.int8], headers: np.ndarray, vectors: NDArray[np.float32]) -> None:
    """What `store_as_int8` kept, into `vectors`: float32, shape (n, state_size)."""
    for user in range(len(stored)):
        scale = headers[user]["scale"]
        for column in range(stored.shape[1]):
            vectors[user, column] = np.float32(stored[user, column]) * scale
