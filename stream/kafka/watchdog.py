"""Ends a process whose event loop stands still. In: beats of the loop. Out: exit code 70, and why.

A thread, since nothing on the loop can tell of a loop that is blocked: a model's run that never
returns, a log line into a pipe that nobody reads. Knows nothing of what the loop does.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Any

from stream.errors import EXIT_FATAL
from stream.kafka.liveness import Stillness

TELL_WITHIN_S = 5.0

log = logging.getLogger(__name__)


class LoopWatchdog(threading.Thread):
    """Looks each second, or ten times in `limit_s`, whether `beat` was called since.

    A loop in compiled code that keeps the interpreter's lock stops this thread, too; then the
    interpreter's own timer ends the process after twice `limit_s`, with exit code 1. So it does
    with one that was stopped (SIGSTOP) for as long, when it wakes.
    """

    def __init__(self, limit_s: float) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.every_s = min(1.0, limit_s / 10)
        self._limit_s = limit_s
        self._beats = 0

    def beat(self) -> None:
        """The loop is alive; to be called more often than the thread looks."""
        self._beats += 1

    def run(self) -> None:
        still = Stillness(most_s=2 * self.every_s)
        while still.seconds(waiting=True, seen=self._beats) <= self._limit_s:
            faulthandler.dump_traceback_later(
                2 * self._limit_s + TELL_WITHIN_S, exit=True, file=_errors()
            )
            time.sleep(self.every_s)
        end(f"the event loop stood still for {self._limit_s:g} s; its threads' frames follow")


def _errors() -> Any:
    """The real standard error; Faust puts one of its own in its place, which is no file."""
    return sys.__stderr__ or 2


def end(reason: str) -> None:
    """End the process with code 70, logging `reason` and the frames of every thread.

    Frames are files, lines and functions: no values, so no ids. Telling is left to another thread:
    what blocks the loop may be the log itself.
    """

    def tell() -> None:
        log.critical("fatal: %s", reason)
        logging.shutdown()
        faulthandler.dump_traceback(_errors(), all_threads=True)

    telling = threading.Thread(target=tell, name="last words", daemon=True)
    telling.start()
    telling.join(TELL_WITHIN_S)
    os._exit(EXIT_FATAL)
