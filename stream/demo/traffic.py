"""Simulated shoppers, on and off: `freshet simulate` as a child process. In: flags. Out: events."""

from __future__ import annotations

import threading
import time

from stream.demo.child import Child

SHOPPERS = 60
EVENTS_PER_S = 50


class SimulatedShoppers:
    """The page's `Traffic`; none at first, and none once it is closed.

    Parameters
    ----------
    flags : of `freshet simulate`, that lead it to the broker
    """

    def __init__(self, flags: list[str]) -> None:
        self._flags = [*flags, "--users", str(SHOPPERS), "--rate", str(EVENTS_PER_S)]
        self._child: Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def running(self) -> bool:
        child = self._child
        return child is not None and child.running

    def start(self) -> None:
        """Let shoppers in, other ones each time."""
        with self._lock:
            if self._closed or self.running:
                return
            self._end()
            seed = str(int(time.time()))
            self._child = Child(["simulate", *self._flags, "--seed", seed], {}).__enter__()

    def stop(self) -> None:
        """Send them home; takes a second or two."""
        with self._lock:
            self._end()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.__exit__(None, None, None)
