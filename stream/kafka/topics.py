"""The topics as they must be. In: settings. Out: what was created, or what is wrong with them.

One table says how each topic is made; creation and check both read it. Knows nothing of records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stream.config import Settings
from stream.errors import TopicError
from stream.kafka.admin import open_admin

# Kafka's error codes, https://kafka.apache.org/protocol#protocol_error_codes
_UNKNOWN_TOPIC = 3
_TOPIC_EXISTS = 36
_INVALID_REPLICATION = 38

_HOUR_MS = 3_600_000
_MIB = 1 << 20
# What a user can take in a changelog batch: state, key, and the framing of a record.
_STATE_BYTES = 1024 + 256 + 64
_APPLIED_BYTES = 64 << 10  # the `applied` record and the batch's header, generously


class TopicSpec(NamedTuple):
    """One topic: what it is made with, and what `check_topics` holds it to."""

    name: str
    config: dict[str, str]

    @property
    def cleanup(self) -> frozenset[str]:
        """Its cleanup policies."""
        return _policies(self.config["cleanup.policy"])


class TopicFault(NamedTuple):
    """What is wrong with a topic, and what to do about it."""

    topic: str
    fault: str
    cure: str

    def __str__(self) -> str:
        return f"topic {self.topic} {self.fault}: {self.cure}"


def changelog_topic(settings: Settings) -> str:
    """Return the name of the states' changelog; Faust derives the same from its app and table."""
    return f"{settings.group}-interests-changelog"


def changelog_batch_bytes(settings: Settings) -> int:
    """Return what the changelog must take in one piece: a micro-batch of as many users as events.

    A broker refuses a record batch over max.message.bytes whole, and the states of a micro-batch
    with their `applied` record are one record batch, never two.
    """
    return settings.batch.max_events * _STATE_BYTES + _APPLIED_BYTES


def changelog_config(settings: Settings) -> dict[str, str]:
    """Return the changelog's configuration."""
    max_bytes = max(8 * _MIB, changelog_batch_bytes(settings))
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(max_bytes),
        # Recovery reads what is not compacted yet. A segment is compacted once it is full, and
        # once a tenth of the log is news (the default is half).
        "segment.bytes": str(max(64 * _MIB, max_bytes)),
        "min.cleanable.dirty.ratio": "0.1",
        # A forgotten user stays a tombstone for a day, then leaves no trace.
        "delete.retention.ms": str(24 * _HOUR_MS),
    }


def wanted_topics(settings: Settings) -> list[TopicSpec]:
    """Return every topic that a worker needs, the changelog last."""
    names = settings.topics
    # A dead letter carries a record that was too large, and its headers.
    dead_letters = {"cleanup.policy": "delete", "max.message.bytes": str(2 * _MIB)}
    answers = {"cleanup.policy": "delete", "retention.ms": str(_HOUR_MS)}
    specs = [
        TopicSpec(names.clicks, {"cleanup.policy": "delete"}),
        TopicSpec(names.purchases, {"cleanup.policy": "delete"}),
        TopicSpec(names.items, {"cleanup.policy": "compact"}),
        TopicSpec(names.requests, {"cleanup.policy": "delete"}),
        TopicSpec(names.erasures, {"cleanup.policy": "compact"}),
        TopicSpec(names.recommendations, {"cleanup.policy": "compact,delete"}),
        TopicSpec(names.answers, answers),
        TopicSpec(names.dead_letters, dead_letters),
        TopicSpec(names.receipts, {"cleanup.policy": "delete"}),
        TopicSpec(changelog_topic(settings), changelog_config(settings)),
    ]
    if names.replication >= 3:
        # Else an acknowledgement may come from a leader that is alone, and be lost with it.
        for spec in specs:
            spec.config["min.insync.replicas"] = "2"
    return specs


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing, and wait until they can be used.

    What exists is left as it is; `check_topics` says whether it will do.

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
    with open_admin(settings.bootstrap) as admin:
        present = set(admin.list_topics())
        missing = [spec for spec in wanted_topics(settings) if spec.name not in present]
        if not missing:
            return []
        answer = admin.create_topics(
            {
                spec.name: {
                    "num_partitions": settings.topics.partitions,
                    "replication_factor": settings.topics.replication,
                    "configs": spec.config,
                }
                for spec in missing
            },
            raise_errors=False,
        )
        created = []
        for topic in answer["topics"]:
            if topic["error_code"] == 0:
                created.append(topic["name"])
            elif topic["error_code"] != _TOPIC_EXISTS:  # somebody was quicker, just now
                raise _refused(settings, topic)
        admin.wait_for_topics([spec.name for spec in missing])
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
    with open_admin(settings.bootstrap) as admin:
        found = {topic["name"]: topic for topic in admin.describe_topics(names)}
        present = [name for name in names if found[name]["error_code"] != _UNKNOWN_TOPIC]
        configs = _configs(admin, present)
    partitions = {name: len(found[name]["partitions"]) for name in present}
    faults = []
    for spec in specs:
        if spec.name not in partitions:
            cure = f"run `freshet topics create --bootstrap {settings.bootstrap}`"
            faults.append(TopicFault(spec.name, "is missing", cure))
            continue
        faults += _partition_faults(settings, spec.name, partitions)
        faults += _replica_faults(settings, found[spec.name])
        faults += _config_faults(settings, spec, configs.get(spec.name, {}))
    return faults


def require_topics(settings: Settings) -> None:
    """Check the topics; what a worker does before it starts.

    Raises
    ------
    TopicError
        Naming every fault and its cure.
    """
    if faults := check_topics(settings):
        raise TopicError("\n".join(map(str, faults)))


def _partition_faults(
    settings: Settings, name: str, partitions: Mapping[str, int]
) -> Iterator[TopicFault]:
    count, wanted = partitions[name], settings.topics.partitions
    if count == wanted:
        return
    if set(partitions.values()) == {count}:
        cure = (
            f"set topics.partitions (FRESHET_TOPICS_PARTITIONS) to {count}, as all topics have it"
        )
    elif name == changelog_topic(settings):
        cure = (
            f"states are kept by partition: set topics.partitions (FRESHET_TOPICS_PARTITIONS) to "
            f"{count} and give the other topics as many, or delete it to begin with no states"
        )
    else:
        cure = (
            "all topics need the same number, or a user's events and state do not meet: delete it "
            "and run `freshet topics create`, or name another topic"
        )
    yield TopicFault(name, f"has {count} partitions, topics.partitions is {wanted}", cure)


def _replica_faults(settings: Settings, topic: Mapping[str, Any]) -> Iterator[TopicFault]:
    name, wanted = topic["name"], settings.topics.replication
    replicas = min(len(one["replica_nodes"]) for one in topic["partitions"])
    if replicas < wanted:
        yield TopicFault(
            name,
            f"has {replicas} replicas, topics.replication is {wanted}",
            "add replicas with kafka-reassign-partitions, or lower topics.replication "
            "(FRESHET_TOPICS_REPLICATION)",
        )
    leaderless = [one["partition_index"] for one in topic["partitions"] if one["leader_id"] < 0]
    if leaderless:
        yield TopicFault(
            name,
            f"has no leader for partitions {', '.join(map(str, leaderless))}",
            "bring the brokers back that hold them",
        )


def _config_faults(
    settings: Settings, spec: TopicSpec, config: Mapping[str, str]
) -> Iterator[TopicFault]:
    def alter(setting: str) -> str:
        return (
            f"run kafka-configs --bootstrap-server {settings.bootstrap} --alter --topic "
            f"{spec.name} --add-config '{setting}'"
        )

    policy = config.get("cleanup.policy")
    if policy is not None and _policies(policy) != spec.cleanup:
        wanted = spec.config["cleanup.policy"]
        yield TopicFault(
            spec.name,
            f"has cleanup.policy={policy} and needs {wanted}",
            # The brackets let kafka-configs take a list.
            alter(f"cleanup.policy=[{wanted}]"),
        )
    limit = config.get("max.message.bytes")
    if spec.name == changelog_topic(settings) and limit is not None:
        needed = changelog_batch_bytes(settings)
        if int(limit) < needed:
            yield TopicFault(
                spec.name,
                f"has max.message.bytes={limit}, and a micro-batch can take {needed}",
                alter(f"max.message.bytes={spec.config['max.message.bytes']}")
                + ", or lower batch.max_events (FRESHET_BATCH_MAX_EVENTS)",
            )


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


def _policies(value: str) -> frozenset[str]:
    return frozenset(part.strip() for part in value.split(","))
