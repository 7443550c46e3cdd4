"""kafka-python producers and consumers for the commands.

In: settings. Out: clients that are connected, or a BrokerError that says what to do. Knows topics
and positions, nothing of what the records mean.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.cli.unpack import bound_unpacking
from stream.errors import BrokerError, TopicError
from stream.kafka.admin import open_admin, require_listening
from stream.kafka.cluster import Cluster
from stream.kafka.rights import right_faults

LOOK_EVERY_S = 1.0


@contextlib.contextmanager
def open_producer(
    cluster: Cluster, topics: Sequence[str], *, bulk: bool = False
) -> Iterator[KafkaProducer]:
    """Connect a producer; send what is left and close it at the end.

    Parameters
    ----------
    topics : it will send to; their partitions are known when this returns
    bulk : collect large batches rather than send each record at once

    Raises
    ------
    BrokerError : no broker answers, or lets us in
    TopicError : one of the topics does not exist, or we may not use it
    """
    require_usable(cluster, topics, "Write")
    producer = KafkaProducer(
        **cluster.options(),
        bootstrap_timeout_ms=10_000,
        linger_ms=5 if bulk else 0,
        batch_size=262_144 if bulk else 16_384,
        max_block_ms=10_000,
        request_timeout_ms=10_000,
        delivery_timeout_ms=20_000,
        allow_auto_create_topics=False,
    )
    timeout_s = 2.0  # after an error or Ctrl-C: do not wait for a broker that may be gone
    try:
        for topic in topics:
            producer.partitions_for(topic)
        yield producer
        timeout_s = 30.0
    finally:
        producer.close(timeout=timeout_s)


@contextlib.contextmanager
def open_consumer(cluster: Cluster, topics: Sequence[str]) -> Iterator[KafkaConsumer]:
    """Connect a consumer without a group, for `assign_all` of `topics`; close it at the end.

    Raises
    ------
    BrokerError : no broker answers, or lets us in
    TopicError : one of the topics does not exist, or we may not use it
    """
    require_usable(cluster, topics, "Read")
    bound_unpacking()
    consumer = KafkaConsumer(
        **cluster.options(),
        bootstrap_timeout_ms=10_000,
        group_id=None,
        allow_auto_create_topics=False,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # A short long poll: a partition without news must not delay one that has some.
        fetch_max_wait_ms=100,
    )
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False, timeout_ms=2000)


def require_usable(cluster: Cluster, topics: Sequence[str], right: str) -> None:
    """Look for broker and topics first: the clients would try for a long time, in silence.

    And a broker may create a topic that somebody asks for, with the wrong shape.

    Parameters
    ----------
    right : Read or Write

    Raises
    ------
    BrokerError : no broker answers, or lets us in
    TopicError : one of the topics does not exist, or we may not use it
    """
    with open_admin(cluster) as admin:
        for topic in admin.describe_topics(list(topics)) if topics else ():
            for fault in right_faults(cluster, topic, [right]):
                raise TopicError(str(fault))
            if topic["error_code"]:
                raise TopicError(
                    f"there is no topic {topic['name']!r} at {cluster.bootstrap}: create it with "
                    f"`freshet topics create --bootstrap {cluster.bootstrap}`"
                )


def assign_all(consumer: KafkaConsumer, topics: Iterable[str]) -> dict[str, list[TopicPartition]]:
    """Assign every partition of `topics` to the consumer, and return them by topic."""
    assigned = {
        topic: [
            TopicPartition(topic, number)
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        for topic in topics
    }
    consumer.assign([one for of_topic in assigned.values() for one in of_topic])
    return assigned


def seek_to_end(consumer: KafkaConsumer, where: list[TopicPartition]) -> None:
    """Skip what is there already. Returns when the positions are fixed, not at the next poll."""
    consumer.seek_to_end(*where)
    for one in where:
        consumer.position(one)


class BrokerWatch:
    """Says once on standard error that the brokers are gone, and once that one is back.

    The client itself stays silent and goes on trying. Looks at most once in `LOOK_EVERY_S`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._gone = False
        self._look_at_s = 0.0

    def look(self) -> None:
        """Look whether any broker takes a connection; to be called when nothing arrives."""
        now_s = time.monotonic()
        if now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_EVERY_S
        try:
            require_listening(self._cluster.servers, timeout_s=1.0)
            gone = False
        except OSError:
            gone = True
        if gone != self._gone:
            says = "does not answer; waiting for it" if gone else "answers again"
            click.echo(f"the broker at {self._cluster.bootstrap} {says}", err=True)
        self._gone = gone


def read_to_end(
    consumer: KafkaConsumer, where: list[TopicPartition], timeout_s: float = 30.0
) -> Iterator[Any]:
    """Yield the records from the consumer's positions up to what is the end now.

    Raises
    ------
    BrokerError : the end was not reached in `timeout_s` seconds
    """
    ends = consumer.end_offsets(where)
    deadline = time.monotonic() + timeout_s
    while any(consumer.position(one) < ends[one] for one in where):
        if time.monotonic() > deadline:
            raise BrokerError(f"topic {where[0].topic!r} could not be read in {timeout_s:g} s")
        for records in consumer.poll(timeout_ms=200).values():
            yield from records
