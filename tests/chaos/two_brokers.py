"""Two Apache Kafka brokers, so that one topic can go unanswered while the others go on.

The first is the controller and has every topic but one; the second has that one alone. With the
second killed, what is sent to its topic is neither stored nor acknowledged until it is back.
"""

from __future__ import annotations

import time
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition

from stream.kafka.admin import open_admin
from tests.support.kafka import ApacheKafka

FIRST, SECOND = 1, 2
MOVE_S = 30.0


class SecondBroker(ApacheKafka):
    """A broker without a controller, in the cluster of `first`, which must be running."""

    def __init__(self, data: Path, first: ApacheKafka) -> None:
        super().__init__(data, short_lived=first.short_lived)
        self.first = first
        self.controller_port = first.controller_port

    def _configuration(self) -> str:
        # Of a key that stands twice the last value holds.
        return super()._configuration() + (
            f"\nnode.id={SECOND}\nprocess.roles=broker\nlisteners=PLAINTEXT://{self.bootstrap}\n"
        )


def move(bootstrap: str, topic: str) -> None:
    """Give `topic` to the second broker, all others to the first; returns when they have them."""
    with open_admin(bootstrap) as admin:
        admin.alter_partition_reassignments(
            {
                TopicPartition(name, partition): [_home(name, topic)]
                for name, partition in _leaders(admin)
            }
        )
    wait_for_leaders(bootstrap, topic)


def wait_for_leaders(bootstrap: str, topic: str) -> None:
    """Wait until every topic is led by the broker that `move` gave it to."""
    deadline = time.monotonic() + MOVE_S
    with open_admin(bootstrap) as admin:
        while True:
            leaders = _leaders(admin)
            if all(leader == _home(name, topic) for (name, _), leader in leaders.items()):
                return
            assert time.monotonic() < deadline, leaders
            time.sleep(0.1)


def _home(name: str, topic: str) -> int:
    return SECOND if name == topic else FIRST


def _leaders(admin: KafkaAdminClient) -> dict[tuple[str, int], int]:
    return {
        (topic["name"], partition["partition_index"]): partition["leader_id"]
        for topic in admin.describe_topics(list(admin.list_topics()))
        for partition in topic["partitions"]
    }
