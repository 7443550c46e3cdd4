"""Topics created and checked. In: settings. Out: what was created, or what is wrong with them.

How each is made stands in `specs`, what can be wrong in `faults`. Knows nothing of records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import GroupAuthorizationFailedError, RetriableError

from stream.config import Settings
from stream.errors import BrokerError, TopicError
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
    waiting_faults,
)
from stream.kafka.rights import (
    LOOK,
    NOT_AUTHORIZED,
    Rights,
    checking,
    grant,
    group_fault,
    right_faults,
    serving,
    told_rights,
)
from stream.kafka.specs import TopicSpec, source_names, wanted_topics

__all__ = [
    "TopicFault",
    "TopicsSeen",
    "check_topics",
    "create_topics",
    "faults_of",
    "look_at_topics",
    "require_topics",
    "wanted_topics",
]

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


def check_topics(settings: Settings, rights: Rights | None = None) -> list[TopicFault]:
    """Compare the topics on the broker with what a worker needs; change nothing.

    A configuration that the broker does not tell is taken to be right: the embedded broker tells
    only what a topic was created with.

    Parameters
    ----------
    rights : that this client must have besides; those of the check alone when it is None

    Raises
    ------
    BrokerError
        The broker does not answer.
    """
    with open_admin(Cluster.of(settings)) as admin:
        return faults_of(settings, look_at_topics(admin, settings), rights)


class TopicsSeen(NamedTuple):
    """The topics as the brokers tell them, by name.

    Attributes
    ----------
    described : every one, as kafka-python's `describe_topics` answers it
    configs : those that are there and may be looked at; of each, what the broker tells
    hidden : those that this client may not look at
    """

    described: dict[str, Mapping[str, Any]]
    configs: dict[str, dict[str, str]]
    hidden: frozenset[str]

    @property
    def partitions(self) -> dict[str, int]:
        """How many each has that is there and may be looked at."""
        there = (
            name
            for name, topic in self.described.items()
            if topic["error_code"] != _UNKNOWN_TOPIC and name not in self.hidden
        )
        return {name: len(self.described[name]["partitions"]) for name in there}


def look_at_topics(admin: KafkaAdminClient, settings: Settings) -> TopicsSeen:
    """Ask for every topic that a worker needs; change nothing."""
    cluster = Cluster.of(settings)
    names = [spec.name for spec in wanted_topics(settings)]
    described = {topic["name"]: topic for topic in admin.describe_topics(names)}
    hidden = frozenset(
        name
        for name, topic in described.items()
        if topic["error_code"] == NOT_AUTHORIZED or any(right_faults(cluster, topic, [LOOK]))
    )
    seen = TopicsSeen(described, {}, hidden)
    return seen._replace(configs=_configs(admin, seen.partitions))


def faults_of(
    settings: Settings, seen: TopicsSeen, rights: Rights | None = None
) -> list[TopicFault]:
    """Compare the topics with what a worker needs; see `check_topics`."""
    rights = checking(settings) if rights is None else rights
    cluster = Cluster.of(settings)
    found, configs, partitions = seen.described, seen.configs, seen.partitions
    specs = wanted_topics(settings)
    faults: list[TopicFault] = []
    for spec in specs:
        faults += right_faults(cluster, found[spec.name], rights[spec.name])
    limits = limits_of(settings, configs)
    for spec in specs:
        if spec.name in seen.hidden:
            continue
        if spec.name not in partitions:
            cure = f"run `freshet topics create --bootstrap {settings.bootstrap}`"
            faults.append(TopicFault(spec.name, "is missing", cure))
            continue
        faults += partition_faults(settings, spec.name, partitions)
        faults += replica_faults(settings, found[spec.name])
        config = configs.get(spec.name, {})
        faults += policy_faults(settings, spec, config)
        faults += waiting_faults(settings, spec, config)
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
    faults = check_topics(settings, serving(settings))
    for fault in faults:
        if fault.bearable:
            log.warning("%s", fault, extra={"topic": fault.topic})
    if unbearable := [fault for fault in faults if not fault.bearable]:
        raise TopicError("\n".join(map(str, unbearable)))
    _require_group(settings)


def _require_group(settings: Settings) -> None:
    """Look whether the worker's group takes it in; a broker that does not tell is believed to."""
    cluster = Cluster.of(settings)
    if cluster.plain:
        return
    with open_admin(cluster) as admin:
        try:
            group = admin.describe_groups([settings.group])[settings.group]
        except GroupAuthorizationFailedError:
            raise BrokerError(group_fault(cluster, settings.group)) from None
        except RetriableError:
            return  # the broker's first group: it makes their topic just now
        told = told_rights(group)
        if told is not None and "Read" not in told:
            raise BrokerError(group_fault(cluster, settings.group))


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
    if topic["error_code"] == NOT_AUTHORIZED:
        cure = grant(Cluster.of(settings), ["Create"], "--cluster")
    if topic["error_code"] == _INVALID_REPLICATION:
        cure = (
            f"start as many brokers, or lower topics.replication (now {settings.topics.replication}"
            ", FRESHET_TOPICS_REPLICATION or --replication)"
        )
    return TopicError(
        f"the broker at {settings.bootstrap} refuses to create topic {topic['name']} "
        f"({topic['error_message'] or topic['error_code']}): {cure}"
    )
