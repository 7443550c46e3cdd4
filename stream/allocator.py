"""What the C library does with freed memory: keeps it, or overwrites it. In and out: this process.

Freed memory stays as it was (a fetched record batch, a list) until it is used again, ids of
forgotten users included. glibc fills memory at `free` when told to (M_PERTURB); its cache of small
blocks per thread and Python's own allocator of small objects, which do not, are left out. All three
are settled when a process starts, so the worker starts itself again in its own place.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import Final

import numpy as np

from stream.errors import SettingsError

# man 3 mallopt, M_PERTURB; https://docs.python.org/3/c-api/memory.html, PYTHONMALLOC
_TUNABLES: Final = "glibc.malloc.perturb=90:glibc.malloc.tcache_count=0"
# Just under DEFAULT_MMAP_THRESHOLD_MAX, the most that the threshold grows to.
_LARGEST_KEPT_BYTES: Final = (32 << 20) - (64 << 10)
OVERWRITING: Final = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": _TUNABLES}


def keep_freed() -> None:
    """Have arrays of a micro-batch come out of memory that is there already.

    glibc gives blocks of its threshold's size back to the kernel, page by page taken anew: that
    doubled the time to gather and encode two thousand users. The threshold grows to the size of a
    large block that is freed, up to 32 MiB, so one is. Elsewhere this does nothing.
    """
    np.empty(_LARGEST_KEPT_BYTES, np.uint8)


def start_overwriting(environ: Mapping[str, str]) -> None:
    """Start this process again, by the same pid, so that it fills what it frees; unless it does.

    Parameters
    ----------
    environ : this process's

    Raises
    ------
    SettingsError : the C library is another than glibc
    """
    if all(environ.get(name) == value for name, value in OVERWRITING.items()):
        return
    if platform.libc_ver()[0] != "glibc":
        raise SettingsError(
            "privacy.overwrite_memory (FRESHET_PRIVACY_OVERWRITE_MEMORY) needs glibc, whose "
            "allocator fills what it frees; leave it out on this system"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**environ, **OVERWRITING})
