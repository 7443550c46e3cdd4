"""Loops as machine code, by Numba. In: a plain function and its types. Out: the same, compiled.

NumPy makes a pass over all rows for each operation, and each pass costs a microsecond to begin: a
step of two events took as many of them as one of two thousand. A compiled loop is entered once,
costs a nanosecond or so an event, and says what happens to one of them, top to bottom.

The types are stated, so that compiling happens at import and never while events wait. The result
is kept beside the module, or in the user's cache folder where that cannot be written. The cache
knows a module by its file alone: what a compiled function calls or names must stand in the same
file, and so must the value of a constant: one made from another module's goes in as an argument,
or stands as a literal. `NUMBA_DISABLE_JIT=1` runs all of them as Python, for a debugger.

What Numba keeps are pickles: whoever can write one decides what this process runs. Beside the
module that is who could change the module as well. Any other folder (NUMBA_CACHE_DIR, one below a
home that may be /tmp) must be this user's alone, or nothing is kept.

Knows nothing of what is computed.
"""

from __future__ import annotations

import logging
import os
import pickle
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.core.caching import FunctionCache

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

INT: Final[Any] = types.int64
FLOAT32: Final[Any] = types.float32
FLOAT64: Final[Any] = types.float64
BOOLEAN: Final[Any] = types.boolean
NOTHING: Final[Any] = types.void


def array(
    dtype: npt.DTypeLike, ndim: int = 1, *, written: bool = False, contiguous: bool = False
) -> Any:
    """The type of an array argument or result.

    Parameters
    ----------
    dtype : of NumPy, structured ones too; no alignment is assumed
    written : the function may change it; a read-only array is refused
    contiguous : in C order, without gaps; loops over the last axis are faster then
    """
    element = numba.from_dtype(np.dtype(dtype))
    layout = "C" if contiguous else "A"
    return types.Array(element, ndim, layout, readonly=not written, aligned=False)


def many(of: Any, count: int) -> Any:
    """The type of a tuple of `count` alike."""
    return types.UniTuple(of, count)


def compiled(result: Any, *arguments: Any) -> Callable[[F], F]:
    """Compile a function for these types alone; any others are a TypeError.

    Division is NumPy's: by zero it gives inf or nan. Sums keep their order, so that a number does
    not depend on the machine's vector width.
    """
    return _compile(result(*arguments))


def part_of_compiled(function: F) -> F:
    """A function that only compiled ones further down in the module call; its types are theirs."""
    return _compile()(function)


def sum_in_any_order(function: F) -> F:
    """`part_of_compiled` for a sum whose last bits do not matter: four times as fast or more."""
    return _compile(fastmath={"reassoc", "nsz", "contract"})(function)


def _compile(*signature: Any, **options: Any) -> Callable[[F], F]:
    def compile_(function: F) -> F:
        options["error_model"] = "numpy"
        try:
            # A part's code stands in the cache with the function that calls it.
            kept = bool(signature) and _kept_safely(function)
            made: F = numba.njit(*signature, cache=kept, **options)(function)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
                raise
            # No folder to write to, a full disk, a damaged file: compile at every start.
            made = numba.njit(*signature, **options)(function)
        return made

    return compile_


def _kept_safely(function: Callable[..., Any]) -> bool:
    """Whether nobody else can write where the compiled `function` is kept. Makes the folder."""
    beside = Path(function.__code__.co_filename).parent / "__pycache__"
    folder = Path(FunctionCache(function).cache_path)
    return folder == beside or _only_ours(folder)


@cache
def _only_ours(folder: Path) -> bool:
    """Whether this user and root alone can put files into `folder`, or another in its place."""
    if not hasattr(os, "geteuid"):
        return True  # Windows: a profile's folders are its user's
    ours = {os.geteuid(), 0}
    real = folder.resolve()
    for path in (real, *real.parents):
        found = path.stat()
        others = found.st_mode & stat.S_IWOTH or (
            found.st_mode & stat.S_IWGRP and found.st_gid not in (os.getegid(), 0)
        )
        # In a sticky folder above, like /tmp, what is ours cannot be replaced.
        replaceable = others and not (found.st_mode & stat.S_ISVTX and path != real)
        if found.st_uid not in ours or replaceable:
            log.warning(
                "compiled loops are not kept, so starts take seconds longer: other users can write "
                "to %s, and what is kept there is run. Set NUMBA_CACHE_DIR to a folder of your own",
                path,
            )
            return False
    return True
