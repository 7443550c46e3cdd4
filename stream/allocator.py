"""Freed memory, overwritten. In: a process. Out: the same one, started anew under an allocator that
fills what it frees.

Without it, what was freed (a fetched record batch, a list) stays as it was until it is used again,
ids of forgotten users included. glibc fills memory at `free` when told to (M_PERTURB); its cache of
small blocks per thread and Python's own allocator of small objects, which do not, are left out. All
three are settled when a process starts, so the worker starts itself again in its own place.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import Final

from stream.errors import SettingsError

# man 3 mallopt, M_PERTURB; https://docs.python.org/3/c-api/memory.html, PYTHONMALLOC
_TUNABLES: Final = "glibc.malloc.perturb=90:glibc.malloc.tcache_count=0"
OVERWRITING: Final = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": _TUNABLES}


def overwrites(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process fills what it frees."""
    return all(environ.get(name) == value for name, value in OVERWRITING.items())


def start_overwriting() -> None:
    """Start this process again, by the same pid, so that it fills what it frees; unless it does.

    Raises
    ------
    SettingsError : the C library is another than glibc
    """
    if overwrites():
        return
    if platform.libc_ver()[0] != "glibc":
        raise SettingsError(
            "privacy.overwrite_memory (FRESHET_PRIVACY_OVERWRITE_MEMORY) needs glibc, whose "
            "allocator fills what it frees; leave it out on this system"
        )
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **OVERWRITING})
