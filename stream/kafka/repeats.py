"""Repeated complaints of a library, told now and then. In: log records. Out: fewer of them."""

from __future__ import annotations

import logging
import time

EVERY_S = 10.0


class Repeats(logging.Filter):
    """Lets the same message of a logger through once in `EVERY_S`, with a count of those held back.

    The same are those of one format string: without a broker aiokafka complains of each of its
    partitions ten times a second. What is less severe than a warning passes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[tuple[str, str], int] = {}
        self._next_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Upstream: logging.Filter.filter."""
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, str(record.msg))
        now_s = time.monotonic()
        if now_s < self._next_s.get(kind, 0.0):
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._next_s[kind] = now_s + EVERY_S
        if held := self._held.pop(kind, 0):
            record.msg = f"{record.getMessage()} ({held} more like it held back)"
            record.args = ()
        return True


def hold_back_repeats(library: str) -> None:
    """Filter every logger of `library`: those of its modules, which must have been imported.

    A filter on the library's own logger would not see what comes from the loggers below it.
    """
    repeats = Repeats()
    for name in list(logging.root.manager.loggerDict):
        if name == library or name.startswith(f"{library}."):
            logger = logging.getLogger(name)
            if not any(isinstance(known, Repeats) for known in logger.filters):
                logger.addFilter(repeats)
