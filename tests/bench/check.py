"""Whether a job did the work that it was timed for.

In: its output and changelog topics as they stand after its end. Out: one line. Never a wall-clock
matter.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from tests.bench.cluster import Cluster
from tests.bench.interest import DIM, PARTITIONS, read_output
from tests.bench.workload import USERS, Workload

_SAMPLED_USERS = 400


def read_topic(cluster: Cluster, topic: str) -> Iterator[tuple[int, bytes, bytes]]:
    """Partition, key, value of every committed record that the topic holds now, in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": f"check-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
        }
    )
    try:
        ends = cluster.ends(topic)
        left = {part: end for part, end in enumerate(ends) if end}
        consumer.assign([TopicPartition(topic, part, 0) for part in left])
        idle = 0
        while left and idle < 20:
            messages = consumer.consume(10_000, timeout=0.25)
            idle = 0 if messages else idle + 1
            for message in messages:
                part, key, value = message.partition(), message.key(), message.value()
                if part is not None and key is not None and value is not None:
                    yield part, key, value
            # A position goes past transaction markers, a last record's offset does not.
            for place in consumer.position([TopicPartition(topic, part) for part in left]):
                if place.offset >= ends[place.partition]:
                    del left[place.partition]
    finally:
        consumer.close()


def check_outputs(cluster: Cluster, output: str, workload: Workload) -> str:
    """Say how many events have an output, and how many have more than one."""
    counts = np.bincount(workload.partitions, minlength=PARTITIONS)
    seen = [np.zeros(count, dtype=np.int64) for count in counts]
    for part, _, value in read_topic(cluster, output):
        seen[part][read_output(value)[0]] += 1
    outputs = np.concatenate(seen)
    return (
        f"{np.count_nonzero(outputs):,} of {workload.events:,} events have an output, "
        f"{np.count_nonzero(outputs > 1):,} more than one"
    )


def check_states(cluster: Cluster, changelog: str, workload: Workload, all_events: bool) -> str:
    """Compare states in the changelog with the reference fold, for a sample of users.

    Parameters
    ----------
    all_events : every event was folded, so that the newest state must be the last one of the
        fold; else it must be one of the fold's states
    """
    chosen = random.Random(1).sample(range(USERS), _SAMPLED_USERS)
    user_by_key = {b"u%d" % user: user for user in chosen}
    newest: dict[int, bytes] = {}
    for _, key, value in read_topic(cluster, changelog):
        user = user_by_key.get(key.strip(b'"'))  # Faust's table keys are JSON
        if user is not None:
            newest[user] = value
    right = 0
    for user, value in newest.items():
        expected = workload.prefixes(user)
        if all_events:
            expected = expected[-1:]
        state = np.frombuffer(value, dtype="<f4", count=DIM)
        right += bool(np.any(np.all(np.abs(expected - state) < 1e-5, axis=1)))
    total = (
        sum(bool(np.any(workload.users == user)) for user in chosen) if all_events else len(newest)
    )
    return f"{right} of {total} sampled states equal the reference fold"
