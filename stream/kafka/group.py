"""The consumer group's own consumer: member, never reader. In: Faust's thread. Out: polls, errors.

It never fetches here, so nothing else polls it: without a poll the broker would take the member for
dead after max.poll.interval. Knows nothing of batches and states.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import TopicPartition
from faust.transport.drivers import aiokafka as driver

from stream.errors import BrokerError
from stream.kafka.liveness import POLLING, Undertakings


class GroupListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Pauses every partition of the group's consumer, so that it never fetches.

    Upstream: faust.transport.drivers.aiokafka.ConsumerRebalanceListener.
    """

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._thread._ensure_consumer().pause(*assigned)
        await super().on_partitions_assigned(assigned)


class GroupPoll:
    """Polls the group's consumer in its thread; everything is paused, so nothing comes."""

    def __init__(self, fatal: Callable[[BaseException], Any], undertakings: Undertakings) -> None:
        self._fatal = fatal
        self._undertakings = undertakings
        self._under_way: Any = None

    def poll(self, thread: Any, rebalancing: bool) -> None:
        """Begin a poll, unless one is under way; it waits for the end of a rebalance.

        A fatal error of the group (a session timeout below the broker's minimum, no permission) is
        raised here; upstream keeps it until somebody polls.
        """
        if self._under_way is not None:
            if not self._under_way.done():
                if rebalancing:  # which is watched itself, and may take longer
                    self._undertakings.end(POLLING)
                elif POLLING not in self._undertakings:
                    self._undertakings.begin(POLLING)
                return
            self._undertakings.end(POLLING)
            error = self._under_way.exception()
            if error is not None and not getattr(error, "retriable", False):
                self._fatal(BrokerError(f"the consumer group cannot go on: {error!r}"))
        group = thread._consumer
        if group is not None:
            if not rebalancing:
                self._undertakings.begin(POLLING)
            self._under_way = asyncio.run_coroutine_threadsafe(poll_once(group), thread.thread_loop)


async def poll_once(group: Any) -> None:
    """Be seen to work, raise what went wrong in the group, and look for topics that are missing.

    A member without partitions has nothing to get and is idle all the same: it would leave the
    group after max.poll.interval, and not come back. A leader whose metadata lack a topic, which
    a broker that has just started may not know yet, gives it to nobody; it would look again after
    metadata.max.age. aiokafka asks for a new assignment when the topics are found. Nobody waits for
    them here: a broker out of reach takes longer to answer than this thread may.
    """
    if group.assignment():
        await group.getmany(timeout_ms=0)
    else:
        with group._subscription.fetch_context():
            group._coordinator.check_errors()
    cluster = group._client.cluster
    if not all(cluster.partitions_for_topic(topic) for topic in group.subscription()):
        group._client.force_metadata_update()  # a future, done when the brokers answered
