"""The consumer group's own consumer: polls of a member with and without partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState

from stream.kafka.group import poll_once


class Cluster:
    def __init__(self, known: set[str]) -> None:
        self.known = known

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1} if topic in self.known else None


class Group:
    """A member, as far as a poll looks at it; without partitions. Its topics: "a" and "b"."""

    def __init__(self, known: set[str], error: Exception | None = None, has: int = 0) -> None:
        self.updates = 0
        self.polls = 0
        self._assigned = {("a", number) for number in range(has)}
        self.cluster = Cluster(known)
        self._client = self._coordinator = self
        self._error = error
        self._subscription = SubscriptionState()
        self._subscription._last_fetch_ended = time.monotonic() - 100

    def assignment(self) -> set[Any]:
        return self._assigned

    async def getmany(self, *, timeout_ms: int) -> dict[Any, Any]:
        assert timeout_ms == 0
        self.polls += 1
        self.check_errors()
        return {}

    def subscription(self) -> frozenset[str]:
        return frozenset("ab")

    def check_errors(self) -> None:
        if self._error is not None:
            raise self._error

    def force_metadata_update(self) -> asyncio.Future[bool]:
        self.updates += 1
        return asyncio.get_running_loop().create_future()  # the broker does not answer

    @property
    def idle_s(self) -> float:
        return float(self._subscription.fetcher_idle_time)


async def member_is_not_idle() -> None:
    group = Group({"a", "b"})
    assert group.idle_s > 99
    await poll_once(group)
    assert group.idle_s < 10


async def missing_topics_are_looked_for() -> None:
    group = Group({"a"})
    await poll_once(group)
    await poll_once(group)
    assert group.updates == 2
    group.cluster.known.add("b")
    await poll_once(group)
    assert group.updates == 2


async def errors_are_raised() -> None:
    for has in (0, 1):
        with pytest.raises(OSError, match="no right"):
            await poll_once(Group({"a", "b"}, OSError("no right"), has))


async def member_with_partitions_is_polled() -> None:
    group = Group({"a"}, has=2)
    await poll_once(group)
    assert (group.polls, group.updates) == (1, 1)


@pytest.mark.parametrize(
    "what",
    [
        member_is_not_idle,
        missing_topics_are_looked_for,
        errors_are_raised,
        member_with_partitions_is_polled,
    ],
)
def test_a_poll(what: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(what(), 5))
