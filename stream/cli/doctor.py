"""`freshet doctor`: what is wrong with the set-up. In: settings. Out: a finding for each check.

Looks and changes nothing: reads the tail of the event topics without a group, commits no offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import click
from kafka import KafkaConsumer
from kafka.errors import KafkaError

from stream.cli import ends_at_once
from stream.cli.clients import assign_all, open_consumer, read_to_end
from stream.cli.common import connection_options, load, print_json, printable
from stream.config import Settings
from stream.contracts import partition_of
from stream.errors import BundleError, FreshetError, ProviderError
from stream.kafka.cluster import Cluster
from stream.kafka.topics import check_topics

TAIL_RECORDS = 1000  # looked at in each partition


class Finding(NamedTuple):
    """What one check found, and what to do about it."""

    check: str
    status: Literal["ok", "fault", "skip"]
    detail: str
    cure: str | None = None


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@connection_options
def command(config: Path | None, bootstrap: str | None, as_json: bool) -> int:
    """Check configuration, broker, topics, partitioner, bundle and provider.

    The exit code is 1 when there is a fault.
    """
    faults = 0
    found = []
    for finding in examine(lambda: load(config, bootstrap)):
        faults += finding.status == "fault"
        found.append(finding._asdict())
        if not as_json:
            _print(finding)
    if as_json:
        print_json({"ok": not faults, "findings": found})
    elif not faults:
        click.echo("no fault found")
    return 1 if faults else 0


def _print(finding: Finding) -> None:
    click.echo(f"{finding.status:6} {finding.check:14} {printable(finding.detail)}")
    if finding.cure:
        click.echo(f"{'':21} cure: {printable(finding.cure)}")


def examine(load_settings: Callable[[], Settings]) -> Iterator[Finding]:
    """Yield the findings, in the order in which things need each other."""
    try:
        settings = load_settings()
    except FreshetError as error:
        yield Finding("configuration", "fault", str(error))
        for check in ("broker", "topics", "partitioner", "bundle", "provider"):
            yield Finding(check, "skip", "needs the configuration")
        return
    yield Finding("configuration", "ok", f"brokers {settings.bootstrap}, group {settings.group}")
    yield from _examine_broker(settings)
    yield from _examine_bundle(settings)


def _examine_broker(settings: Settings) -> Iterator[Finding]:
    try:
        with open_consumer(Cluster.of(settings), []) as consumer:
            version = ".".join(map(str, consumer.config["api_version"]))
            yield Finding("broker", "ok", f"{settings.bootstrap} answers, speaks Kafka {version}")
            topics = _topics(settings)
            yield topics
            if topics.status == "ok":
                yield _partitioner(settings, consumer)
            else:
                yield Finding("partitioner", "skip", "needs the topics")
    except (FreshetError, KafkaError) as error:
        yield Finding("broker", "fault", str(error))
        yield Finding("topics", "skip", "needs the broker")
        yield Finding("partitioner", "skip", "needs the broker")


def _topics(settings: Settings) -> Finding:
    faults = check_topics(settings)
    if not faults:
        return Finding("topics", "ok", f"{settings.topics.partitions} partitions each")
    detail = "; ".join(f"{fault.topic} {fault.fault}" for fault in faults)
    return Finding("topics", "fault", detail, "; ".join(dict.fromkeys(f.cure for f in faults)))


def _partitioner(settings: Settings, consumer: KafkaConsumer) -> Finding:
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
    if not any(misplaced.values()):
        return Finding("partitioner", "ok", f"the newest {looked_at} events are where they belong")
    counts = ", ".join(f"{number} on {topic}" for topic, number in misplaced.items() if number)
    return Finding(
        "partitioner",
        "fault",
        f"of the newest {looked_at} events, in a partition that is not murmur2's for their key: "
        f"{counts}",
        "make every producer partition as the Java client does: librdkafka (confluent-kafka, Go, "
        ".NET, PHP, Rust) needs partitioner=murmur2_random",
    )


def _examine_bundle(settings: Settings) -> Iterator[Finding]:
    """Load the bundle and run it; imports the model runtime, so it comes last."""
    if settings.bundle is None:
        cure = "set FRESHET_BUNDLE to a folder that `freshet-export train` wrote"
        yield Finding("bundle", "fault", "none is set, and the worker needs one", cure)
        yield Finding("provider", "skip", "needs the bundle")
        return
    with ends_at_once():
        from stream.core.bundle import Bundle
        from stream.core.model import Model

    try:
        bundle = Bundle.load(settings.bundle)
    except BundleError as error:
        yield Finding("bundle", "fault", str(error))
        yield Finding("provider", "skip", "needs the bundle")
        return
    name = f"{bundle.manifest.name} {bundle.bundle_id[:12]}, {bundle.manifest.items - 1} items"
    try:
        model = Model(bundle, settings.provider)
    except ProviderError as error:
        yield Finding("bundle", "skip", f"{name}; its golden sequences need the provider")
        yield Finding("provider", "fault", str(error))
    except BundleError as error:
        yield Finding("bundle", "fault", str(error))
        yield Finding("provider", "skip", "needs the bundle")
    else:
        yield Finding("bundle", "ok", f"{name}, golden sequences agree")
        yield Finding("provider", "ok", f"{model.provider} (asked for: {settings.provider})")
