"""Quiet for a test that measures time, while others run in processes beside it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_HALL = "TESTS_HALL"


class Hall:
    """A room for many, or for one alone: locks on two files that all processes of a run share.

    Who wants it alone waits at the door for those inside, and holds the door against new ones
    meanwhile. The kernel lets go of both locks when a process ends, however it ends.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._mine = False

    def open(self) -> None:
        """Make the locks, or take those of the process that started this one."""
        self._mine = _HALL not in os.environ
        if self._mine:
            os.environ[_HALL] = tempfile.mkdtemp(prefix="freshet-tests-")
        self._folder = Path(os.environ[_HALL])

    def close(self) -> None:
        """Remove the locks that `open` made."""
        if self._mine and self._folder is not None:
            del os.environ[_HALL]
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def among_others(self) -> Iterator[None]:
        with self._inside(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._inside(fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def _inside(self, how: int) -> Iterator[None]:
        assert self._folder is not None, "the hall is not open"
        with (self._folder / "room").open("w") as room:
            with (self._folder / "door").open("w") as door:
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(room, how)
            yield
