"""Columns of numbers that grow event by event, in memory or in files of a scratch folder.

In: numbers. Out: NumPy arrays in time order. A scratch file has no name once it is open: its space
comes back when the array goes, however the process ends. Knows nothing of what the numbers mean.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from stream.errors import UsageError

BLOCK: Final = 1 << 18  # rows that are in memory at a time where all of them might not fit

AnyColumn = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]


class Column:
    """Numbers appended one at a time.

    Parameters
    ----------
    dtype : of the array that `array` gives
    scratch : folder for a file; None keeps the numbers in memory
    """

    def __init__(self, dtype: type[np.generic], scratch: Path | None) -> None:
        self._dtype = np.dtype(dtype)
        self._waiting = array(self._dtype.char)
        self._file = None if scratch is None else scratch_file(scratch)
        self.append = self._waiting.append

    def flush(self) -> None:
        """Write what waits in memory to the scratch file; to be called every `BLOCK` numbers."""
        if self._file is not None and self._waiting:
            try:
                self._waiting.tofile(self._file)
            except OSError as error:
                raise _no_room(error) from None
            del self._waiting[:]

    def array(self) -> AnyColumn:
        """All numbers; nothing may be appended after that."""
        if self._file is None:
            return np.frombuffer(self._waiting, self._dtype)
        self.flush()
        self._file.flush()
        size = self._file.tell() // self._dtype.itemsize
        return _mapped(self._file, self._dtype, size)


def scratch_file(folder: Path) -> IO[bytes]:
    """A file without a name in `folder`, which is made if need be; UsageError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise UsageError(f"--scratch {folder}: {error.strerror}; name another folder") from None


def take(column: AnyColumn, at: Int64, scratch: Path | None) -> AnyColumn:
    """`column[at]`, in memory or in a scratch file."""
    if scratch is None:
        return column[at]
    return _written((column[at[some]] for some in blocks(len(at))), column.dtype, len(at), scratch)


def joined(columns: Sequence[AnyColumn], scratch: Path | None) -> AnyColumn:
    """Columns of one type, one after the other, in memory or in a scratch file."""
    if scratch is None:
        return np.concatenate(columns)
    parts = (column[some] for column in columns for some in blocks(len(column)))
    return _written(parts, columns[0].dtype, sum(map(len, columns)), scratch)


def _written(parts: Iterable[AnyColumn], dtype: np.dtype[Any], n: int, scratch: Path) -> AnyColumn:
    file = scratch_file(scratch)
    try:
        for part in parts:
            file.write(part.tobytes())
        file.flush()
    except OSError as error:
        raise _no_room(error) from None
    return _mapped(file, dtype, n)


def blocks(n: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` that cover 0..n."""
    edges = [*range(0, n, BLOCK), n]
    return (slice(first, last) for first, last in pairwise(edges))


def changes(order: Int64, *keys: AnyColumn) -> npt.NDArray[np.bool_]:
    """Where any of the keys differs from its value one before, in the order given.

    Returns
    -------
    bool, shape (n,); the first is True
    """
    return changes_where(order, lambda here, before: _differ(keys, here, before))


def changes_where(
    order: Int64, differ: Callable[[Int64, Int64], npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """`changes` with a rule of its own: `differ(here, before)` gets positions that follow."""
    starts = np.ones(len(order), np.bool_)
    for some in blocks(max(len(order) - 1, 0)):
        starts[1:][some] = differ(order[1:][some], order[:-1][some])
    return starts


def _differ(keys: tuple[AnyColumn, ...], here: Int64, before: Int64) -> npt.NDArray[np.bool_]:
    different = np.zeros(len(here), np.bool_)
    for key in keys:
        different |= key[here] != key[before]
    return different


def _mapped(file: IO[bytes], dtype: np.dtype[Any], n: int) -> AnyColumn:
    with file:  # the map stays when it is closed
        return np.asarray(np.memmap(file, dtype, "r+", shape=(n,))) if n else np.empty(0, dtype)


def _no_room(error: OSError) -> UsageError:
    return UsageError(f"--scratch: {error.strerror}; name a folder with more room")
