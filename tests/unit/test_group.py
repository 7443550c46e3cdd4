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
    """A member without partitions, as far as a poll looks at it. Its topics: "a" and "b"."""

    def __init__(self, known: set[str], error: Exception | None = None) -> None:
        self.updates = 0
        self.cluster = Cluster(known)
        self._client = self._coordinator = self
        self._error = error
        self._subscription = SubscriptionState()
        self._subscription._last_fetch_ended = time.monotonic() - 100

    def assignment(self) -> set[Any]:
        return set()

    def subscription(self) -> frozenset[str]:
        return frozenset("ab")

    def check_errors(self) -> None:
        if self._error is not None:
            raise self._error

    async def force_metadata_update(self) -> None:
        self.updates += 1

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
    with pytest.raises(OSError, match="no right"):
        await poll_once(Group({"a", "b"}, OSError("no right")))


@pytest.mark.parametrize(
    "what", [member_is_not_idle, missing_topics_are_looked_for, errors_are_raised]
)
def test_a_poll_of_a_member_without_partitions(
    what: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    asyncio.run(what())
