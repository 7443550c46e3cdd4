"""What a training keeps until it is done. In: the bundle's folder. Out: a folder beside it.

One training at a time has it: two would take each other's checkpoints for their own.

Must not know: what is kept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stream.errors import UsageError

LOCK: Final = "lock"


class Unfinished:
    """The folder `DIR.unfinished`."""

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(out.name + ".unfinished")

    def holds_anything(self) -> bool:
        """Whether a training could go on from what is there."""
        try:
            return any(file.name != LOCK for file in self.folder.iterdir())
        except OSError:
            return False

    def clear(self) -> None:
        """Remove what a training could go on from."""
        for file in self.folder.iterdir():
            if file.name != LOCK:
                with suppress(OSError):  # the bundle is there, whatever stays here
                    shutil.rmtree(file) if file.is_dir() else file.unlink()


@contextmanager
def unfinished(out: Path) -> Iterator[Unfinished]:
    """The folder of a training into `out`, for nobody else until the end of the block.

    The lock goes with the process, however that ends. A folder that holds nothing is removed.

    Raises
    ------
    UsageError
        Another training has it, or it cannot be made.
    """
    kept = Unfinished(out)
    if kept.folder.exists() and not kept.folder.is_dir():
        raise UsageError(
            f"{kept.folder}: is in the way of what is learned; move it, or give another --out"
        )
    try:
        lock = _locked(kept.folder / LOCK)
    except BlockingIOError:
        raise UsageError(
            f"{out}: another training writes there; wait for its end, or give another --out"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{kept.folder}: cannot be locked ({error.strerror}); give another --out"
        ) from None
    try:
        yield kept
    finally:
        if not kept.holds_anything():
            shutil.rmtree(kept.folder, ignore_errors=True)
        os.close(lock)


def _locked(file: Path) -> int:
    """A descriptor of the file that is there, made if need be, locked; BlockingIOError if it is."""
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # the folder has just been removed by its last owner
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), file.stat()):
                return lock
        except FileNotFoundError:
            pass
        except OSError:
            os.close(lock)
            raise
        os.close(lock)  # of a file that its last owner has removed since
