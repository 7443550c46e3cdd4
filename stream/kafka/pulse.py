"""Whether the brokers answer, with the topics. In: brokers, topics. Out: what is wrong, in words.

Asks on a connection of its own: a fetch or a send that waits at a broker does not delay the answer.
Knows nothing of Faust and of records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stream.kafka.cluster import Cluster
from stream.kafka.knock import find_refusal

ANSWER_WITHIN_S = 2.0
# A broker that has just started may not know every topic yet.
GONE_AFTER_LOOKS = 3


class BrokerPulse:
    """Asks for the metadata of topics, whichever broker answers.

    Parameters
    ----------
    topics : each of their partitions must have a leader
    partitions : of each topic

    Attributes
    ----------
    gone : a topic that was missing, or had another number of partitions, at several looks in a
        row, in words; None while all are as they must be
    """

    def __init__(self, cluster: Cluster, topics: Sequence[str], partitions: int) -> None:
        self._cluster = cluster
        self._topics = topics
        self._partitions = partitions
        self._gone_looks = 0
        self.gone: str | None = None
        self._client: Any = None  # aiokafka wants to be made inside an event loop

    async def look(self) -> str | None:
        """Ask once; why the worker cannot work with the brokers now, or None."""
        try:
            return await asyncio.wait_for(self._ask(), ANSWER_WITHIN_S)
        except (KafkaError, OSError, TimeoutError):
            self._gone_looks = 0
            await self.stop()  # the next one starts from the bootstrap addresses again
            refusal = None
            if not self._cluster.plain:
                refusal = await find_refusal(self._cluster, ANSWER_WITHIN_S)
            return refusal or f"no broker answers at {self._cluster.bootstrap}"

    async def _ask(self) -> str | None:
        if self._client is None:
            self._client = AIOKafkaClient(
                **self._cluster.options(),
                request_timeout_ms=int(ANSWER_WITHIN_S * 1000),
            )
            await self._client.bootstrap()
            self._client.set_topics(self._topics)
        if not await self._client.force_metadata_update():
            raise KafkaError("no metadata")
        cluster = self._client.cluster
        if hidden := cluster.unauthorized_topics.intersection(self._topics):
            return f"no right to look at topic {', '.join(sorted(hidden))}"
        for topic in self._topics:
            if other := self._other_shape(len(cluster.partitions_for_topic(topic) or ())):
                self._gone_looks += 1
                if self._gone_looks >= GONE_AFTER_LOOKS:
                    self.gone = f"topic {topic} {other}"
                return f"topic {topic} {other}"
        self._gone_looks = 0
        for topic in self._topics:
            for partition in sorted(cluster.partitions_for_topic(topic) or ()):
                if cluster.leader_for_partition(TopicPartition(topic, partition)) in (None, -1):
                    return f"partition {partition} of topic {topic} has no leader"
        return None

    def _other_shape(self, count: int) -> str | None:
        """What is wrong with a topic of `count` partitions."""
        if count == self._partitions:
            return None
        return f"has {count} partitions, not {self._partitions}" if count else "is gone"

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
