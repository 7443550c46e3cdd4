"""Requests through a worker and a broker: answered at least once, and kept apart from states."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from subprocess import Popen
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.contracts import partition_of
from stream.demo import sample
from stream.kafka.applied import APPLIED_KEY
from stream.kafka.broker import BrokerProcess
from tests.support.freshet import Freshet, interrupt, producing, wait_for

WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
}
COUNTS = b"\xff\x03"  # how keys of items' counts begin
WITHIN_S = 30.0


@contextlib.contextmanager
def working(freshet: Freshet, **environ: str) -> Iterator[Popen[str]]:
    with freshet.start("worker", environ=WORKER | environ) as worker:
        wait_for(worker, "took partitions")
        yield worker


def records_of(freshet: Freshet, topic: str) -> list[Any]:
    """All records of a topic."""
    consumer = KafkaConsumer(bootstrap_servers=freshet.bootstrap, auto_offset_reset="earliest")
    where = [TopicPartition(topic, number) for number in range(3)]
    try:
        consumer.assign(where)
        consumer.seek_to_beginning(*where)
        ends = consumer.end_offsets(where)
        found = []
        while any(consumer.position(one) < ends[one] for one in where):
            for records in consumer.poll(timeout_ms=200).values():
                found += records
        return found
    finally:
        consumer.close(autocommit=False)


def answers_of(freshet: Freshet, *request_ids: str) -> list[Any]:
    """The records on `answers` once each of these requests has one."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = records_of(freshet, freshet.topic["answers"])
        answered = {json.loads(record.value)["request_id"] for record in found}
        if set(request_ids) <= answered:
            return found
        assert time.monotonic() < deadline, set(request_ids) - answered
        time.sleep(0.2)


def send(freshet: Freshet, *values: dict[str, Any] | bytes, user: str = "u") -> None:
    with producing(freshet.bootstrap) as producer:
        for value in values:
            fields = value if isinstance(value, bytes) else json.dumps(value).encode()
            producer.send(freshet.topic["requests"], key=user.encode(), value=fields).get(20)


def click_from(freshet: Freshet, country: str, item_id: str, users: list[str]) -> None:
    """A click of each of these users, who are in a country."""
    with producing(freshet.bootstrap) as producer:
        for user in users:
            event = {"user_id": user, "item_id": item_id, "type": "click"}
            event |= {"event_time_ms": time.time_ns() // 1_000_000}  # type: ignore[dict-item]
            event |= {"properties": {"country": country}}  # type: ignore[dict-item]
            value = json.dumps(event).encode()
            producer.send(freshet.topic["clicks"], key=user.encode(), value=value)
        producer.flush()


def await_first(freshet: Freshet, country: str, item_id: str) -> None:
    """Ask for a guest's list there until it begins with the item: counts come to be told."""
    deadline, number = time.monotonic() + WITHIN_S, 0
    while True:
        request = {"request_id": f"{country}{number}", "user_id": "guest", "type": "list"}
        send(freshet, request | {"properties": {"country": country}}, user="guest")
        answers_of(freshet, request["request_id"])
        answers = [
            json.loads(record.value) for record in records_of(freshet, freshet.topic["answers"])
        ]
        (answer,) = [a for a in answers if a["request_id"] == request["request_id"]]
        if answer["items"][0]["item_id"] == item_id:
            return
        assert time.monotonic() < deadline, answer["items"][:2]
        number += 1


def test_a_worker_answers_requests(broker: BrokerProcess, unique: str) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    counting = {"CONTEXTS": "country", "TELL_EVERY_S": "0.2"}
    environ = {f"FRESHET_STATISTICS_{name}": value for name, value in counting.items()}
    with working(freshet, **environ) as worker:
        click = ("click", "--user", "u", "--item", "85123A")
        sent = freshet.run("send", *click, "--wait", "--json").splitlines()
        listed = json.loads(sent[1])["lists"]["home"]["items"]
        told = json.loads(freshet.run("ask", "list", "--user", "u", "--json"))
        words = {item["reason"].pop("words") for item in told["items"]}
        assert told["items"] == listed
        assert words <= {"You clicked 85123A", "Popular now"}
        assert told["request_to_answer_ms"] < 1000 * WITHIN_S
        shown = freshet.run("ask", "explain", "--user", "u", "--candidate", "22423")
        assert "You clicked " in shown

        about_u: list[dict[str, Any]] = [
            {"type": "list", "k": 5},
            {
                "type": "rank",
                **{"candidates": ["22423", "who"], "relevance": [3, 7], "weight": 1},
            },
            {"type": "similar", "item_id": "85123A", "k": 3},
            {"type": "together", "item_id": "85123A", "k": 3},
            {"type": "state"},
            {"type": "trending"},
            {"type": "list", "deadline_ms": 1_000_000_000_000},
        ]
        requests = [
            {"request_id": f"r{number}", "user_id": "u", **fields}
            for number, fields in enumerate(about_u)
        ]
        bad = {"request_id": "nowhere", "user_id": "u", "type": "list", "placement": "nowhere"}
        send(freshet, *requests[:3], b"{not json", bad, *requests[3:])
        guest = {"request_id": "guest", "user_id": "guest", "type": "list", "k": 5}
        send(freshet, guest, user="guest")
        found = answers_of(freshet, "guest", *(request["request_id"] for request in requests))
        for record in found:
            assert record.key.decode() == json.loads(record.value)["user_id"]
            assert record.partition == partition_of(record.key, 3)
        by_id = {(a := json.loads(record.value))["request_id"]: a for record in found}
        assert [item["item_id"] for item in by_id["r0"]["items"]] == [
            item["item_id"] for item in listed[:5]
        ]
        assert [(i["item_id"], i.get("mark")) for i in by_id["r1"]["items"]] == [
            ("who", "unknown"),
            ("22423", None),
        ]
        assert [len(by_id[name]["items"]) for name in ("r2", "r3")] == [3, 3]
        state = by_id["r4"]["state"]
        assert [done["item_id"] for done in state["interactions"]] == ["85123A"]
        assert by_id["r5"]["status"] == "answered"
        assert (by_id["r6"]["status"], by_id["r6"]["items"]) == ("late", [])
        assert (by_id["guest"]["known_user"], len(by_id["guest"]["items"])) == (False, 5)
        assert {i["reason"]["code"] for i in by_id["guest"]["items"]} == {"popular"}
        deadline = time.monotonic() + WITHIN_S
        while len(letters := records_of(freshet, freshet.topic["dead_letters"])) < 2:
            assert time.monotonic() < deadline
        assert [dict(letter.headers)["freshet-reason"] for letter in letters] == [
            b"not_json",
            b"unknown_placement",
        ]
        there = {"DE": "22423", "FR": "47566"}
        crowd = {country: [f"{country}-{n}" for n in range(200)] for country in there}
        for country, item_id in there.items():
            click_from(freshet, country, item_id, crowd[country])
        for country, item_id in there.items():
            await_first(freshet, country, item_id)
        interrupt(worker)
    changelog = records_of(freshet, f"{freshet.environ['FRESHET_GROUP']}-interests-changelog")
    keys = {one.key for one in changelog if one.key[:2] != COUNTS}
    users = {user.encode() for of_country in crowd.values() for user in of_country}
    assert keys - {APPLIED_KEY} == {b"u"} | users, "no guest got a state"
    for one in changelog:
        if one.key == APPLIED_KEY:
            assert freshet.topic["requests"] not in json.loads(one.value)["next"]


def test_requests_from_before_a_crash_are_answered(broker: BrokerProcess, unique: str) -> None:
    """None is lost, and the same request gives the same answer once more."""
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    asked = [f"r{number}" for number in range(150)]
    with working(freshet, FRESHET_BROKER_COMMIT_EVERY_S="3600") as worker:
        send(freshet, *({"request_id": r, "user_id": "u", "type": "list"} for r in asked[:100]))
        first = {
            json.loads(record.value)["request_id"]: json.loads(record.value)["items"]
            for record in answers_of(freshet, *asked[:100])
        }
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    send(freshet, *({"request_id": r, "user_id": "u", "type": "list"} for r in asked[100:]))
    with working(freshet) as worker:
        found = answers_of(freshet, *asked)
        interrupt(worker)
    answers = [json.loads(record.value) for record in found]
    again = [a for a in answers if a["request_id"] in first]
    assert len(again) > len(first), "what was not committed is answered again"
    assert all(a["items"] == first[a["request_id"]] for a in again)
