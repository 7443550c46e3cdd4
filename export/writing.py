"""Folders that a command writes to. In: a path. Out: whether it can, or what to do.

Must not know: what is written.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stream.errors import UsageError


def check_writable(folder: Path) -> None:
    """See whether files can be made in a folder. What is not there yet is not there afterwards.

    Raises
    ------
    UsageError
        They cannot.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".freshet-"):
            pass
        for place in missing:
            place.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(folder: Path, error: OSError) -> UsageError:
    """Why a folder cannot be made or written, and what to do."""
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.exists():
        why = f"{there} is a link to nothing"
    elif not there.is_dir():
        why = f"{there} is a file"
    else:
        why = f"nothing can be made in {there} ({error.strerror})"
    return UsageError(f"{folder}: cannot be written, since {why}; give another folder")
