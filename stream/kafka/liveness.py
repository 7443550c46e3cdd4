"""Whether work moves, and the group's poll. In: what is waiting, and a consumer. Out: seconds.

Faust's group thread never fetches here, so nothing else polls it: without a poll the broker would
take the member for dead after max.poll.interval. Knows nothing of batches and states.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from stream.errors import BrokerError


class Stillness:
    """How long work has waited without moving."""

    def __init__(self) -> None:
        self._seen: object = None
        self._moved_s = time.monotonic()

    def moved(self) -> None:
        """Count from now on."""
        self._moved_s = time.monotonic()

    def seconds(self, waiting: bool, seen: object) -> float:
        """Time since something moved: none while nothing waits, or when `seen` is another."""
        if not waiting or seen != self._seen:
            self._seen = seen
            self.moved()
        return time.monotonic() - self._moved_s


class GroupPoll:
    """Polls the group's consumer in its thread; everything is paused, so nothing comes."""

    def __init__(self, fatal: Callable[[BaseException], Any]) -> None:
        self._fatal = fatal
        self._under_way: Any = None

    def poll(self, thread: Any) -> None:
        """Begin a poll, unless one is under way.

        A fatal error of the group (a session timeout below the broker's minimum, no permission) is
        raised here; upstream keeps it until somebody polls.
        """
        if self._under_way is not None:
            if not self._under_way.done():
                return
            error = self._under_way.exception()
            if error is not None and not getattr(error, "retriable", False):
                self._fatal(BrokerError(f"the consumer group cannot go on: {error!r}"))
        group = thread._consumer
        if group is not None:
            self._under_way = asyncio.run_coroutine_threadsafe(_poll(group), thread.thread_loop)


async def _poll(group: Any) -> None:
    if group.assignment():
        await group.getmany(timeout_ms=0)
    else:
        group._coordinator.check_errors()
