"""`freshet gateway` as a process, on a broker, in front of a worker: read, post, stream, forget."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from subprocess import Popen
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.contracts import partition_of
from stream.demo import sample
from stream.kafka.broker import BrokerProcess
from tests.support.freshet import Freshet, interrupt, producing, wait_for

WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
}
WITHIN_S = 30.0
AWAY_S = 3.0
ITEM = "85123A"


class Gateway:
    """A running gateway, by its address."""

    def __init__(self, process: Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        # What it says from now on; a full pipe would stop it.
        self.lines: list[str] = []
        self._said = threading.Thread(target=self._read, daemon=True)
        self._said.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def complaints(self) -> Counter[str]:
        """How often it warned of what, whatever the numbers in it."""
        found = [re.search(r"\[(?:WARNING|ERROR)\] (.*)", line) for line in self.lines]
        said = [re.sub(r" \(\d+ more.*", "", one[1]) for one in found if one is not None]
        return Counter(re.sub(r"[\d.]+", "N", one) for one in said)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def await_status(self, status: int, path: str) -> Any:
        """Ask until it answers so."""
        end_s = time.monotonic() + WITHIN_S
        while (found := self.ask("GET", path))[0] != status:
            assert time.monotonic() < end_s, found
            time.sleep(0.05)
        return found[1]


@contextlib.contextmanager
def gateway(freshet: Freshet, *options: str, **environ: str) -> Iterator[Gateway]:
    with freshet.start("gateway", "--port", "0", *options, environ=environ) as process:
        line = wait_for(process, "gateway at ")
        found = re.search(r"http://\S+:\d+", line)
        assert found is not None
        running = Gateway(process, found[0])
        running.await_status(200, "/readyz")
        yield running


@contextlib.contextmanager
def working(freshet: Freshet) -> Iterator[None]:
    with freshet.start("worker", environ=WORKER) as worker:
        wait_for(worker, "took partitions")
        yield


def click(user: str) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    return {"user_id": user, "item_id": ITEM, "type": "click", "event_time_ms": now_ms}


def values_of(freshet: Freshet, topic: str) -> list[tuple[bytes, bytes, int]]:
    """Key, value and partition of a topic's records."""
    consumer = KafkaConsumer(bootstrap_servers=freshet.bootstrap, auto_offset_reset="earliest")
    where = [TopicPartition(freshet.topic[topic], number) for number in range(3)]
    try:
        consumer.assign(where)
        consumer.seek_to_beginning(*where)
        ends = consumer.end_offsets(where)
        found = []
        while any(consumer.position(one) < ends[one] for one in where):
            for records in consumer.poll(timeout_ms=200).values():
                found += [(record.key, record.value, record.partition) for record in records]
        return found
    finally:
        consumer.close(autocommit=False)


def test_a_shop_lives_by_http_alone(broker: BrokerProcess, unique: str) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    with working(freshet), gateway(freshet) as front:
        assert front.ask("GET", "/v1/users/u1/lists")[1]["error"] == "no_list"
        stream = urllib.request.urlopen(f"{front.url}/v1/users/u1/stream", timeout=WITHIN_S)
        assert front.ask("POST", "/v1/clicks", click("u1")) == (202, {"accepted": 1})
        event = next(line for line in stream if line.startswith(b"data: {"))
        stream.close()
        lists = front.await_status(200, "/v1/users/u1/lists")
        assert json.loads(event.removeprefix(b"data: ")) == lists
        assert lists["cause"]["topic"] == freshet.topic["clicks"]
        status, home = front.ask("GET", "/v1/users/u1/lists/home")
        assert (status, home["items"]) == (200, lists["lists"]["home"]["items"])

        # Every event to its user's partition, as it came.
        many = [click(f"user {number}") for number in range(100)]
        assert front.ask("POST", "/v1/clicks", many) == (202, {"accepted": 100})
        sent = values_of(freshet, "clicks")
        assert sorted(json.loads(value)["user_id"] for _, value, _ in sent) == sorted(
            ["u1", *(one["user_id"] for one in many)]
        )
        for key, value, partition in sent:
            assert key.decode() == json.loads(value)["user_id"]
            assert partition == partition_of(key, 3)

        status, told = front.ask("POST", "/v1/requests", {"user_id": "u1", "type": "list", "k": 3})
        assert (status, len(told["items"]), told["known_user"]) == (200, 3, True)

        status, receipt = front.ask("DELETE", "/v1/users/u1")
        assert (status, receipt["erasure"]["topic"]) == (200, freshet.topic["erasures"])
        front.await_status(404, "/v1/users/u1/lists")
        assert front.ask("GET", "/v1/users/user%205/lists")[0] == 200
        interrupt(front.process)
        assert front.process.returncode == 0


def test_a_view_is_read_anew_by_partitions(broker: BrokerProcess, unique: str) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    lists = freshet.topic["recommendations"]
    with producing(broker.bootstrap) as producer:
        for number in range(30):
            for value in (b'{"old": 1}', b'{"new": %d}' % number):
                producer.send(lists, key=b"u%d" % number, value=value)
        producer.send(lists, key=b"u29", value=None)
        producer.flush()
    with gateway(freshet, "--partitions", "0-1") as front:
        held = 0
        for number in range(29):
            status, body = front.ask("GET", f"/v1/users/u{number}/lists")
            if partition_of(b"u%d" % number, 3) == 2:
                assert (status, body["partition"]) == (421, 2)
            else:
                assert (status, body) == (200, {"new": number})
                held += 1
        assert 0 < held < 29
        assert front.ask("GET", "/v1/users/u29/lists")[0] in (404, 421)
    said = freshet.run("gateway", "--partitions", "0-3", code=2)
    assert "must lie within 0-2" in said


def test_lists_are_read_while_the_broker_is_away(own_broker: BrokerProcess, unique: str) -> None:
    freshet = Freshet(own_broker.bootstrap, unique)
    freshet.run("topics", "create")
    with producing(own_broker.bootstrap) as producer:
        lists = freshet.topic["recommendations"]
        producer.send(lists, key=b"u1", value=b'{"lists":{}}').get(20)
    with gateway(freshet, FRESHET_GATEWAY_SEND_TIMEOUT_S="1") as front:
        own_broker.kill()
        killed_s = began_s = time.monotonic()
        assert front.ask("POST", "/v1/clicks", click("u1"))[0] == 503
        assert time.monotonic() - began_s < 5
        told = front.await_status(503, "/readyz")
        assert "no broker answers" in told["reason"]
        assert front.ask("GET", "/v1/users/u1/lists") == (200, {"lists": {}})
        began_s = time.monotonic()
        assert front.ask("DELETE", "/v1/users/u1")[1]["error"] == "broker_away"
        assert time.monotonic() - began_s < 1
        time.sleep(AWAY_S)
        complaints = front.complaints()
        assert complaints
        assert max(complaints.values()) <= 1 + (time.monotonic() - killed_s) // 10, complaints
        if own_broker.kind == "kafka":  # the other one forgets its topics
            own_broker.start()
            front.await_status(200, "/readyz")
            status = 0
            end_s = time.monotonic() + WITHIN_S
            while status != 202 and time.monotonic() < end_s:
                status, _ = front.ask("POST", "/v1/clicks", click("u1"))
            assert status == 202
        interrupt(front.process)
