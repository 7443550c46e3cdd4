"""Topics are created as the contracts say, and every way to get them wrong is found with a cure."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from stream.config import Placement, Settings, Topics, load_settings
from stream.demo import sample
from stream.errors import BrokerError, TopicError
from stream.kafka.admin import open_admin
from stream.kafka.broker import BrokerProcess, free_port
from stream.kafka.sizes import changelog_batch_bytes, dead_letter_bytes
from stream.kafka.specs import changelog_topic
from stream.kafka.topics import (
    check_topics,
    create_topics,
    require_topics,
    wanted_topics,
)
from tests.support.kafka import ROOT

PARTITIONS = 3
NAMES = [
    field
    for field in msgspec.structs.asdict(Topics())
    if field not in ("partitions", "replication")
]


@pytest.fixture
def settings(broker: BrokerProcess, unique: str) -> Settings:
    flags = {f"topics.{name}": f"{name}-{unique}" for name in NAMES}
    flags |= {"topics.partitions": str(PARTITIONS), "bootstrap": broker.bootstrap}
    return load_settings(None, {**flags, "group": unique}, environ={})


def _create(settings: Settings, name: str, partitions: int = PARTITIONS, **config: str) -> None:
    spec: dict[str, Any] = {"num_partitions": partitions, "replication_factor": 1}
    spec["configs"] = {key.replace("_", "."): value for key, value in config.items()}
    with open_admin(settings.bootstrap) as admin:
        admin.create_topics({name: spec}, wait_for_metadata=True)


def test_creates_what_is_missing_and_then_finds_no_fault(settings: Settings) -> None:
    names = [spec.name for spec in wanted_topics(settings)]
    assert len(set(names)) == 12
    assert [fault.topic for fault in check_topics(settings)] == names
    assert create_topics(settings) == names
    assert check_topics(settings) == []
    require_topics(settings)
    assert create_topics(settings) == []


def test_gives_each_topic_its_partitions_and_configuration(settings: Settings) -> None:
    create_topics(settings)
    wanted = {spec.name: spec.config for spec in wanted_topics(settings)}
    with open_admin(settings.bootstrap) as admin:
        topics = admin.describe_topics(list(wanted))
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
        found = admin.describe_configs(resources, config_filter="all")["topic"]
    assert {topic["name"]: len(topic["partitions"]) for topic in topics} == dict.fromkeys(
        wanted, PARTITIONS
    )
    for name, config in wanted.items():
        assert {key: found[name][key]["value"] for key in config} == config
    assert found[settings.topics.recommendations]["cleanup.policy"]["value"] == "compact,delete"
    assert found[settings.topics.clicks]["cleanup.policy"]["value"] == "delete"
    changelog = found[changelog_topic(settings)]
    assert changelog["cleanup.policy"]["value"] == "compact"
    assert int(changelog["max.message.bytes"]["value"]) >= 8 << 20


def test_leaves_an_existing_topic_alone_and_creates_the_others(settings: Settings) -> None:
    _create(settings, settings.topics.clicks, partitions=1, cleanup_policy="delete")
    assert settings.topics.clicks not in create_topics(settings)
    (fault,) = check_topics(settings)
    assert fault.topic == settings.topics.clicks
    assert fault.fault == f"has 1 partitions, topics.partitions is {PARTITIONS}"
    assert "a user's events and state do not meet" in fault.cure
    with pytest.raises(TopicError, match=f"topic {settings.topics.clicks} has 1 partitions"):
        require_topics(settings)


def test_dead_letters_are_made_to_take_what_the_sources_take(settings: Settings) -> None:
    _create(settings, settings.topics.items, cleanup_policy="compact", max_message_bytes="5000000")
    assert settings.topics.dead_letters in create_topics(settings)
    assert check_topics(settings) == []
    with open_admin(settings.bootstrap) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, settings.topics.dead_letters)
        told = admin.describe_configs([resource], config_filter="all")["topic"]
    limit = told[settings.topics.dead_letters]["max.message.bytes"]["value"]
    assert int(limit) == dead_letter_bytes(5_000_000)


def test_topics_that_agree_among_themselves_need_another_setting(settings: Settings) -> None:
    create_topics(settings)
    flags = {"bootstrap": settings.bootstrap, "group": settings.group, "topics.partitions": "4"}
    flags |= {f"topics.{name}": getattr(settings.topics, name) for name in NAMES}
    faults = check_topics(load_settings(None, flags, environ={}))
    assert len(faults) == 12
    assert all("FRESHET_TOPICS_PARTITIONS) to 3" in fault.cure for fault in faults)


def test_finds_a_wrong_cleanup_policy(settings: Settings) -> None:
    _create(settings, settings.topics.clicks, cleanup_policy="compact")
    _create(settings, settings.topics.recommendations, cleanup_policy="compact")
    create_topics(settings)
    clicks, recommendations = check_topics(settings)
    assert clicks.fault == "has cleanup.policy=compact and needs delete"
    assert "--add-config 'cleanup.policy=[delete]'" in clicks.cure
    assert recommendations.fault == "has cleanup.policy=compact and needs compact,delete"


def test_tells_of_erasures_that_would_not_wait_for_a_worker(settings: Settings) -> None:
    _create(settings, settings.topics.erasures, cleanup_policy="compact,delete", retention_ms="1")
    create_topics(settings)
    (fault,) = check_topics(settings)
    assert "retention.ms=1" in fault.fault
    require_topics(settings)  # a worker runs with it all the same


def test_finds_a_changelog_too_narrow_for_a_micro_batch(settings: Settings) -> None:
    _create(
        settings,
        changelog_topic(settings),
        cleanup_policy="compact",
        max_message_bytes=str(changelog_batch_bytes(settings) - 1),
    )
    create_topics(settings)
    (fault,) = check_topics(settings)
    assert fault.topic == changelog_topic(settings)
    assert "a micro-batch can take" in fault.fault
    assert "FRESHET_BATCH_MAX_EVENTS" in fault.cure


def test_finds_lists_and_dead_letters_too_narrow(settings: Settings) -> None:
    narrow = {"cleanup_policy": "delete", "max_message_bytes": "1048588"}
    _create(settings, settings.topics.dead_letters, **narrow)
    narrow["cleanup_policy"] = "compact,delete"
    _create(settings, settings.topics.recommendations, **narrow)
    create_topics(settings)
    (dead_letters,) = check_topics(settings)
    assert "and a whole dead letter can take" in dead_letters.fault
    require_topics(settings)  # a worker cuts such a letter
    long = msgspec.structs.replace(
        settings,
        placements={"a": Placement(k=1000)}
        | {str(number): Placement(k=1000) for number in range(2)},
    )
    recommendations, _ = check_topics(long)
    assert "and a user's lists can take" in recommendations.fault
    assert "lower their k" in recommendations.cure


WORKERS = ["stream.cli worker", "faust -A stream.app worker"]


def _run_worker(settings: Settings, command: str) -> str:
    """What a worker prints that is refused at its start."""
    environ = {"FRESHET_BOOTSTRAP": settings.bootstrap, "FRESHET_GROUP": settings.group}
    environ |= {f"FRESHET_TOPICS_{n.upper()}": getattr(settings.topics, n) for n in NAMES}
    environ |= {"FRESHET_TOPICS_PARTITIONS": str(PARTITIONS), "FRESHET_METRICS_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=ROOT,
        env=os.environ | environ | {"FRESHET_BUNDLE": str(sample.BUNDLE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("command", WORKERS)
def test_a_worker_refuses_topics_that_do_not_fit(settings: Settings, command: str) -> None:
    _create(settings, settings.topics.recommendations, 1, cleanup_policy="compact,delete")
    create_topics(settings, [s for s in wanted_topics(settings) if "receipts" not in s.name])
    said = _run_worker(settings, command)
    assert f"topic {settings.topics.recommendations} has 1 partitions" in said
    assert f"topic {settings.topics.receipts} is missing: run `freshet topics create" in said
    with open_admin(settings.bootstrap) as admin:
        assert settings.topics.receipts not in admin.list_topics()


@pytest.mark.kafka_only
def test_a_replication_that_the_cluster_cannot_give_is_refused_with_a_cure(
    settings: Settings,
) -> None:
    flags = {f"topics.{name}": getattr(settings.topics, name) for name in NAMES}
    flags |= {"bootstrap": settings.bootstrap, "topics.replication": "3", "group": settings.group}
    with pytest.raises(TopicError, match=r"lower topics\.replication"):
        create_topics(load_settings(None, flags, environ={}))


def test_nobody_at_the_address_is_an_error_with_a_cure() -> None:
    address = f"127.0.0.1:{free_port()}"
    settings = load_settings(None, {"bootstrap": address}, environ={})
    with pytest.raises(BrokerError, match=f"no Kafka broker answers at {address}: start one"):
        check_topics(settings)
