"""Every query of every panel and rule against a live worker, and alerts that come and go.

A real Prometheus, the embedded broker, a gateway, and a worker that is sent clicks, purchases,
items, requests, an erasure and records that are wrong; then the worker hangs, then the gateway,
then their broker.
`build/queries.json` has what every query answered, and how many seconds each alert was waited for;
`build/dashboards.html` has every panel.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from deploy import drawn, queries
from stream.contracts import partition_of
from stream.demo import sample
from stream.kafka.broker import BrokerProcess, free_port
from tests.support.brokers import must_run, start_broker, why_missing
from tests.support.freshet import ROOT, Freshet, producing
from tests.support.prometheus import Prometheus, program

pytestmark = pytest.mark.long

REPORT = ROOT / "build" / "queries.json"
PICTURE = ROOT / "build" / "dashboards.html"
PARTITIONS = 3
PAUSE_S = 0.1  # between two rounds of the load: the embedded broker takes no more in time
ITEMS = ("85123A", "22423", "47566", "85099B", "20725")


class Load(threading.Thread):
    """Users who click, buy and ask, all the time; and bad records while `bad` is set."""

    def __init__(self, freshet: Freshet) -> None:
        super().__init__(daemon=True)
        self.freshet = freshet
        self.bad = threading.Event()
        self.ended = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with producing(self.freshet.bootstrap) as producer:
                for number in itertools.count():
                    if self.ended.wait(PAUSE_S):
                        return
                    self._round(producer, number)
        except BaseException as error:
            self.failed = error
            raise

    def _round(self, producer: KafkaProducer, number: int) -> None:
        user, item = f"u{number % 20}", ITEMS[number % len(ITEMS)]
        for at, kind in enumerate(("impression", "click")):
            fields = {"type": kind, "item_id": item, "placement": "home"}
            self._send(producer, "clicks", user, **fields, **_now(2 * number + at))
        if number % 5 == 0:
            self._send(producer, "purchases", user, type="purchase", item_id=item, **_now(-number))
            asked = {"request_id": str(number), "type": "list"}
            self._send(producer, "requests", user, **asked)
        if number % 20 == 0:
            self._send(producer, "items", item, "item_id", kind="product", title="Title")
            gone = f"gone{number}"
            self._send(producer, "clicks", gone, type="click", item_id="nobody's", **_now(number))
            self._send(producer, "erasures", gone, event_time_ms=int(time.time() * 1000))
        if self.bad.is_set():
            producer.send(self.freshet.topic["clicks"], b"no JSON", user.encode())
            producer.send(self.freshet.topic["items"], b"no JSON", item.encode())
            astray = (partition_of(user.encode(), PARTITIONS) + 1) % PARTITIONS
            fields = {"user_id": user, "type": "view", "item_id": item, **_now(number)}
            value = json.dumps(fields).encode()
            producer.send(self.freshet.topic["clicks"], value, user.encode(), partition=astray)

    def _send(
        self, producer: KafkaProducer, topic: str, key: str, field: str = "user_id", **fields: Any
    ) -> None:
        value = json.dumps({field: key, **fields}).encode()
        producer.send(self.freshet.topic[topic], value, key.encode())


def _now(number: int) -> dict[str, Any]:
    return {"event_id": str(number), "event_time_ms": int(time.time() * 1000)}


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[BrokerProcess]:
    if reason := why_missing("embedded"):
        if must_run("embedded"):
            pytest.fail(f"embedded is required here: {reason}", pytrace=False)
        pytest.skip(f"no embedded broker: {reason}")
    with start_broker("embedded", tmp_path) as broker:
        yield broker


@contextlib.contextmanager
def hanging(pid: int) -> Iterator[None]:
    """A process that does not run and does not end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def status_of(port: int, path: str) -> int:
    """What the gateway answers a read with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", f"/v1/users/{path}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_every_query_answers_and_alerts_come_and_go(
    embedded: BrokerProcess, unique: str, tmp_path: Path
) -> None:
    program("prometheus")
    freshet = Freshet(embedded.bootstrap, unique)
    freshet.run("topics", "create")
    port = free_port()
    environ = {
        "FRESHET_BUNDLE": str(sample.BUNDLE),
        "FRESHET_METRICS_PORT": str(port),
        "FRESHET_BROKER_SESSION_TIMEOUT_S": "10",
        "FRESHET_BROKER_HEARTBEAT_S": "1",
    }
    load = Load(freshet)
    begun_s = time.time()
    front = free_port()
    with (
        freshet.start("worker", environ=environ) as worker,
        freshet.start("gateway", "--port", str(front)) as gateway,
        Prometheus(tmp_path, {"freshet": [port], "freshet-gateway": [front]}) as seen,
    ):
        seen.until("freshet_ready == 1", 60.0)
        load.start()
        try:
            seen.until("sum (rate(freshet_lists_total[2s])) > 0")
            seen.clears("FreshetNoWorkerReady")  # it was on its way
            assert seen.firing() == set()

            seen.until("freshet_gateway_users > 0")
            assert status_of(front, "nobody/lists/home") == 404
            load.bad.set()
            fired = seen.fires("FreshetDeadLetters", "FreshetMisroutedRecords")
            load.bad.clear()
            with hanging(worker.pid):
                fired |= seen.fires("FreshetWorkerDown", "FreshetNoWorkerReady")
            fired |= seen.fires("FreshetListsLateFast")
            with hanging(gateway.pid):
                fired |= seen.fires("FreshetGatewayDown", "FreshetNoGateway")
            assert embedded.pid is not None
            with hanging(embedded.pid):
                fired |= seen.fires("FreshetWorkerNotReady", "FreshetGatewayNotReady")

            seen.until("freshet:lists_late:ratio_rate5m >= 0")  # not 0/0: there are lists again
            asked = [*queries.of_dashboards(), *queries.of_rules()]
            answers = [queries.answer(seen.url, query) for query in asked]
            picture = drawn.page(seen.url, begun_s, time.time())
            ended = seen.clears(*fired)
        finally:
            load.ended.set()
            load.join(20)
    assert load.failed is None
    REPORT.parent.mkdir(exist_ok=True)
    took = {name: {"fired_s": fired[name], "ended_s": ended[name]} for name in fired}
    REPORT.write_text(queries.written(answers, {"alerts": took}), encoding="utf-8")
    PICTURE.write_text(picture, encoding="utf-8")
    assert [one.query for one in answers if not one.series] == [], queries.table(answers)
