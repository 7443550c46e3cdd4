"""A bad network between worker and broker: delays, cuts half-way, nothing at all for a while."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.faulty import (
    AWAY_S,
    faulty_shop,
    finish,
    proxied_kafka,
    reason_of_end,
    wait_for,
    wait_for_more,
)
from tests.chaos.shop import Shop, Shoppers
from tests.support.proxy import ProxiedKafka

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(300)]

RATE = 600
# Longer than the session (1.5 s), shorter than any patience: the worker lives on.
HICCUP_S = 3.0
SCALED_PATIENCE_S = 5.0
TRIES = 3


@pytest.fixture(scope="module")
def broker(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedKafka]:
    with proxied_kafka(tmp_path_factory.mktemp("network")) as broker:
        yield broker


@pytest.fixture
def patience() -> dict[str, float]:
    return {} if AWAY_S else {"recovery_timeout_s": SCALED_PATIENCE_S}


@pytest.fixture
def shop(
    broker: ProxiedKafka,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    shop = faulty_shop(broker, unique, tmp_path, monkeypatch)
    yield shop
    shop.close()
    broker.proxy.forward()


def test_a_worker_lives_through_a_bad_network(shop: Shop, broker: ProxiedKafka) -> None:
    proxy = broker.proxy
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    wait_for_more(shop, worker)
    for share in (0.0, 0.5, 1.0):  # with 1.0 the broker has the batch, and its answer is lost
        for api in ("produce", "fetch"):
            way = "request" if api == "produce" else "response"
            seen = proxy.cuts
            proxy.cut(api, way, after=share, at_least=400)
            wait_for(lambda seen=seen: proxy.cuts > seen, 20, worker)
            wait_for_more(shop, worker)
    proxy.delay(request_s=0.2, response_s=0.2)
    wait_for_more(shop, worker)
    proxy.forward()
    proxy.limit(150_000)
    time.sleep(HICCUP_S / 2)
    wait_for_more(shop, worker)
    for away in (proxy.blackhole, proxy.refuse, proxy.cut_all):
        away()
        time.sleep(HICCUP_S)
        proxy.forward()
        wait_for_more(shop, worker)
        worker.wait_until_ready()
    shoppers.finish()
    print(f"{proxy.cuts} connections cut half-way")
    finish(shop, worker)


def test_a_broker_out_of_reach_ends_the_worker_and_nothing_is_lost(
    shop: Shop, broker: ProxiedKafka, patience: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in patience.items():
        monkeypatch.setenv(f"FRESHET_BROKER_{name.upper()}", str(value))
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    wait_for_more(shop, worker)
    for _ in range(TRIES):
        broker.proxy.blackhole()
        began_s = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(90 if AWAY_S else 20)
            break
        broker.proxy.forward()  # it had no event in hand: such a worker waits, and goes on
        wait_for_more(shop, worker)
    reason = reason_of_end(shop, worker, 1)
    print(f"ended after {time.monotonic() - began_s:.1f} s: {reason}")
    assert "no progress" in reason or "not acknowledged" in reason
    time.sleep(max(0.0, began_s + AWAY_S - time.monotonic()))
    broker.proxy.forward()
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers.finish()
    finish(shop, worker)
