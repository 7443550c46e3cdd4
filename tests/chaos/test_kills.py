"""kill -9 at random moments: every state exact, every event in a list, every bad record kept."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.chaos.reference import Verdict, check
from tests.chaos.shop import Shop, Shoppers

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(600), pytest.mark.long]

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", "20261122"))
RATE = 1_200


@pytest.fixture
def shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()


def run(shop: Shop, kills: int) -> Verdict:
    """Shoppers all the while; `kills` workers killed, the last one runs to the end."""
    chance = random.Random(SEED)
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    for _ in range(kills):
        worker = shop.worker()
        if chance.random() < 0.2:  # while it starts, joins or recovers
            time.sleep(chance.uniform(0.5, 5))
        else:
            worker.wait_until_ready()
            time.sleep(chance.uniform(0.02, 2))
        worker.kill()
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers.finish()
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()
    verdict = check(shop)
    print(f"{kills} kills, seed {SEED}: {verdict}")
    return verdict


def test_kills_leave_every_state_exact_and_every_event_reflected(shop: Shop) -> None:
    verdict = run(shop, KILLS)
    assert verdict.right, verdict
    assert verdict.bad_records > 0
    assert verdict.owners > KILLS // 2, "the kills must have hit workers that owned partitions"
