"""The topics: shape, rights, records in the wrong place. In: what brokers tell. Out: findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer

from stream.cli.clients import assign_all, read_to_end
from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.contracts import partition_of
from stream.kafka.cluster import Cluster
from stream.kafka.rights import Rights, passing_on, right_faults, serving, told_rights, who
from stream.kafka.topics import TopicsSeen, faults_of, wanted_topics

TAIL_RECORDS = 1000  # looked at in each partition

# Told of every topic, beside what Freshet sets of it.
_TOLD = ("cleanup.policy", "retention.ms", "retention.bytes", "min.insync.replicas")


def examine_topics(settings: Settings, seen: TopicsSeen) -> Finding:
    """Each topic as it is, and what of it a worker needs otherwise."""
    rows = [_row(spec.name, spec.config, seen) for spec in wanted_topics(settings)]
    more = tuple(_line(row) for row in rows)
    facts = {"topics": rows}
    faults = faults_of(settings, seen)
    if not faults:
        told = f"{settings.topics.partitions} partitions each"
        return Finding("topics", "ok", told, more=more, facts=facts)
    detail = "; ".join(f"{fault.topic} {fault.fault}" for fault in faults)
    cure = "; ".join(dict.fromkeys(fault.cure for fault in faults))
    return Finding("topics", "fault", detail, cure, more, facts)


def _row(name: str, wanted: dict[str, str], seen: TopicsSeen) -> dict[str, Any]:
    if name in seen.hidden:
        return {"topic": name, "state": "hidden"}
    if name not in seen.partitions:
        return {"topic": name, "state": "missing"}
    partitions = seen.described[name]["partitions"]
    has = seen.configs.get(name, {})
    return {
        "topic": name,
        "state": "there",
        "partitions": len(partitions),
        "replicas": min((len(one["replica_nodes"]) for one in partitions), default=0),
        "in_sync": min((len(one["isr_nodes"]) for one in partitions), default=0),
        "config": {key: has.get(key) for key in dict.fromkeys((*_TOLD, *wanted))},
        "wanted": wanted,
    }


def _line(row: dict[str, Any]) -> str:
    if row["state"] != "there":
        return f"{row['topic']}: {row['state']}"
    told = [
        f"{row['partitions']} partitions",
        f"{row['in_sync']} of {row['replicas']} replicas in sync",
    ]
    for key, has in row["config"].items():
        wanted = row["wanted"].get(key)
        other = (
            wanted is not None and has is not None and set(has.split(",")) != set(wanted.split(","))
        )
        if has is not None:
            told.append(f"{key}={has}" + (f" (made with {wanted})" if other else ""))
    return f"{row['topic']}: {', '.join(told)}"


def examine_rights(settings: Settings, seen: TopicsSeen) -> Iterator[Finding]:
    """What of a worker's and of a gateway's rights this login has; who looks may have fewer."""
    yield _rights(settings, seen, "rights", "a worker", serving(settings))
    yield _rights(settings, seen, "gateway rights", "a gateway", passing_on(settings))


def _rights(settings: Settings, seen: TopicsSeen, check: str, role: str, wanted: Rights) -> Finding:
    cluster = Cluster.of(settings)
    described = {name: topic for name, topic in seen.described.items() if name in wanted}
    told = {name: told_rights(topic) for name, topic in described.items()}
    facts = {"rights": {name: sorted(rights or ()) for name, rights in told.items()}}
    if not any(told.values()):
        return Finding(check, "skip", "the brokers tell none", facts=facts)
    lacking = [
        fault
        for name, topic in described.items()
        for fault in right_faults(cluster, topic, wanted[name])
    ]
    if not lacking:
        detail = f"{who(cluster)}: all that {role} needs on topics"
        return Finding(check, "ok", detail, facts=facts)
    detail = f"{who(cluster)} could not run {role}, which needs more than this look"
    more = tuple(f"{fault.topic} {fault.fault}" for fault in lacking)
    return Finding(check, "note", detail, more=more, facts=facts)


def examine_partitioner(settings: Settings, consumer: KafkaConsumer) -> Finding:
    """Look for records that sit in another partition than murmur2 of their key says."""
    assigned = assign_all(consumer, (settings.topics.clicks, settings.topics.purchases))
    where = [one for of_topic in assigned.values() for one in of_topic]
    starts, ends = consumer.beginning_offsets(where), consumer.end_offsets(where)
    for one in where:
        consumer.seek(one, max(starts[one], ends[one] - TAIL_RECORDS))
    looked_at = 0
    misplaced = dict.fromkeys(assigned, 0)
    for record in read_to_end(consumer, where):
        if record.key is not None:  # a record without a key goes to the dead letters
            looked_at += 1
            right = partition_of(record.key, len(assigned[record.topic]))
            misplaced[record.topic] += record.partition != right
    facts = {"looked_at": looked_at, "misplaced": misplaced}
    if not any(misplaced.values()):
        detail = f"the newest {looked_at} events are where they belong"
        return Finding("partitioner", "ok", detail, facts=facts)
    counts = ", ".join(f"{number} on {topic}" for topic, number in misplaced.items() if number)
    return Finding(
        "partitioner",
        "fault",
        f"of the newest {looked_at} events, in a partition that is not murmur2's for their key: "
        f"{counts}",
        "make every producer partition as the Java client does: librdkafka (confluent-kafka, Go, "
        ".NET, PHP, Rust) needs partitioner=murmur2_random",
        facts=facts,
    )
