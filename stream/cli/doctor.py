"""`freshet doctor`: what is wrong with the set-up. In: settings. Out: a finding for each check.

Looks and changes nothing: reads the tail of the event topics without a group, commits no offset.
What is looked at, and how, stands in `examining/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from kafka.errors import KafkaError

from stream.cli.clients import open_consumer
from stream.cli.common import connection_options, examples, load, print_json, printable
from stream.cli.examining.brokers import examine_brokers
from stream.cli.examining.configuration import examine_configuration
from stream.cli.examining.finding import Finding
from stream.cli.examining.gateways import examine_gateway
from stream.cli.examining.machine import examine_machine
from stream.cli.examining.model import examine_bundle
from stream.cli.examining.topics import examine_partitioner, examine_rights, examine_topics
from stream.cli.examining.workers import examine_lag, examine_worker
from stream.config import Settings, given_origins
from stream.errors import FreshetError
from stream.kafka.admin import open_admin
from stream.kafka.cluster import Cluster
from stream.kafka.topics import look_at_topics

AT_THE_BROKER: Final = ("clock", "topics", "rights", "gateway rights", "lag", "partitioner")
ON_THIS_MACHINE: Final = ("worker", "gateway", "bundle", "provider", "disk")
_COLOURS: Final = {"ok": "green", "note": "yellow", "fault": "red"}


@click.command(
    "doctor",
    epilog=examples(
        "freshet doctor",
        "freshet doctor --config freshet.toml --json > doctor.json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings and facts as JSON.")
@connection_options
def command(config: Path | None, bootstrap: str | None, as_json: bool) -> int:
    """Check everything that a supporter would ask for, and report it.

    Versions, machine, settings and their sources (secrets as stars), brokers, clocks, topics,
    rights, lag, partitioner, worker, gateway, bundle, provider and disk. Changes nothing. The exit
    code is 1 when there is a fault.
    """
    faults = 0
    found = []
    for finding in examine(
        lambda: load(config, bootstrap), lambda: given_origins(config, {"bootstrap": bootstrap})
    ):
        faults += finding.status == "fault"
        found.append(finding.as_dict())
        if not as_json:
            _print(finding)
    if as_json:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        print_json({"ok": not faults, "time": now, "findings": found})
    elif not faults:
        click.echo("no fault found")
    return 1 if faults else 0


def _print(finding: Finding) -> None:
    status = click.style(f"{finding.status:6}", fg=_COLOURS.get(finding.status))
    click.echo(f"{status} {finding.check:14} {printable(finding.detail)}")
    for line in finding.more:
        click.echo(f"{'':23}{printable(line)}")
    if finding.cure:
        click.echo(f"{'':21} cure: {printable(finding.cure)}")


def examine(
    load_settings: Callable[[], Settings], origins: Callable[[], Mapping[str, str]] = dict
) -> Iterator[Finding]:
    """Yield the findings, in the order in which things need each other."""
    yield from examine_machine()
    try:
        settings, given = load_settings(), origins()
        yield examine_configuration(settings, given)
    except FreshetError as error:
        yield Finding("configuration", "fault", str(error))
        for check in ("broker", *AT_THE_BROKER, *ON_THIS_MACHINE):
            yield Finding(check, "skip", "needs the configuration")
        return
    yield from _at_the_broker(settings)
    yield examine_worker(settings)
    yield examine_gateway(settings)
    yield from examine_bundle(settings, given)


def _at_the_broker(settings: Settings) -> Iterator[Finding]:
    """The checks that need it, as far as they come; the others are said to be left out."""
    due = ["broker", *AT_THE_BROKER]
    try:
        cluster = Cluster.of(settings)
        with open_consumer(cluster, []) as consumer, open_admin(cluster) as admin:
            for finding in examine_brokers(settings, admin, consumer):
                due.remove(finding.check)
                yield finding
            seen = look_at_topics(admin, settings)
            topics = examine_topics(settings, seen)
            yield topics
            due.remove("topics")
            for finding in examine_rights(settings, seen):
                due.remove(finding.check)
                yield finding
            if topics.status == "ok":
                yield examine_lag(settings, admin, consumer)
                due.remove("lag")
                yield examine_partitioner(settings, consumer)
            else:
                yield Finding("lag", "skip", "needs the topics")
                yield Finding("partitioner", "skip", "needs the topics")
            due.clear()
    except (FreshetError, KafkaError) as error:
        if not due:  # all was said; a client did not close as it should
            return
        yield Finding(due[0], "fault", str(error))
        for check in due[1:]:
            yield Finding(check, "skip", "needs the broker")
