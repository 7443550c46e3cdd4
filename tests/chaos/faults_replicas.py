"""An output topic with too few replicas in sync takes nothing until they are back.

Two brokers take their time to start: `make faults` alone runs this.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import TopicPartition

from tests.chaos.check import check
from tests.chaos.faulty import SEED, admin_of, configure, reason_of_end
from tests.chaos.shop import PARTITIONS, Shop
from tests.chaos.two_brokers import FIRST, SECOND, SecondBroker, move
from tests.support.brokers import remove_data
from tests.support.kafka import ApacheKafka

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

PATIENCE_S = 6.0
EVENTS = 300


def replicate(shop: Shop, topic: str) -> None:
    """Give every partition of `topic` two replicas, of which both must have a record."""
    with admin_of(shop) as admin:
        admin.alter_partition_reassignments(
            {TopicPartition(topic, number): [FIRST, SECOND] for number in range(PARTITIONS)}
        )
        while any(len(one["isr_nodes"]) < 2 for one in partitions(admin, topic)):
            pass
    configure(shop, topic, min_insync_replicas="2")


def partitions(admin: object, topic: str) -> list[dict[str, list[int]]]:
    (described,) = admin.describe_topics([topic])  # type: ignore[attr-defined]
    found: list[dict[str, list[int]]] = described["partitions"]
    return found


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
            shop.committed()  # the first question makes the topic of the offsets
            move(first.bootstrap, shop.settings.topics.recommendations)
            replicate(shop, shop.settings.topics.recommendations)
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
            assert check(shop).right
        finally:
            shop.close()
    for home in homes:
        remove_data(home)
