"""What can be wrong with a topic. In: settings, what a broker tells. Out: faults, each with a cure.

Knows no broker and nothing of records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from stream.config import Settings
from stream.kafka.sizes import (
    DEFAULT_MAX_MESSAGE_BYTES,
    changelog_batch_bytes,
    dead_letter_bytes,
    lists_bytes,
)
from stream.kafka.specs import TopicSpec, changelog_topic, policies_of, source_names

# What decides how long a topic keeps a record at least.
_LETTING_GO = ("min.compaction.lag.ms", "retention.ms", "retention.bytes", "message.timestamp.type")


class TopicFault(NamedTuple):
    """What is wrong with a topic, and what to do about it.

    Attributes
    ----------
    bearable : a worker runs with it all the same
    """

    topic: str
    fault: str
    cure: str
    bearable: bool = False

    def __str__(self) -> str:
        return f"topic {self.topic} {self.fault}: {self.cure}"


def partition_faults(
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


def replica_faults(settings: Settings, topic: Mapping[str, Any]) -> Iterator[TopicFault]:
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


def policy_faults(
    settings: Settings, spec: TopicSpec, config: Mapping[str, str]
) -> Iterator[TopicFault]:
    policy = config.get("cleanup.policy")
    if policy is not None and policies_of(policy) != spec.cleanup:
        wanted = spec.config["cleanup.policy"]
        yield TopicFault(
            spec.name,
            f"has cleanup.policy={policy} and needs {wanted}",
            # The brackets let kafka-configs take a list.
            _alter(settings, spec.name, f"cleanup.policy=[{wanted}]"),
        )


def waiting_faults(
    settings: Settings, spec: TopicSpec, config: Mapping[str, str]
) -> Iterator[TopicFault]:
    """A topic whose records must wait for a worker lets go of them too early."""
    if "min.compaction.lag.ms" not in spec.config:
        return
    wanted = {name: value for name, value in spec.config.items() if name != "cleanup.policy"}
    early = [
        f"{name}={config[name]}"
        for name in _LETTING_GO
        if name in config and _sooner(config[name], wanted[name])
    ]
    if early:
        yield TopicFault(
            spec.name,
            f"has {' and '.join(early)}, so what no worker has read by then is lost",
            _alter(settings, spec.name, ",".join(f"{name}={wanted[name]}" for name in wanted)),
            bearable=True,
        )


def _sooner(has: str, wanted: str) -> bool:
    """Whether a topic with this value lets go of a record sooner than with the one wanted."""
    if not wanted.lstrip("-").isdigit():
        return has != wanted
    endless = -1  # of times and sizes alike
    return int(has) != endless and (int(wanted) == endless or int(has) < int(wanted))


class Limit(NamedTuple):
    """What a topic's max.message.bytes must take."""

    needed: int
    record: str
    otherwise: str = ""
    bearable: bool = False


def letter_bytes(settings: Settings, configs: Mapping[str, Mapping[str, str]]) -> int:
    """Return what the dead letters must take, for none to be cut: the most that a source takes."""
    told = [configs.get(name, {}).get("max.message.bytes") for name in source_names(settings)]
    return dead_letter_bytes(max(int(limit or DEFAULT_MAX_MESSAGE_BYTES) for limit in told))


def limits_of(settings: Settings, configs: Mapping[str, Mapping[str, str]]) -> dict[str, Limit]:
    """Topic -> its limit, for those where a record that does not fit would end the worker.

    A dead letter would not: it is cut.
    """
    names = settings.topics
    return {
        changelog_topic(settings): Limit(
            changelog_batch_bytes(settings),
            "a micro-batch",
            ", or lower batch.max_events (FRESHET_BATCH_MAX_EVENTS)",
        ),
        names.dead_letters: Limit(
            letter_bytes(settings, configs), "a whole dead letter", bearable=True
        ),
        names.recommendations: Limit(lists_bytes(settings), "a user's lists", ", or lower their k"),
    }


def size_faults(
    settings: Settings, spec: TopicSpec, config: Mapping[str, str], limit: Limit
) -> Iterator[TopicFault]:
    has = config.get("max.message.bytes")
    if has is not None and int(has) < limit.needed:
        wanted = max(int(spec.config["max.message.bytes"]), limit.needed)
        yield TopicFault(
            spec.name,
            f"has max.message.bytes={has}, and {limit.record} can take {limit.needed}",
            _alter(settings, spec.name, f"max.message.bytes={wanted}") + limit.otherwise,
            limit.bearable,
        )


def _alter(settings: Settings, topic: str, setting: str) -> str:
    return (
        f"run kafka-configs --bootstrap-server {settings.bootstrap} --alter --topic {topic} "
        f"--add-config '{setting}'"
    )
