"""`freshet replay LOG`: a log to the topics in event-time order. In: a file. Out: records."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from stream.cli.clients import open_producer
from stream.cli.common import examples, print_json, printable, progress, with_settings
from stream.config import Settings
from stream.contracts import Kind
from stream.errors import BrokerError
from stream.kafka.cluster import Cluster
from stream.logs import FORMATS, BadLines, read_events
from stream.terminal import counted

_UNDERWAY = 20_000  # records not yet acknowledged; more would only wait in this process
_BAD_SHOWN = 10
_SLEEP_S = 0.2


@dataclass
class Log:
    """Good events in event-time order, and what was wrong with the rest.

    Attributes
    ----------
    times_ms : event times, ascending
    kinds, keys, values : of the events, in the same order
    bad : (line number, reason), in line order
    """

    times_ms: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    bad: BadLines = field(default_factory=BadLines)

    def __len__(self) -> int:
        return len(self.times_ms)

    def sort(self) -> None:
        """Put the events into event-time order; those of one time keep the order of their lines."""
        order = sorted(range(len(self)), key=self.times_ms.__getitem__)
        self.times_ms = [self.times_ms[position] for position in order]
        self.kinds = [self.kinds[position] for position in order]
        self.keys = [self.keys[position] for position in order]
        self.values = [self.values[position] for position in order]


def read_log(path: Path, log_format: str, advance: Callable[[int], object]) -> Log:
    """Read a whole log into memory (about 400 bytes an event); see `stream.logs.read_events`."""
    log = Log()
    for _, kind, key, value, event, _ in read_events(path, log_format, log.bad, advance):
        log.times_ms.append(event.event_time_ms)
        log.kinds.append(kind)
        log.keys.append(key)
        log.values.append(value)
    log.bad.sort()
    log.sort()
    return log


class _Speed(click.ParamType):
    """`max`, or how many times as fast as the events happened; inf stands for max."""

    name = "X|max"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if value == "max":
            return float("inf")
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"{value!r} is neither `max` nor a number above 0", param, ctx)
        return speed


@click.command(
    "replay",
    epilog=examples(
        "freshet replay events.jsonl.gz",
        "freshet replay events.csv --format rees46 --speed 60",
    ),
)
@click.argument("path", metavar="LOG", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "log_format",
    type=click.Choice(list(FORMATS)),
    default="events",
    show_default=True,
    help="events: JSON lines as the topics hold them.",
)
@click.option(
    "--speed",
    type=_Speed(),
    default="max",
    show_default=True,
    help="Times real time, or max: as fast as the broker takes them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@with_settings
def command(settings: Settings, path: Path, log_format: str, speed: float, as_json: bool) -> int:
    """Produce the log LOG (plain or gzip) to the topics in event-time order.

    Bad lines are left out and reported by number; then the exit code is 1.
    """
    with progress(_size(path), "B", "reading") as bar:
        log = read_log(path, log_format, bar.update)
    elapsed_s = _send(settings, log, speed)
    _report(log, elapsed_s, as_json)
    return 1 if log.bad else 0


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _send(settings: Settings, log: Log, speed: float) -> float:
    """Send a log's events and return the seconds it took; BrokerError when any did not arrive."""
    topics = {"clicks": settings.topics.clicks, "purchases": settings.topics.purchases}
    refused: list[BaseException] = []
    underway: deque[Any] = deque()
    started = time.monotonic()
    with (
        open_producer(
            Cluster.of(settings), list(topics.values()), bulk=speed == float("inf")
        ) as producer,
        progress(len(log), "events", "sending") as bar,
    ):
        for time_ms, kind, key, value in zip(
            log.times_ms, log.kinds, log.keys, log.values, strict=True
        ):
            _wait_until(started + (time_ms - log.times_ms[0]) / 1000 / speed)
            sent = producer.send(topics[kind], key=key, value=value)
            sent.add_errback(refused.append)
            underway.append(sent)
            if len(underway) > _UNDERWAY:
                underway.popleft().get(timeout=30)
            bar.update()
        producer.flush(timeout=30)
    if refused:
        raise BrokerError(f"{len(refused)} of {len(log)} events were refused: {refused[0]}")
    return time.monotonic() - started


def _wait_until(due: float) -> None:
    while (left_s := due - time.monotonic()) > 0:
        time.sleep(min(left_s, _SLEEP_S))


def _report(log: Log, elapsed_s: float, as_json: bool) -> None:
    purchases = log.kinds.count("purchases")
    if as_json:
        print_json(
            {
                "events": len(log),
                "clicks": len(log) - purchases,
                "purchases": purchases,
                "seconds": round(elapsed_s, 3),
                "bad": [{"line": number, "reason": reason} for number, reason in log.bad],
            }
        )
        return
    click.echo(
        f"{len(log):,} events ({len(log) - purchases:,} clicks, {purchases:,} purchases) in "
        f"{elapsed_s:.1f} s, {len(log) / max(elapsed_s, 1e-9):,.0f}/s"
    )
    if log.bad:
        click.echo(f"{counted(len(log.bad), 'bad line')} left out:", err=True)
        for number, reason in log.bad[:_BAD_SHOWN]:
            click.echo(f"  line {number}: {printable(reason)}", err=True)
        if len(log.bad) > _BAD_SHOWN:
            click.echo("  ... all of them with --json", err=True)
