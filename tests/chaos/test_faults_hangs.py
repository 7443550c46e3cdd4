"""Whatever hangs in a worker, it ends itself with code 70 and the reason."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.chaos.check import check
from tests.chaos.faulty import LONG, log_of, reason_of_end, wait_for
from tests.chaos.shop import Shop, Worker
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

PATIENCE_S = 5.0
WITHIN_S = 40.0  # several workers start at once

# What hangs, and what the worker says of it; it starts with each of these.
FROM_THE_START = {
    "topics": "the topics are being looked at",
    "catalogue": "stopped answering before its end: no progress",
    "join": "it waits for the group to give it partitions",
    "takeover": "partitions are being taken over",
}
WHILE_SERVING = {
    "model": "the event loop stood still",
    "group": "the thread of the consumer group does not answer",
}
if LONG:
    FROM_THE_START["assignment"] = FROM_THE_START["takeover"]
    WHILE_SERVING["group-thread"] = WHILE_SERVING["group"]


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FRESHET_BROKER_RECOVERY_TIMEOUT_S", str(PATIENCE_S))
    return monkeypatch


class Shops:
    """A shop for each hang."""

    def __init__(self, broker: BrokerProcess, unique: str, folder: Path) -> None:
        self._broker, self._unique, self._folder = broker, unique, folder
        self._shops: dict[str, Shop] = {}

    def __getitem__(self, what: str) -> Shop:
        if what not in self._shops:
            folder = self._folder / what
            folder.mkdir()
            self._shops[what] = Shop(self._broker.bootstrap, f"{self._unique}-{what}", folder, SEED)
        return self._shops[what]

    def close(self) -> None:
        for shop in self._shops.values():
            shop.close()


@pytest.fixture
def shops(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shops]:
    shops = Shops(broker, unique, tmp_path)
    yield shops
    shops.close()


def started(shops: Shops, hanging: pytest.MonkeyPatch, what: str) -> Worker:
    hanging.setenv("HANG", what)
    return shops[what].worker("tests.chaos.hanging")


def test_what_hangs_from_the_start_ends_the_worker(
    shops: Shops, hanging: pytest.MonkeyPatch
) -> None:
    workers = {what: started(shops, hanging, what) for what in FROM_THE_START}
    for what, worker in workers.items():
        assert FROM_THE_START[what] in reason_of_end(shops[what], worker, WITHIN_S), what


def test_what_hangs_while_it_serves_ends_the_worker(
    shops: Shops, hanging: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hanging.setenv("HANG_WHEN", str(tmp_path / "now"))
    workers = {what: started(shops, hanging, what) for what in WHILE_SERVING}
    for what, worker in workers.items():
        worker.wait_until_ready()
        shops[what].produce(200)
        shops[what].flush()
        shops[what].wait_until_done(worker)
    (tmp_path / "now").touch()
    for what in WHILE_SERVING:
        shops[what].produce(200)
        shops[what].flush()
    for what, worker in workers.items():
        reason = reason_of_end(shops[what], worker, WITHIN_S)
        assert WHILE_SERVING[what] in reason, what
    log = log_of(shops["model"])
    assert re.search(r'File ".*hanging.py", line \d+ in run', log), "it says where"
    hanging.delenv("HANG_WHEN")
    worker = shops["model"].worker()
    shops["model"].wait_until_done(worker)
    assert worker.stop() == 0
    assert check(shops["model"]).right


def test_a_rebalance_does_not_wait_for_ever_for_what_is_in_hand(
    shops: Shops, hanging: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The events that wait are no reason to end: a rebalance is on, and waits for them."""
    shop = shops["answers"]
    hanging.setenv("HANG_WHEN", str(tmp_path / "now"))
    worker = started(shops, hanging, "answers")
    worker.wait_until_ready()
    hanging.delenv("HANG_WHEN")
    other = shop.worker()  # joins in a moment, and makes the group rebalance
    wait_for(lambda: answers(other), WITHIN_S, other)
    (tmp_path / "now").touch()
    shop.produce(200)
    shop.flush()
    wait_for(lambda: not_ready(worker), WITHIN_S, worker)
    reason = reason_of_end(shop, worker, WITHIN_S)
    assert "a rebalance waits for batches in hand" in reason
    other.wait_until_ready()
    shop.wait_until_done(other)
    assert other.stop() == 0
    assert check(shop).right


def not_ready(worker: Worker) -> bool:
    try:
        worker.get("/readyz")
    except urllib.error.HTTPError:
        return True
    return False


def answers(worker: Worker) -> bool:
    try:
        worker.get("/healthz")
    except OSError:
        return False
    return True
