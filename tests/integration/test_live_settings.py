"""A worker's settings file changes while events flow: its lists follow, or it says why not."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from stream.config import load_settings
from stream.kafka.broker import BrokerProcess
from stream.revision import revision_of
from tests.support.bundles import random_decay_bundle
from tests.support.freshet import Freshet, interrupt, producing, wait_for

WORKER = {
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
}
FIRST = "[placements.home]\nk = 10\n[placements.mail]\nk = 2\n"
SECOND = "[placements.home]\nk = 4\n[[placements.home.pins]]\nitem = 'i30'\nplace = 2\n"
SECOND += "[weights]\nclick = 0.9\nhalf_lives_s = [86400, 600]\n"
WRONG = SECOND.replace("k = 4", "k = 3").replace("place = 2", "place = 5")
WITHIN_S = 20.0  # on a machine that does much else; `live.LOOK_EVERY_S` says what it takes


def flowing(freshet: Freshet) -> Iterator[Any]:
    """A click every 20 ms, and the records that come of them."""
    topic = freshet.topic["recommendations"]
    consumer: Any = KafkaConsumer(bootstrap_servers=freshet.bootstrap, group_id=None)
    where = [TopicPartition(topic, number) for number in range(3)]
    consumer.assign(where)
    consumer.seek_to_beginning(*where)
    try:
        with producing(freshet.bootstrap) as producer:
            for number in range(10**6):
                event = {
                    "user_id": f"u{number % 50}",
                    "item_id": "i7",
                    "type": "click",
                    "event_time_ms": time.time_ns() // 1_000_000,
                }
                key = event["user_id"].encode()
                producer.send(freshet.topic["clicks"], key=key, value=json.dumps(event).encode())
                for records in consumer.poll(timeout_ms=20).values():
                    for record in records:
                        yield json.loads(record.value)
    finally:
        consumer.close(autocommit=False)


def until(records: Iterator[Any], holds: Callable[[Any], bool]) -> float:
    """Seconds until a record comes for which something holds."""
    begun_s = time.monotonic()
    for record in records:
        if holds(record):
            break
        assert time.monotonic() - begun_s < WITHIN_S, record["settings"]
    return time.monotonic() - begun_s


def put(path: Path, text: str) -> str:
    """Replace the file as an editor does; its revision, if it has one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
    if text == WRONG:
        return ""
    settings = load_settings(path, environ={})
    return revision_of(settings.placements, settings.weights)


def metrics(url: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return set(answer.read().decode().splitlines())


def test_lists_follow_the_file(
    broker: BrokerProcess, unique: str, tmp_path: Path, record_property: Callable[..., None]
) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    path = tmp_path / "freshet.toml"
    first = put(path, FIRST)
    bundle = random_decay_bundle(tmp_path / "bundle", 50, dim=16)
    environ = {**WORKER, "FRESHET_CONFIG": str(path), "FRESHET_BUNDLE": str(bundle.path)}
    with freshet.start("worker", environ=environ) as worker:
        url = wait_for(worker, "metrics and health on").split()[-1]
        wait_for(worker, "took partitions")
        seen: dict[str, set[tuple[int, bool]]] = {}

        def noted() -> Iterator[Any]:
            for record in flowing(freshet):
                items = [item["item_id"] for item in record["lists"]["home"]["items"]]
                seen.setdefault(record["settings"], set()).add((len(items), items[1] == "i30"))
                yield record

        records = noted()
        until(records, lambda record: record["settings"] == first)
        assert any('placement="mail"' in line for line in metrics(url))
        second = put(path, SECOND)
        record_property("taken_s", until(records, lambda record: record["settings"] == second))
        assert "weights.click, weights.half_lives_s" in wait_for(worker, f"{second} instead of")
        put(path, WRONG)
        said = wait_for(worker, "nothing of the changed settings is taken")
        assert f"{path}:5: placements.home.pins[0].place: is 5" in said
        newest = time.time_ns() // 1_000_000
        until(records, lambda record: record["generated_ms"] > newest)
        assert {
            f'freshet_settings_info{{revision="{second}"}} 1.0',
            "freshet_settings_refusals_total 1.0",
            "freshet_settings_refused 1.0",
        } <= metrics(url)
        assert not [line for line in metrics(url) if 'placement="mail"' in line]
        put(path, FIRST)
        newest = time.time_ns() // 1_000_000
        until(records, lambda r: r["settings"] == first and r["generated_ms"] > newest)
        assert "freshet_settings_refused 0.0" in metrics(url)
        # Each record is by one of the two, whole.
        assert seen == {first: {(10, False)}, second: {(4, True)}}
        interrupt(worker)
