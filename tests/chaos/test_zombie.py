"""A worker that sleeps past its session (SIGSTOP) and wakes while another owns its partitions."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.errors import EXIT_FATAL
from stream.kafka.broker import BrokerProcess
from tests.chaos.reference import check
from tests.chaos.shop import PARTITIONS, Shop, Shoppers, Worker

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(120), pytest.mark.long]

SEED = int(os.environ.get("SEED", "20261122"))
RATE = 600
NAPS = 2
AWAKE_S = 5.0  # within which a zombie that has anything to send is gone


@pytest.fixture
def shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()


def owned(worker: Worker) -> int:
    """How many partitions the worker serves, as its gauges tell."""
    return worker.get("/metrics").count("freshet_state_users{")


def wait_until_owned(worker: Worker, count: int) -> None:
    deadline = time.monotonic() + 30
    while owned(worker) != count:
        assert worker.process.poll() is None, worker.tail()
        assert time.monotonic() < deadline, f"owns {owned(worker)}, not {count}:\n{worker.tail()}"
        time.sleep(0.05)


def test_a_zombie_changes_no_state(shop: Shop) -> None:
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    heir = shop.worker()
    heir.wait_until_ready()
    refused = 0
    for _ in range(NAPS):
        sleeper = shop.worker()
        sleeper.wait_until_ready()
        wait_until_owned(sleeper, PARTITIONS // 2)
        sleeper.process.send_signal(signal.SIGSTOP)
        wait_until_owned(heir, PARTITIONS)
        time.sleep(0.5)  # the heir writes under its new epoch
        sleeper.process.send_signal(signal.SIGCONT)
        try:
            assert sleeper.process.wait(AWAKE_S) == EXIT_FATAL, sleeper.tail()
            assert "another worker took the partition over" in sleeper.tail()
            refused += 1
        except subprocess.TimeoutExpired:  # it had nothing in hand, and joined again
            sleeper.wait_until_ready()
            assert sleeper.stop() == 0, sleeper.tail()
        wait_until_owned(heir, PARTITIONS)
    shoppers.finish()
    shop.wait_until_done(heir)
    assert heir.stop() == 0, heir.tail()
    verdict = check(shop)
    print(f"{NAPS} naps, {refused} refused: {verdict}")
    assert verdict.right, verdict
    assert verdict.owners > 1
