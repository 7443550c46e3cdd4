"""The broker goes away from a worker, and comes back."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.kafka.broker import BrokerProcess
from tests.chaos.shop import Shop, Worker

pytestmark = pytest.mark.kafka_only

FEW_S = 6.0
AWAY_S = 8.0


@pytest.fixture
def shop(own_broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(own_broker.bootstrap, unique, tmp_path, seed=1)
    yield shop
    shop.close()


def readyz(worker: Worker) -> tuple[int, dict[str, Any]]:
    try:
        return 200, json.loads(worker.get("/readyz"))
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def wait_for_503(worker: Worker) -> dict[str, Any]:
    deadline = time.monotonic() + FEW_S
    while True:
        code, body = readyz(worker)
        if code == 503:
            return body
        assert time.monotonic() < deadline, body
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_a_worker_without_its_broker_is_alive_and_not_ready(
    shop: Shop, own_broker: BrokerProcess, how: str, tmp_path: Path
) -> None:
    worker = shop.worker()
    worker.wait_until_ready()
    shop.produce(200)
    shop.flush()
    shop.wait_until_done(worker)
    before = len((tmp_path / "worker.log").read_text())
    if how == "killed":
        own_broker.kill()
    else:
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGSTOP)
    body = wait_for_503(worker)
    assert body["ready"] is False
    assert body["broker"] is False
    assert re.search(rf"no broker answers at {own_broker.bootstrap}", body["reason"])
    time.sleep(AWAY_S)
    assert json.loads(worker.get("/healthz")) == {"alive": True}
    assert readyz(worker)[0] == 503
    log = (tmp_path / "worker.log").read_text()[before:]
    said = re.findall(r"\[(?:WARNING|ERROR)\] (.*)", log)
    repeats = Counter(re.sub(r"[\d.]+", "N", re.sub(r" \(\d+ more.*", "", line)) for line in said)
    print(len(log.splitlines()), repeats)
    assert said.count(f"not ready: {body['reason']}") == 1, "the worker's own word for it"
    assert len(log.splitlines()) < 40, log[-4000:]
    assert max(repeats.values()) <= 1 + (AWAY_S + FEW_S) // 10, repeats
    if how == "killed":
        own_broker.start()
    else:
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGCONT)
    worker.wait_until_ready()
    shop.produce(200)
    shop.flush()
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()
