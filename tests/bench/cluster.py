"""The broker as the benchmark sees it: topics of its own, end offsets, committed offsets.

Every topic and group that a run makes begins with the run's prefix, so that all of them can be
found and deleted, those that a framework made by itself included.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic, OffsetSpec
from kafka.errors import KafkaError
from kafka.protocol.consumer.offsets import IsolationLevel

from stream.kafka.admin import open_admin
from tests.bench.interest import PARTITIONS


@contextlib.contextmanager
def open_cluster(bootstrap: str) -> Iterator[Cluster]:
    """The cluster that answers at `bootstrap`.

    Raises
    ------
    BrokerError : nobody answers there, or something that the block asked for was not done
    """
    with open_admin(bootstrap) as admin:
        yield Cluster(bootstrap, admin)


class Cluster:
    """One Apache Kafka, watched from outside the jobs."""

    def __init__(self, bootstrap: str, admin: KafkaAdminClient) -> None:
        self.bootstrap = bootstrap
        self._admin = admin

    def create(self, topics: Iterable[str], compacted: Iterable[str] = ()) -> None:
        """Create topics with the benchmark's partition count and one replica."""
        new = [NewTopic(name, PARTITIONS, 1) for name in topics]
        compact = {"cleanup.policy": "compact"}
        new += [NewTopic(name, PARTITIONS, 1, topic_configs=compact) for name in compacted]
        self._admin.create_topics(new, wait_for_metadata=True)

    def delete(self, prefix: str) -> None:
        """Delete every topic and consumer group whose name begins with `prefix`."""
        topics = [name for name in self._admin.list_topics() if name.startswith(prefix)]
        if topics:
            with contextlib.suppress(KafkaError):  # the client repeats what was done already
                self._admin.delete_topics(topics)
        groups = [group["group_id"] for group in self._admin.list_groups()]
        # A member that was killed is still counted; the broker lets an empty group expire.
        with contextlib.suppress(KafkaError):
            self._admin.delete_groups([name for name in groups if name.startswith(prefix)])

    def ends(self, topic: str) -> list[int]:
        """End offset of every partition, as a reader of committed records sees it."""
        wanted = {TopicPartition(topic, part): OffsetSpec.LATEST for part in range(PARTITIONS)}
        found = self._admin.list_partition_offsets(
            wanted, isolation_level=IsolationLevel.READ_COMMITTED
        )
        return [found[tp].offset for tp in sorted(found)]

    def committed(self, group: str, topic: str) -> int:
        """Sum of the offsets that `group` committed in `topic`; 0 when there are none."""
        wanted = [TopicPartition(topic, part) for part in range(PARTITIONS)]
        try:
            found = self._admin.list_group_offsets({group: wanted})[group]
        except KafkaError:
            return 0  # the group does not exist yet
        return sum(max(0, position.offset) for position in found.values())
