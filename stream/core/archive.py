"""NumPy archives (`.npz`) of unknown origin. In: bytes. Out: arrays, read-only.

Sizes are looked at before any memory is taken: a kilobyte of zip can claim a terabyte. Objects,
which would be unpickled, are refused. Must not know: what the arrays mean.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.errors import BundleError

MAX_ARRAYS: Final = 16
MAX_RATIO: Final = 300  # zeros deflate by 1000; arrays of a model by 1 to 30, ids by 100 at worst
_UNTAKEN: Final = 1 << 20  # bytes that nobody minds


def read_arrays(
    file: Path, content: bytes, max_bytes: int, cure: str
) -> dict[str, npt.NDArray[Any]]:
    """Every array of an archive, by name.

    Parameters
    ----------
    max_bytes : of all arrays together, unpacked

    Raises
    ------
    BundleError : not such an archive, or larger; the message ends with `cure`
    """
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(io.BytesIO(content)) as archive:
            warnings.simplefilter("error")  # NumPy's, of headers written by Python 2
            # Filters are the process's: garbage collected in here may be others' open sockets.
            warnings.simplefilter("ignore", ResourceWarning)
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            size = sum(member.file_size for member in members)
            if len(set(names)) != len(names) or len(names) > MAX_ARRAYS:
                raise ValueError("too many arrays, or one twice")
            if size > max(max_bytes, _UNTAKEN) or size > max(MAX_RATIO * len(content), _UNTAKEN):
                raise ValueError(f"{size} bytes unpacked are too many")
            return {
                name: _array(archive.read(member))
                for name, member in zip(names, members, strict=True)
            }
    except Exception as error:  # of zipfile, zlib and NumPy's header reader: a dozen kinds
        shown = ascii(str(error)[:100])[1:-1] or type(error).__name__
        raise BundleError(f"{file}: not a plain NumPy archive ({shown}); {cure}") from None


def _array(raw: bytes) -> npt.NDArray[Any]:
    """One `.npy` file as an array on its very bytes."""
    head = io.BytesIO(raw)
    version = np.lib.format.read_magic(head)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(head)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(head)
    else:
        raise ValueError(f"format {version}")
    if dtype.hasobject:
        raise ValueError("holds objects")
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != len(raw) - head.tell():
        raise ValueError("an array of another size than its header says")
    values = np.frombuffer(raw, dtype, offset=head.tell())
    return values.reshape(shape, order="F" if fortran else "C")
