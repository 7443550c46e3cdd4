"""Peer (c): a vectorised loop around confluent-kafka with a changelog, as fast as it goes.

At least once, without recovery, fence or exactly-once state: the floor in features, not in effort.
Offsets are committed once a second after everything sent before was acknowledged.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from tests.bench.interest import (
    Interests,
    Spec,
    decode_clicks,
    now_us,
    output_values,
    read_vectors,
    rows_by_item,
)

BATCH_EVENTS = 8192
QUEUED_RECORDS = 200_000
COMMIT_EVERY_S = 1.0


def end_on_failure(error: KafkaError | None, record: Message) -> None:
    """End the process when a record was not delivered; nothing after it may be committed."""
    if error is not None:
        print(f"not delivered to {record.topic()}: {error}", file=sys.stderr, flush=True)
        os._exit(70)


def _partition(message: Any) -> int:
    return message.partition()  # type: ignore[no-any-return]


def _records(keys: list[bytes], values: list[bytes]) -> list[dict[str, bytes]]:
    return [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]


def main() -> None:
    """Fold clicks until SIGTERM."""
    spec = Spec.from_environment()
    vectors = read_vectors(spec.vectors)
    row_by_item = rows_by_item(len(vectors))
    interests = Interests(vectors)
    consumer = Consumer(
        {
            "bootstrap.servers": spec.bootstrap,
            "group.id": f"{spec.run}-confluent",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.min.messages": 200_000,
            "check.crcs": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": spec.bootstrap,
            "linger.ms": 0 if spec.low_latency else 5,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 1_000_000,
            "acks": "all",
            # Callbacks for failures alone: a Python call per delivered record would halve the rate.
            "delivery.report.only.error": True,
            "on_delivery": end_on_failure,
        }
    )
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    consumer.subscribe([spec.source])
    next_by_partition: dict[int, int] = {}
    commit_at = time.monotonic() + COMMIT_EVERY_S
    # One poll for the first record keeps the latency, a drain of what is there the rate.
    while not stopping:
        messages: list[Any] = consumer.consume(1, timeout=0.2)
        if messages:
            messages += consumer.consume(BATCH_EVENTS, timeout=0)
            picked_us = now_us()
            while len(producer) > QUEUED_RECORDS:
                producer.poll(0.005)
            # Fetched records come partition by partition, so the runs are long.
            for partition, run in itertools.groupby(messages, key=_partition):
                batch = list(run)
                keys = [message.key() for message in batch]
                offsets = [message.offset() for message in batch]
                clicks = decode_clicks([message.value() for message in batch])
                rows = np.array([row_by_item[click.item_id] for click in clicks])
                touched = interests.fold(keys, rows)
                states = interests.encoded(touched)
                changed = [interests.keys[slot] for slot in touched.tolist()]
                outputs = output_values(offsets, picked_us, now_us())
                # The partition as an argument: one in the record's dict is ignored (2.16).
                producer.produce_batch(
                    spec.changelog, _records(changed, states), partition=partition
                )
                producer.produce_batch(spec.output, _records(keys, outputs), partition=partition)
                next_by_partition[partition] = offsets[-1] + 1
            producer.poll(0)
        if time.monotonic() >= commit_at:
            producer.flush()
            if next_by_partition:
                ends = [
                    TopicPartition(spec.source, partition, offset)
                    for partition, offset in next_by_partition.items()
                ]
                consumer.commit(offsets=ends, asynchronous=False)
                next_by_partition.clear()
            commit_at = time.monotonic() + COMMIT_EVERY_S
    producer.flush(5)
    consumer.close()


if __name__ == "__main__":
    main()
