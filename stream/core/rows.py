"""A matrix of bytes that grows without being copied.

In: a width. Out: rows that appear as zeros. Knows nothing of what a row means.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Final

import numpy as np

_FIRST_CAPACITY: Final = 1024
# Rows of fewer bytes take small pages: of a large one the rest is taken for nothing.
_LARGE_PAGES_FROM: Final = 1 << 24


class Rows:
    """Rows of bytes; capacity doubles, and memory is taken when a row is first written.

    Anonymous memory is moved by the kernel's page tables (mremap): growing a shard of a gigabyte
    takes microseconds, where a copy held events up for half a second. Where the system has no such
    call, or a view of the rows is alive, they are copied.

    Attributes
    ----------
    bytes : uint8, shape (capacity, width); a new array after `reserve`, so hold no view of it
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._memory = _anonymous(_FIRST_CAPACITY * width)
        self._take_hold()

    def __len__(self) -> int:
        return len(self.bytes)

    def _take_hold(self) -> None:
        """Ask for large pages where there is much: rows are read here and there."""
        if hasattr(mmap, "MADV_HUGEPAGE") and len(self._memory) >= _LARGE_PAGES_FROM:
            with contextlib.suppress(OSError):  # a kernel without them
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.bytes = np.frombuffer(self._memory, np.uint8).reshape(-1, self._width)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows."""
        capacity = len(self.bytes)
        if rows <= capacity:
            return
        used = capacity
        while capacity < rows:
            capacity *= 2
        del self.bytes
        try:
            self._memory.resize(capacity * self._width)
            self._take_hold()
        except (BufferError, OSError, SystemError, ValueError):
            old = np.frombuffer(self._memory, np.uint8).reshape(-1, self._width)
            self._memory = _anonymous(capacity * self._width)
            self._take_hold()
            self.bytes[:used] = old


def _anonymous(size: int) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE"):
        # The kernel moves private mappings alone.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)
