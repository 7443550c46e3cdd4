"""Producers in other languages, and the examples of deploy/asyncapi.yaml, through one worker.

Each program of stream/README.md sends the same events. They must lie in the partitions that murmur2
says, byte by byte as they were sent, and the changelog must hold the states of the reference fold.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from stream.contracts import partition_of
from stream.core.bundle import Bundle
from stream.demo import sample
from stream.kafka.broker import BrokerProcess
from tests.chaos import decode
from tests.chaos.fold import Arithmetic, Reference
from tests.support import asyncapi, clients
from tests.support.examples import TIME_MS, USER
from tests.support.freshet import Freshet, interrupt, producing, wait_for

pytestmark = [pytest.mark.kafka_only, pytest.mark.xdist_group("clients")]

WITHIN_S = 60.0
PARTITIONS = 3
DOCUMENT = msgspec.yaml.decode(asyncapi.PATH.read_text(encoding="utf-8"))
MESSAGES = DOCUMENT["components"]["messages"]
# Of every length of a word and its rest, with a highest bit in the bytes of some, of 256 bytes.
NAMES = [*("abcdefghi"[:n] for n in range(1, 10)), "ü", "Ωmega", "日本", "🙂" * 3, "z" * 200]
WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
}


class Site:
    """A worker with its topics, and what stands on these."""

    def __init__(self, bootstrap: str) -> None:
        self.freshet = Freshet(bootstrap, uuid.uuid4().hex[:8])
        self.freshet.environ["FRESHET_TOPICS_PARTITIONS"] = str(PARTITIONS)
        self.topic = self.freshet.topic
        self.changelog = f"{self.freshet.environ['FRESHET_GROUP']}-interests-changelog"

    def records(self, topic: str) -> list[ConsumerRecord]:
        """Everything that is on a topic, in the order of each partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.freshet.bootstrap, group_id=None)
        try:
            parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            consumer.assign(parts)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(parts)
            found: list[ConsumerRecord] = []
            while any(consumer.position(part) < ends[part] for part in parts):
                for records in consumer.poll(timeout_ms=200).values():
                    found += records
            return found
        finally:
            consumer.close()

    def wait_for(self, topic: str, enough: Callable[[list[ConsumerRecord]], bool]) -> None:
        """Read a topic again and again until that is there, or the time is over."""
        deadline = time.monotonic() + WITHIN_S
        while not enough(self.records(topic)):
            assert time.monotonic() < deadline, f"{topic}: {self.records(topic)}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def site(broker: BrokerProcess) -> Iterator[Site]:
    site = Site(broker.bootstrap)
    site.freshet.run("topics", "create")
    with producing(broker.bootstrap) as producer:
        for key, value in sample.catalogue():
            producer.send(site.topic["items"], key=key, value=value)
        producer.flush()
    with site.freshet.start("worker", environ=WORKER) as worker:
        wait_for(worker, "took partitions")
        yield site
        interrupt(worker)


@pytest.fixture(scope="module")
def arithmetic() -> Arithmetic:
    return Arithmetic(Bundle.load(sample.BUNDLE), {})


def events_of(prefix: str) -> tuple[list[bytes], list[bytes]]:
    """Clicks, and purchases of other users: each user's in order, the users in turns."""
    items = [key.decode() for key, _ in sample.catalogue()]
    clicks, purchases = [], []
    for step in range(3):
        for number, name in enumerate(NAMES):
            event = {
                "user_id": f"{prefix}{name}",
                "item_id": items[(number + step) % len(items)],
                "type": ("view", "click", "add_to_cart")[step],
                "event_time_ms": TIME_MS + 60_000 * step,
                "event_id": f"{name}{step}",
                "title": "Ω\u2028",  # an unknown field, with what some take for the end of a line
            }
            clicks.append(json.dumps(event, ensure_ascii=bool(number % 2)).encode())
            event |= {"user_id": f"{prefix}{name}/buys", "type": "purchase", "unit_price": 2.5}
            purchases.append(json.dumps(event).encode())
    # A number as an id; beyond 2^53 it is no number in Node.
    number_id = int.from_bytes(prefix.encode()[:4], "big")
    event = {**json.loads(clicks[0]), "user_id": number_id, "item_id": 22423}
    clicks.append(json.dumps(event).encode())
    return clicks, purchases


def by_user(events: list[bytes]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for event in events:
        found[str(json.loads(event)["user_id"]).encode()].append(event)
    return found


def require(name: str) -> None:
    """Skips where a client cannot run; REQUIRE_JDK=1 and REQUIRE_NODE=1 make that a failure."""
    if reason := clients.why_missing(name):
        if clients.must_run(name):
            pytest.fail(f"{name} is required here: {reason}", pytrace=False)
        pytest.skip(f"no {name}: {reason}")


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_events_of_every_client_land_in_the_right_partition_and_state(
    site: Site, arithmetic: Arithmetic, name: str, tmp_path: Path
) -> None:
    require(name)
    topics = ("clicks", "purchases")
    sent = dict(zip(topics, map(by_user, events_of(f"{name}~")), strict=True))
    for topic, users in sent.items():
        events = [event for step in zip(*list(users.values())[:-1], strict=True) for event in step]
        events += list(users.values())[-1]
        clients.produce(name, tmp_path, site.freshet.bootstrap, site.topic[topic], events)

    for topic, users in sent.items():
        found: dict[bytes, list[ConsumerRecord]] = defaultdict(list)
        for record in site.records(site.topic[topic]):
            if record.key in users:
                found[record.key].append(record)
        assert {key: [r.value for r in records] for key, records in found.items()} == users
        for key, records in found.items():
            assert {r.partition for r in records} == {partition_of(key, PARTITIONS)}, key

    states = {}
    for users, types in zip(sent.values(), (decode.CLICKS, decode.PURCHASES), strict=True):
        for key, events in users.items():
            reference = Reference(arithmetic)
            for event in events:
                reference.fold(decode.event(key, event, types))
            states[key] = reference.encode()
    assert len(states) == 2 * len(NAMES) + 1

    def as_the_reference(records: list[ConsumerRecord]) -> bool:
        stored = {record.key: record.value for record in records}  # the newest of each
        return all(stored.get(key) == state for key, state in states.items())

    site.wait_for(site.changelog, as_the_reference)
    assert not [r for r in site.records(site.topic["dead_letters"]) if r.key in states]


def validator(schema: dict[str, Any]) -> Draft7Validator:
    return Draft7Validator({"components": DOCUMENT["components"], **schema})


def test_the_examples_of_the_document_go_through_a_worker(site: Site) -> None:
    operations = DOCUMENT["operations"].values()
    received = [o["channel"]["$ref"].split("/")[-1] for o in operations if o["action"] == "receive"]
    assert {"items", "clicks", "purchases", "erasures"} <= set(received)
    records = asyncapi.records()
    received.sort(key=lambda topic: (topic == "erasures", topic != "items"))

    with producing(site.freshet.bootstrap) as producer:
        for topic in received:
            name = records[topic].__name__
            field = MESSAGES[name]["bindings"]["kafka"]["key"]["description"].split()[0]
            for example in MESSAGES[name]["examples"]:
                payload = example["payload"]
                key, value = str(payload[field]).encode(), json.dumps(payload).encode()
                place = producer.send(site.topic[topic], key=key, value=value).get(timeout=10)
                if topic in ("clicks", "purchases"):  # before the erasure
                    cause = [site.topic[topic], place.partition, place.offset]
                    site.wait_for(site.topic["recommendations"], lambda r, c=cause: reflect(r, c))
        site.wait_for(site.topic["recommendations"], lambda r: newest(r, USER.encode()) is None)
        site.wait_for(site.topic["receipts"], bool)
        assert [r for r in site.records(site.topic["dead_letters"]) if r.key == key] == []
        producer.send(site.topic["clicks"], key=b"no-event", value=b'{"user_id": "no-event"}')
        producer.flush()
    site.wait_for(
        site.topic["dead_letters"], lambda r: newest(r, b"no-event") == b'{"user_id": "no-event"}'
    )
    for name, operation in DOCUMENT["operations"].items():
        if operation["action"] == "send":
            topic = operation["channel"]["$ref"].split("/")[-1]
            site.wait_for(site.topic[topic], bool)
            assert sent_as_told(site.records(site.topic[topic]), topic) > 0, name


def reflect(records: list[ConsumerRecord], place: list[Any]) -> bool:
    """Whether one of these lists has that event as its newest."""
    causes = [json.loads(record.value)["cause"] for record in records if record.value is not None]
    return place in [[cause["topic"], cause["partition"], cause["offset"]] for cause in causes]


def newest(records: list[ConsumerRecord], key: bytes) -> bytes | None:
    return {record.key: record.value for record in records}.get(key, b"")


def sent_as_told(records: list[ConsumerRecord], topic: str) -> int:
    """How many records of a worker are on a topic; each must be as the document says."""
    if topic == "dead_letters":
        headers = validator(MESSAGES["DeadLetter"]["headers"])
        for record in records:
            headers.validate({name: value.decode() for name, value in record.headers})
        return len(records)
    name = asyncapi.records()[topic].__name__
    valid = validator(MESSAGES[name]["payload"])
    nulls = [record for record in records if record.value is None]
    assert not nulls or f"{name}Null" in MESSAGES
    for record in records:
        if record.value is not None:
            valid.validate(json.loads(record.value))
    return len(records)


def test_the_document_is_what_the_standard_asks_for() -> None:
    require("node")
    packages = clients.fetch_packages()
    schema = packages / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    standard = Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))
    standard.validate(DOCUMENT)
    assert not standard.is_valid({**DOCUMENT, "channels": {"clicks": {"adress": "clicks"}}})
    assert not standard.is_valid(
        {
            **DOCUMENT,
            "operations": {"read": {**DOCUMENT["operations"]["receive_clicks"], "action": "read"}},
        }
    )


def test_other_packages_than_the_locked_ones_are_refused(tmp_path: Path) -> None:
    require("node")
    lock = json.loads((clients.PACKAGES / "package-lock.json").read_text(encoding="utf-8"))
    name = "@types/json-schema"
    entry = lock["packages"][f"node_modules/{name}"]
    wanted = {"dependencies": {name: entry["version"]}}
    sum_of_another = lock["packages"]["node_modules/kafkajs"]["integrity"]
    changed = {"": wanted, f"node_modules/{name}": {**entry, "integrity": sum_of_another}}
    (tmp_path / "package.json").write_text(json.dumps(wanted))
    (tmp_path / "package-lock.json").write_text(json.dumps({**lock, "packages": changed}))
    with pytest.raises(clients.ToolMissingError, match="EINTEGRITY"):
        clients.fetch_packages(tmp_path, tmp_path / "build")
    assert not (tmp_path / "build" / "packages.sha256").exists()
