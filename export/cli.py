"""`freshet-export`. In: the command line. Out: an exit code.

This is what a process imports first, so it imports next to nothing itself: Ctrl-C ends the command
in silence while NumPy, ONNX Runtime and the rest are imported. The commands are in `commands.py`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stream.cli import EXIT_INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : without the program's name; None takes the process's own
    """
    with _ends_at_once():
        from export.commands import run
    return run(arguments)


@contextmanager
def _ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process here and now: for imports, which have nothing to end.

    A KeyboardInterrupt would be raised anywhere inside of a library that is being imported. A
    process that was told to ignore Ctrl-C, such as a shell's background job, goes on to.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(EXIT_INTERRUPTED))
    except ValueError:  # not the main thread: no signal comes there
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
