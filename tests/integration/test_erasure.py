"""Forgetting on a real broker: what is left of a user in log files and memory, and what comes back.

The topics compact within seconds here, where `freshet topics create` gives them a day.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from stream.contracts import Receipt, decode_record
from stream.demo import sample
from stream.kafka.admin import open_admin
from stream.kafka.broker import BrokerProcess
from stream.kafka.cluster import Cluster
from tests.support.compaction import SOON
from tests.support.freshet import Freshet, interrupt, producing, wait_for

WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
    "FRESHET_PRIVACY_OVERWRITE_MEMORY": "true",
    "FRESHET_STATISTICS_TELL_EVERY_S": "1",
    "FRESHET_STATISTICS_TRENDING_EVERY_S": "1",
}
GONE_WITHIN_S = 40.0
SECRET = "swordfish-" * 4
HASH = re.compile(r"[0-9a-f]{32}")


@contextlib.contextmanager
def working(freshet: Freshet) -> Iterator[Popen[str]]:
    with freshet.start("worker", environ=WORKER) as worker:
        wait_for(worker, "took partitions")
        yield worker


def changelog(freshet: Freshet) -> str:
    return f"{freshet.environ['FRESHET_GROUP']}-interests-changelog"


def forgetful_topics(freshet: Freshet) -> list[str]:
    """Topics that Freshet clears, set to compact at once."""
    freshet.run("topics", "create")
    kept = [changelog(freshet), freshet.topic["recommendations"], freshet.topic["erasures"]]
    with open_admin(Cluster(freshet.bootstrap)) as admin:
        admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, topic, configs={**SOON, **extra})
                for topic, extra in zip(
                    kept,
                    ({"max.message.bytes": str(8 << 20)}, {"max.message.bytes": str(4 << 20)}, {}),
                    strict=True,
                )
            ]
        )
    return kept


def click(freshet: Freshet, user: str, *options: str) -> None:
    freshet.run("send", "click", "--user", user, "--item", "85123A", *options)


def others_click(freshet: Freshet) -> None:
    """Traffic in every partition: the last batch of a partition is held until the next one."""
    event = {"item_id": "85123A", "type": "click", "event_time_ms": time.time_ns() // 1_000_000}
    with producing(freshet.bootstrap) as producer:
        for number in range(50):
            user = f"other-{number}"
            value = json.dumps({**event, "user_id": user}).encode()
            producer.send(freshet.topic["clicks"], key=user.encode(), value=value)


def files_with(data: Path, topics: list[str], needle: bytes) -> list[str]:
    """Log and index files of these topics that hold the bytes."""
    found = []
    for topic in topics:
        for file in data.glob(f"{topic}-*/*"):
            with contextlib.suppress(FileNotFoundError):  # compaction replaces files
                if needle in file.read_bytes():
                    found.append(f"{file.parent.name}/{file.name}")
    return found


def in_memory(pid: int, needle: bytes) -> int:
    """How often the bytes stand in a process's memory."""
    count = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, rights, *_ = line.split()
            if "r" not in rights or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(number, 16) for number in where.split("-"))
            memory.seek(start)
            with contextlib.suppress(OSError):
                count += memory.read(end - start).count(needle)
    return count


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


def receipts_of(freshet: Freshet) -> list[tuple[bytes, bytes]]:
    return [(record.key, record.value) for record in records_of(freshet, freshet.topic["receipts"])]


@pytest.mark.kafka_only
def test_nothing_is_left_of_a_forgotten_user_but_a_hash(
    own_broker: BrokerProcess, unique: str
) -> None:
    freshet = Freshet(own_broker.bootstrap, unique)
    cleared = forgetful_topics(freshet)
    somebody, needle = f"somebody-{unique}-{unique}", f"somebody-{unique}".encode()
    data = own_broker.data  # type: ignore[attr-defined]
    with working(freshet) as worker:
        for _ in range(3):
            click(freshet, somebody, "--wait")
        click(freshet, "else", "--wait")
        assert files_with(data, cleared, needle), "the search finds what is there"
        assert in_memory(worker.pid, needle)
        shown = freshet.run("forget", somebody, "--json")
        receipts = [json.loads(line) for line in shown.splitlines()]
        assert len(receipts) == 3, "one a partition"
        assert all(HASH.fullmatch(receipt["user_hash"]) for receipt in receipts)
        others = receipts[0]["without_user_ids"]
        assert {*receipts[0]["removed"], freshet.topic["erasures"]} == set(cleared)
        kept = [*cleared, *others]

        assert "new list" not in freshet.run(
            "send",
            "click",
            "--user",
            somebody,
            "--item",
            "22423",
            "--time-ms",
            str(receipts[0]["erasure"]["event_time_ms"]),
            "--wait",
            "--timeout",
            "2",
            code=1,
        )
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := files_with(data, kept, needle):
            assert time.monotonic() < deadline, left
            click(freshet, "else")  # a segment is closed when something follows it
            for partition in range(3):
                with producing(freshet.bootstrap) as producer:
                    for topic in cleared[1:3]:
                        producer.send(topic, key=b"else", value=None, partition=partition)
            time.sleep(1)
        assert any(
            files_with(data, cleared, bytes.fromhex(receipt["user_hash"])) for receipt in receipts
        ), "the mark stays"
        deadline = time.monotonic() + GONE_WITHIN_S
        while left := in_memory(worker.pid, needle):
            assert time.monotonic() < deadline, f"{left} times in the worker's memory"
            others_click(freshet)
            time.sleep(0.5)
        interrupt(worker)
        assert all(records_of(freshet, topic) for topic in others), "what was searched is there"
        assert not files_with(data, others, needle)


@pytest.mark.kafka_only
def test_with_a_secret_the_changelog_names_nobody(broker: BrokerProcess, unique: str) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.environ["FRESHET_PRIVACY_SECRET"] = SECRET
    freshet.run("topics", "create")
    somebody = f"somebody-{unique}"
    with working(freshet) as worker:
        shown = freshet.run(
            "send", "click", "--user", somebody, "--item", "85123A", "--wait", "--json"
        )
        assert json.loads(shown.splitlines()[1])["user_id"] == somebody
        keys = {record.key for record in records_of(freshet, changelog(freshet))}
        assert {len(key) for key in keys if key[:1] != b"\xff"} == {32}
        assert somebody.encode() not in b"".join(keys)
        said = interrupt(worker)
        assert SECRET not in said
        assert somebody not in said
    with working(freshet) as worker:  # the same secret finds the same users
        freshet.run("forget", somebody)
        interrupt(worker)
    del freshet.environ["FRESHET_PRIVACY_SECRET"]
    for secret, message in (
        ({"FRESHET_PRIVACY_SECRET": SECRET[::-1]}, "a different one"),
        ({}, "none"),
    ):
        with freshet.start("worker", environ=WORKER | secret) as worker:
            _, said = worker.communicate(timeout=60)
        assert worker.returncode == 70
        assert f"made with another secret and this worker has {message}" in said
        assert "FRESHET_PRIVACY_SECRET" in said
        assert "Traceback" not in said


def test_forgetting_without_a_worker_says_that_nothing_is_lost(
    broker: BrokerProcess, unique: str
) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    assert "freshet topics create" in freshet.run("forget", "u1", code=1)
    freshet.run("topics", "create")
    shown = freshet.run("forget", "u1", "--timeout", "1", code=1)
    assert "3 of 3 receipts did not come" in shown
    assert "will be carried out once one reads it" in shown
    assert "7 days" in shown
    assert "event_time_too_old" in freshet.run("forget", "u1", "--time-ms", "5", code=2)
    assert "empty_id" in freshet.run("forget", "", code=2)
    with working(freshet) as worker:
        deadline = time.monotonic() + 20
        while len(receipts_of(freshet)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        interrupt(worker)
    for key, value in receipts_of(freshet):
        receipt = decode_record(Receipt, value)
        assert key.decode() == receipt.user_hash
        assert b"u1" not in key + value
        if broker.kind == "kafka":
            assert receipt.copies_until_ms[freshet.topic["clicks"]] is not None
            assert receipt.copies_unknown == ()
        else:  # it tells no settings but those that a topic was made with
            assert receipt.copies_until_ms.keys() == {freshet.topic["erasures"]}
            assert freshet.topic["clicks"] in receipt.copies_unknown
