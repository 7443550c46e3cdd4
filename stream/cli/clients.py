"""kafka-python producers and consumers for the commands.

In: settings. Out: clients that are connected, or a BrokerError that says what to do. Knows topics
and positions, nothing of what the records mean.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream.errors import BrokerError, TopicError
from stream.kafka.admin import open_admin


@contextlib.contextmanager
def open_producer(bootstrap: str, *, bulk: bool = False) -> Iterator[KafkaProducer]:
    """Connect a producer; send what is left and close it at the end.

    Parameters
    ----------
    bulk : collect large batches rather than send each record at once

    Raises
    ------
    BrokerError : no broker answers
    """
    _require_broker(bootstrap)
    producer = KafkaProducer(
        bootstrap_servers=bootstrap.split(","),
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
        yield producer
        timeout_s = 30.0
    finally:
        producer.close(timeout=timeout_s)


@contextlib.contextmanager
def open_consumer(bootstrap: str) -> Iterator[KafkaConsumer]:
    """Connect a consumer without a group, for `assign_all`; close it at the end.

    Raises
    ------
    BrokerError : no broker answers
    """
    _require_broker(bootstrap)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
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


def _require_broker(bootstrap: str) -> None:
    """Raise BrokerError at once when nobody listens; the clients would try for 30 s."""
    with open_admin(bootstrap):
        pass


def partitions(client: KafkaConsumer | KafkaProducer, topic: str) -> list[int]:
    """Partitions of a topic, sorted.

    Raises
    ------
    TopicError : there is no such topic
    """
    found = (
        client.partitions_for_topic(topic)
        if isinstance(client, KafkaConsumer)
        else client.partitions_for(topic)
    )
    if not found:
        raise TopicError(f"there is no topic {topic!r}: create it with `freshet topics create`")
    return sorted(found)


def assign_all(consumer: KafkaConsumer, topics: Iterable[str]) -> dict[str, list[TopicPartition]]:
    """Assign every partition of `topics` to the consumer, and return them by topic.

    Raises
    ------
    TopicError : one of them does not exist
    """
    assigned = {
        topic: [TopicPartition(topic, number) for number in partitions(consumer, topic)]
        for topic in topics
    }
    consumer.assign([one for of_topic in assigned.values() for one in of_topic])
    return assigned


def seek_to_end(consumer: KafkaConsumer, where: list[TopicPartition]) -> None:
    """Skip what is there already. Returns when the positions are fixed, not at the next poll."""
    consumer.seek_to_end(*where)
    for one in where:
        consumer.position(one)


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
