"""Topics created and checked. In: settings. Out: what was created, or what is wrong with them.

How each is made stands in `specs`, what can be wrong in `faults`. Knows nothing of records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stream.config import Settings
from stream.errors import TopicError
from stream.kafka.admin import open_admin
from stream.kafka.cluster import Cluster
from stream.kafka.faults import (
    TopicFault,
    letter_bytes,
    limits_of,
    partition_faults,
    policy_faults,
    replica_faults,
    size_faults,
)
from stream.kafka.specs import TopicSpec, source_names, wanted_topics

__all__ = ["TopicFault", "check_topics", "create_topics", "require_topics", "wanted_topics"]

log = logging.getLogger(__name__)

# Kafka's error codes, https://kafka.apache.org/protocol#protocol_error_codes
_UNKNOWN_TOPIC = 3
_TOPIC_EXISTS = 36
_INVALID_REPLICATION = 38


def create_topics(settings: Settings, specs: Sequence[TopicSpec] | None = None) -> list[str]:
    """Create those of `specs` that are missing, and wait until they can be used.

    Without `specs` it is every topic that a worker needs. What exists is left as it is;
    `check_topics` says whether it will do.

    Returns
    -------
    Names of the topics created, in order of the table.

    Raises
    ------
    BrokerError
        The broker does not answer.
    TopicError
        The broker refuses to create a topic; others may have been created.
    """
    with open_admin(Cluster.of(settings)) as admin:
        present = set(admin.list_topics())
        specs = wanted_topics(settings) if specs is None else specs
        missing = [spec for spec in specs if spec.name not in present]
        letters = settings.topics.dead_letters
        created = _create(admin, settings, [spec for spec in missing if spec.name != letters])
        # The sources stand now, with the broker's own limit where they were made without one.
        for spec in missing:
            if spec.name == letters:
                needed = letter_bytes(settings, _configs(admin, source_names(settings)))
                wanted = max(needed, int(spec.config.get("max.message.bytes", 0)))
                spec.config["max.message.bytes"] = str(wanted)
                created += _create(admin, settings, [spec])
    return [spec.name for spec in missing if spec.name in created]


def _create(admin: KafkaAdminClient, settings: Settings, specs: Sequence[TopicSpec]) -> list[str]:
    """Create topics and wait until they can be used; those that somebody else made are left out."""
    if not specs:
        return []
    answer = admin.create_topics(
        {
            spec.name: {
                "num_partitions": settings.topics.partitions,
                "replication_factor": settings.topics.replication,
                "configs": spec.config,
            }
            for spec in specs
        },
        raise_errors=False,
    )
    created = []
    for topic in answer["topics"]:
        if topic["error_code"] == 0:
            created.append(topic["name"])
        elif topic["error_code"] != _TOPIC_EXISTS:  # somebody was quicker, just now
            raise _refused(settings, topic)
    admin.wait_for_topics([spec.name for spec in specs])
    return created


def check_topics(settings: Settings) -> list[TopicFault]:
    """Compare the topics on the broker with what a worker needs; change nothing.

    A configuration that the broker does not tell is taken to be right: the embedded broker tells
    only what a topic was created with.

    Raises
    ------
    BrokerError
        The broker does not answer.
    """
    specs = wanted_topics(settings)
    names = [spec.name for spec in specs]
    with open_admin(Cluster.of(settings)) as admin:
        found = {topic["name"]: topic for topic in admin.describe_topics(names)}
        present = [name for name in names if found[name]["error_code"] != _UNKNOWN_TOPIC]
        configs = _configs(admin, present)
    limits = limits_of(settings, configs)
    partitions = {name: len(found[name]["partitions"]) for name in present}
    faults = []
    for spec in specs:
        if spec.name not in partitions:
            cure = f"run `freshet topics create --bootstrap {settings.bootstrap}`"
            faults.append(TopicFault(spec.name, "is missing", cure))
            continue
        faults += partition_faults(settings, spec.name, partitions)
        faults += replica_faults(settings, found[spec.name])
        config = configs.get(spec.name, {})
        faults += policy_faults(settings, spec, config)
        if spec.name in limits:
            faults += size_faults(settings, spec, config, limits[spec.name])
    return faults


def require_topics(settings: Settings) -> None:
    """Check the topics; what a worker does before it starts. Bearable faults are only logged.

    Raises
    ------
    TopicError
        Naming every other fault and its cure.
    """
    faults = check_topics(settings)
    for fault in faults:
        if fault.bearable:
            log.warning("%s", fault)
    if unbearable := [fault for fault in faults if not fault.bearable]:
        raise TopicError("\n".join(map(str, unbearable)))


def _configs(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Topic -> configuration, as far as the broker tells it."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    told = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {
        name: {key: entry["value"] for key, entry in config.items()}
        for name, config in told.items()
    }


def _refused(settings: Settings, topic: Mapping[str, Any]) -> TopicError:
    cure = "see the broker's log"
    if topic["error_code"] == _INVALID_REPLICATION:
        cure = (
            f"start as many brokers, or lower topics.replication (now {settings.topics.replication}"
            ", FRESHET_TOPICS_REPLICATION or --replication)"
        )
    return TopicError(
        f"the broker at {settings.bootstrap} refuses to create topic {topic['name']} "
        f"({topic['error_message'] or topic['error_code']}): {cure}"
    )
