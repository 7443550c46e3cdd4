"""Brokers that crash or sleep, a worker whose clock is set, rebalances while a backlog waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.chaos.faulty import finish, reason_of_end, wait_for, wait_for_more
from tests.chaos.shop import PARTITIONS, Shop, Shoppers
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(240)]

RATE = 600
BACKLOG = 20_000
SLEEP_S = 4.0  # past the session, and no patience's end
HOUR_S = 3600


@pytest.fixture
def shop(own_broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(own_broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()


@pytest.fixture
def shared_shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()


def test_a_broker_that_crashes_or_sleeps_under_load_costs_nothing(
    shop: Shop, own_broker: BrokerProcess
) -> None:
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    for _ in range(2):
        time.sleep(1)
        own_broker.kill()
        own_broker.start()
        wait_for_more(shop, worker)
    assert own_broker.pid is not None
    os.kill(own_broker.pid, signal.SIGSTOP)
    time.sleep(SLEEP_S)
    os.kill(own_broker.pid, signal.SIGCONT)
    wait_for_more(shop, worker)
    shoppers.finish()
    finish(shop, worker)


def test_the_workers_clock_may_be_set_by_hours(
    shared_shop: Shop,
) -> None:
    shop = shared_shop
    worker = shop.worker("tests.chaos.clock_steps")
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    for step_s in (0.9 * HOUR_S, -5 * HOUR_S, 0):
        worker.set_clock(step_s)
        wait_for_more(shop, worker, RATE)
    worker.set_clock(2 * HOUR_S)
    assert "this machine's clock is more than an hour" in reason_of_end(shop, worker, 30)
    worker = shop.worker("tests.chaos.clock_steps")
    assert "this machine's clock is more than an hour" in reason_of_end(shop, worker, 30)
    worker.set_clock(0)
    worker = shop.worker("tests.chaos.clock_steps")
    worker.wait_until_ready()
    shoppers.finish()
    finish(shop, worker)


def test_workers_join_and_leave_while_a_backlog_waits(shared_shop: Shop) -> None:
    shop = shared_shop
    shop.produce(BACKLOG)
    shop.flush()
    stays = shop.worker()
    stays.wait_until_ready()
    for _ in range(2):
        comes = shop.worker()
        comes.wait_until_ready()
        wait_for(lambda comes=comes: comes.owned() == PARTITIONS // 2, 30, comes)
        shop.produce(BACKLOG // 4)
        assert comes.stop() == 0, comes.tail()
    shop.flush()
    finish(shop, stays)
