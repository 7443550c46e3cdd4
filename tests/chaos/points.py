"""`freshet worker` that dies, or falls asleep, at a point of its work that is the worst for it.

    CHAOS_POINT=fence python -m tests.chaos.points worker --config ...

CHAOS_SIGNAL is what it sends itself there (SIGKILL; SIGSTOP makes a sleeper), CHAOS_AFTER how often
it passes the point unharmed before. The engine knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection

from stream.cli import main
from stream.feed import CatalogueFeed
from stream.kafka.replay import Replay
from stream.kafka.table import InterestTable
from stream.kafka.takeover import Takeover

PRODUCE = 0  # key of the request


class Point:
    """Where it happens, once."""

    def __init__(self) -> None:
        self._signal = signal.Signals[os.environ.get("CHAOS_SIGNAL", "SIGKILL")]
        named = "CHAOS_POINT" in os.environ
        self._left = int(os.environ.get("CHAOS_AFTER", "0")) if named else sys.maxsize

    def passed(self) -> None:
        """Come to the point; the last time is fatal."""
        self._left -= 1
        if self._left == -1:
            print(f"chaos: {self._signal.name} at {os.environ['CHAOS_POINT']}", flush=True)
            os.kill(os.getpid(), self._signal)


def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Put `make(original)` in the place of a method or function."""
    setattr(owner, name, make(getattr(owner, name)))


def _before(point: Point) -> Callable[[Any], Any]:
    """Come to the point, then await what was asked for."""

    def make(original: Any) -> Any:
        async def replaced(*arguments: Any, **options: Any) -> Any:
            point.passed()
            return await original(*arguments, **options)

        return replaced

    return make


def _after(point: Point) -> Callable[[Any], Any]:
    """Do what was asked for, then come to the point."""

    def make(original: Any) -> Any:
        def replaced(*arguments: Any) -> Any:
            answer = original(*arguments)
            point.passed()
            return answer

        return replaced

    return make


def turn(point: Point) -> None:
    """A batch is folded, and nothing of it was sent."""
    replace(InterestTable, "send", _before(point))


def sent(point: Point) -> None:
    """A batch's changelog request was written to the socket, and is not answered."""
    serves = False

    def table(original: Any) -> Any:
        async def send(*arguments: Any) -> Any:
            nonlocal serves
            serves = True
            return await original(*arguments)

        return send

    def connection(original: Any) -> Any:
        def send(self: Any, request: Any, expect_response: bool = True) -> Any:
            answer = original(self, request, expect_response)
            if serves and request.API_KEY == PRODUCE:
                point.passed()
            return answer

        return send

    replace(InterestTable, "send", table)
    replace(AIOKafkaConnection, "send", connection)


def acknowledged(point: Point) -> None:
    """A batch's states and lists are acknowledged, and its offset is not committed."""
    replace(InterestTable, "settle", _after(point))


def replay(point: Point) -> None:
    """A part of the changelog is read into the states."""
    replace(Replay, "_load", _after(point))


def claim(point: Point) -> None:
    """The changelog is replayed, and its fence is not written."""
    replace(Takeover, "_write_claims", _before(point))


def fence(point: Point) -> None:
    """The fence is written and acknowledged, and not read back."""

    def make(original: Any) -> Any:
        async def write(*arguments: Any) -> Any:
            written = await original(*arguments)
            point.passed()
            return written

        return write

    replace(Takeover, "_write_claims", make)


def rebalance(point: Point) -> None:
    """A rebalance took partitions that were served, and they are not given up yet."""

    def make(original: Any) -> Any:
        async def on_rebalance(self: InterestTable, *arguments: Any, **options: Any) -> None:
            if self.holdings:
                point.passed()
            await original(self, *arguments, **options)

        return on_rebalance

    replace(InterestTable, "on_rebalance", make)


def catalogue(point: Point) -> None:
    """A part of the catalogue is read, before the worker serves."""
    replace(CatalogueFeed, "_put", _after(point))


POINTS: dict[str, Callable[[Point], None]] = {
    made.__name__: made
    for made in (turn, sent, acknowledged, replay, claim, fence, rebalance, catalogue)
}

if __name__ == "__main__":
    POINTS[os.environ["CHAOS_POINT"]](Point())
    sys.exit(main())
