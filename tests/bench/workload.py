"""The events that every job reads: seeded, so that a run can be repeated and its states checked.

In: a number of events. Out: a preloaded source topic, a file of item vectors, and the reference
fold of any user's events. Users and items are uniform: no job profits from a hot key.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from stream.contracts.partitioner import partitions_of
from tests.bench.interest import DECAY, DIM, PARTITIONS

USERS = 100_000
ITEMS = 10_000
_CHUNK_EVENTS = 10_000


def partitions_of_users(users: int) -> NDArray[np.int32]:
    """Partition of every user `u0`, `u1`, ... as the Java client chooses it, int32 [users]."""
    return partitions_of([b"u%d" % user for user in range(users)], PARTITIONS)


class Workload:
    """`events` clicks by `USERS` users on `ITEMS` items.

    Attributes
    ----------
    users, items : int64 [events], what event i is about
    vectors : float32 [ITEMS, DIM], in a row's order of magnitude like an embedding's
    """

    def __init__(self, events: int, seed: int = 20) -> None:
        rng = np.random.default_rng(seed)
        self.events = events
        self.users = rng.integers(0, USERS, events)
        self.items = rng.integers(0, ITEMS, events)
        self.vectors = rng.standard_normal((ITEMS, DIM), dtype=np.float32) / np.float32(8.0)

    @cached_property
    def partitions(self) -> NDArray[np.int32]:
        """Partition of every event, int32 [events]."""
        return partitions_of_users(USERS)[self.users]

    def write_vectors(self, path: Path) -> None:
        """Write the item vectors as raw little-endian float32."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.vectors.astype("<f4").tofile(path)

    def preload(self, bootstrap: str, topic: str) -> None:
        """Produce all clicks, each to its key's partition, in order."""
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "batch.size": 1 << 20,
                "batch.num.messages": _CHUNK_EVENTS,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        # The youngest event is a minute old: event times of the future would be refused.
        first_ms = int(time.time() * 1000) - self.events - 60_000
        for start in range(0, self.events, _CHUNK_EVENTS):
            chunk = slice(start, min(self.events, start + _CHUNK_EVENTS))
            users, items = self.users[chunk].tolist(), self.items[chunk].tolist()
            partitions = self.partitions[chunk]
            while len(producer) > 500_000:
                producer.poll(0.01)
            for partition in range(PARTITIONS):
                producer.produce_batch(
                    topic,
                    [
                        {
                            "key": b"u%d" % users[at],
                            "value": b'{"event_id":"e%d","user_id":"u%d","item_id":"i%d",'
                            b'"type":"click","event_time_ms":%d}'
                            % (start + at, users[at], items[at], first_ms + start + at),
                        }
                        for at in np.flatnonzero(partitions == partition).tolist()
                    ],
                    # As an argument: a partition in the record's dict is ignored (2.16).
                    partition=partition,
                )
            producer.poll(0)
        producer.flush()

    def prefixes(self, user: int) -> NDArray[np.float32]:
        """Interest of a user after each event, float32 [events, DIM]: the reference fold."""
        state = np.zeros(DIM, dtype=np.float32)
        states = []
        for item in self.items[self.users == user].tolist():
            state = state * DECAY + self.vectors[item]
            states.append(state)
        return np.array(states, dtype=np.float32).reshape(-1, DIM)
