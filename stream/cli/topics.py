"""`freshet topics create|check`. In: settings. Out: topics as a worker needs them, or faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stream.cli.common import connection_options, examples, load, print_json, printable
from stream.kafka.topics import TopicFault, check_topics, create_topics, wanted_topics


@click.group(
    "topics",
    epilog=examples(
        "freshet topics create --partitions 12 --replication 3",
        "freshet topics check",
    ),
)
def command() -> None:
    """Create or check the topics."""


def _topic_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="For programs."),
        click.option("--replication", type=click.IntRange(1), help="Copies of every partition."),
        click.option("--partitions", type=click.IntRange(1), help="Of every keyed topic."),
    ):
        function = option(function)
    return connection_options(function)


@command.command(
    "create",
    epilog=examples(
        "freshet topics create --partitions 12 --replication 3",
    ),
)
@_topic_options
def create(
    *,
    config: Path | None,
    bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    as_json: bool,
) -> int:
    """Create the topics that are missing, and check all of them.

    What exists is left as it is.
    """
    settings = load(config, bootstrap, **_shape(partitions, replication))
    created = create_topics(settings)
    faults = check_topics(settings)
    if as_json:
        print_json({"created": created, "faults": [fault._asdict() for fault in faults]})
        return 1 if faults else 0
    for name in created:
        click.echo(f"created {name}")
    there = len(wanted_topics(settings)) - len(created)
    click.echo(f"{len(created)} topics created, {there} were there")
    return _report(faults)


@command.command(
    "check",
    epilog=examples(
        "freshet topics check",
        "freshet topics check --json",
    ),
)
@_topic_options
def check(
    *,
    config: Path | None,
    bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    as_json: bool,
) -> int:
    """Compare the topics with what a worker needs; change nothing.

    The exit code is 1 when there is a fault.
    """
    settings = load(config, bootstrap, **_shape(partitions, replication))
    faults = check_topics(settings)
    if as_json:
        print_json({"ok": not faults, "faults": [fault._asdict() for fault in faults]})
        return 1 if faults else 0
    if not faults:
        click.echo(f"{len(wanted_topics(settings))} topics are as a worker needs them")
    return _report(faults)


def _shape(partitions: int | None, replication: int | None) -> dict[str, str | None]:
    return {
        "topics.partitions": None if partitions is None else str(partitions),
        "topics.replication": None if replication is None else str(replication),
    }


def _report(faults: list[TopicFault]) -> int:
    for fault in faults:
        click.echo(f"fault: {printable(str(fault))}", err=True)
    return 1 if faults else 0
