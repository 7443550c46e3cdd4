"""An output topic with too few replicas in sync takes nothing until they are back.

Two brokers take their time to start: `make faults` alone runs this.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

from tests.chaos.check import check
from tests.chaos.faulty import admin_of, committed, configure, reason_of_end
from tests.chaos.shop import Shop
from tests.support.brokers import remove_data
from tests.support.kafka import ApacheKafka
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

FIRST, SECOND = 1, 2
PATIENCE_S = 6.0
EVENTS = 300


class SecondBroker(ApacheKafka):
    """A broker without a controller, in the cluster of `first`, which must be running."""

    def __init__(self, data: Path, first: ApacheKafka) -> None:
        super().__init__(data)
        self.first = first
        self.controller_port = first.controller_port

    def _configuration(self) -> str:
        # Of a key that stands twice the last value holds.
        return super()._configuration() + (
            f"\nnode.id={SECOND}\nprocess.roles=broker\nlisteners=PLAINTEXT://{self.bootstrap}\n"
        )


def replicate(shop: Shop, topic: str, on: list[int]) -> None:
    """Give `topic` replicas on these brokers, who all must have a record; all else to the first."""
    with admin_of(shop) as admin:
        homes = {
            TopicPartition(one["name"], part["partition_index"]): (
                on if one["name"] == topic else [FIRST]
            )
            for one in admin.describe_topics(list(admin.list_topics()))
            for part in one["partitions"]
        }
        admin.alter_partition_reassignments(homes)
        deadline = time.monotonic() + 30
        while not as_wanted(admin, homes):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    configure(shop, topic, min_insync_replicas=str(len(on)))


def as_wanted(admin: KafkaAdminClient, homes: dict[TopicPartition, list[int]]) -> bool:
    return all(
        sorted(part["isr_nodes"]) == homes[TopicPartition(one["name"], part["partition_index"])]
        for one in admin.describe_topics(list({tp.topic for tp in homes}))
        for part in one["partitions"]
    )


def test_lists_without_enough_replicas_wait_and_are_not_lost(
    broker_kind: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_BROKER_RECOVERY_TIMEOUT_S", str(PATIENCE_S))
    homes = [tmp_path / "first", tmp_path / "second"]
    with (
        ApacheKafka(homes[0] / "kafka") as first,
        SecondBroker(homes[1] / "kafka", first) as second,
    ):
        shop = Shop(first.bootstrap, unique, tmp_path, SEED)
        try:
            lists = shop.settings.topics.recommendations
            committed(shop)  # the first question makes the topic of the offsets
            replicate(shop, lists, [FIRST, SECOND])
            worker = shop.worker()
            worker.wait_until_ready()
            second.kill()
            shop.produce(EVENTS)
            shop.flush()
            assert "no progress" in reason_of_end(shop, worker, 60)
            second.start()
            worker = shop.worker()
            worker.wait_until_ready()
            shop.wait_until_done(worker)
            assert worker.stop() == 0, worker.tail()
            replicate(shop, lists, [FIRST])  # the checker reads one copy of the log
            while any(second.data.glob(f"{lists}-?")):
                time.sleep(0.1)
            assert check(shop).right
        finally:
            shop.close()
    for home in homes:
        remove_data(home)
