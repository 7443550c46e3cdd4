"""The `freshet` command. In: arguments. Out: text for people, JSON for programs, an exit code.

A file a command; `commands.py` finds it. This one is what a process imports first, so it imports
next to nothing itself: Ctrl-C ends a command in silence from the first moment on. Holds no logic
of a command.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence

EXIT_INTERRUPTED = 130  # `stream.errors` has it too, and takes its time
END_WITHIN_S = 5

COMMANDS = {
    "demo": "Broker, worker and real shoppers on this machine; Ctrl-C ends all.",
    "broker": "Run the embedded broker in the foreground.",
    "topics": "Create or check the topics.",
    "worker": "Run the engine.",
    "send": "Send one event by hand.",
    "watch": "Print lists as they arrive.",
    "ask": "Ask for one answer by hand.",
    "replay": "Produce a log of events to the topics.",
    "forget": "Forget a user, and wait until it is done.",
    "simulate": "Shoppers who react to their lists.",
    "gateway": "Lists, events and erasures over HTTP.",
    "bundle": "Show or check a model bundle.",
    "doctor": "Look for what is wrong with the set-up.",
    "completion": "Print a shell's completion of all this.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    arguments : without the program's name; None takes the process's own
    """
    _end_on_interrupt()
    from stream.cli.commands import run

    return run(arguments)


@contextlib.contextmanager
def ends_at_once() -> Iterator[None]:
    """SIGINT and SIGTERM end the process here and now: for imports, which have nothing to end.

    A KeyboardInterrupt would be raised anywhere inside of a library that is being imported.
    """
    _end_on_interrupt()
    try:
        yield
    finally:
        raise_on_interrupt()


def raise_on_interrupt() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt once, also in a shell's background job.

    What a command does to end in order has `END_WITHIN_S`; then the process ends all the same.
    """
    _on_signal(_interrupt)


def _end_on_interrupt() -> None:
    _on_signal(lambda number, frame: os._exit(EXIT_INTERRUPTED))


def call_on_interrupt(stop: Callable[[], object]) -> None:
    """Make SIGINT and SIGTERM call `stop` once, for what ends in order by itself, and in time."""

    def call(number: int, frame: object) -> None:
        _end_in_time()
        stop()

    _on_signal(call)


def _interrupt(number: int, frame: object) -> None:
    _end_in_time()
    raise KeyboardInterrupt


def _end_in_time() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(EXIT_INTERRUPTED))
    signal.alarm(END_WITHIN_S)


def _on_signal(handler: Callable[[int, object], None]) -> None:
    with contextlib.suppress(ValueError):  # only the main thread may set handlers, or get signals
        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)
