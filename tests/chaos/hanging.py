"""`freshet worker` with something in it that never ends: HANG says what. For the watchdog's tests.

Each hang begins with the worker, or once the file that HANG_WHEN names is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream.cli import main
from stream.core.engine import Engine
from stream.kafka import group
from stream.kafka.follower import TopicFollower
from stream.kafka.takeover import Takeover
from stream.kafka.transport import BatchApp
from stream.kafka.writer import Writer

FOREVER_S = 1e6


def now() -> bool:
    named = os.environ.get("HANG_WHEN")
    return named is None or Path(named).exists()


def blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, or its thread blocked for ever."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if now():
            time.sleep(FOREVER_S)
        return method(*args, **kwargs)

    return run


def waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, a coroutine, or one that waits for ever while the event loop goes on."""

    async def run(*args: Any, **kwargs: Any) -> Any:
        if now():
            await asyncio.sleep(FOREVER_S)
        return await method(*args, **kwargs)

    return run


def unanswered(send: Callable[..., Any]) -> Callable[..., Any]:
    """`Writer.send` whose outputs reach the broker, and whose answers do not come back."""

    async def run(self: Any, batch: Any, topic: str, *args: Any) -> Any:
        answer = await send(self, batch, topic, *args)
        return asyncio.get_running_loop().create_future() if now() else answer

    return run


async def block_thread(member: Any) -> None:
    """In place of a poll: the group's thread is blocked, with its heartbeats."""
    if now():
        time.sleep(FOREVER_S)


async def end_thread(member: Any) -> None:
    """In place of a poll: the group's thread ends, as by an error that nobody caught."""
    if now():
        asyncio.get_running_loop().stop()


def hang(what: str) -> None:
    match what:
        case "model":
            Engine.step = blocking(Engine.step)
        case "answers":
            Writer.send = unanswered(Writer.send)
        case "takeover":
            Takeover._fence = waiting(Takeover._fence)
        case "catalogue":
            TopicFollower._begin = waiting(TopicFollower._begin)
        case "group":
            group.poll_once = block_thread
        case "group-thread":
            group.poll_once = end_thread
        case "assignment":
            BatchApp._on_partitions_assigned = waiting(BatchApp._on_partitions_assigned)
        case "join":
            from aiokafka.consumer.group_coordinator import GroupCoordinator

            GroupCoordinator.ensure_active_group = waiting(GroupCoordinator.ensure_active_group)
        case "topics":
            import stream.app

            stream.app.require_topics = blocking(stream.app.require_topics)


if __name__ == "__main__":
    hang(os.environ["HANG"])
    sys.exit(main())
