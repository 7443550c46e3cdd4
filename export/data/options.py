"""The options of every command that reads a log. In: the command line. Out: a clean log.

Must not know: models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from export.data.catalogue import read_items
from export.data.cleaning import NO_RULES, Report, Rules, clean, cleaned_at
from export.data.dataset import Log, read_log
from export.data.sources import SOURCES
from stream.errors import UsageError

RULES = Rules()


def add_log_options(command: argparse.ArgumentParser, more: Iterable[str] = ()) -> None:
    """The options that `open_log` reads.

    Parameters
    ----------
    more : formats beside those of logs
    """
    command.add_argument(
        "--format",
        choices=[*SOURCES, *more],
        default="events",
        help="events: JSON lines as the topics hold them (default); kafka: the topics themselves, "
        "LOG being the settings file, or - for the environment alone",
    )
    command.add_argument(
        "--items",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="catalogue: records of the topic items, JSON lines; may be repeated",
    )
    command.add_argument(
        "--until",
        action="append",
        default=[],
        metavar="TOPIC:PARTITION=OFFSET",
        help="read this partition up to an offset (default: what is there now); may be repeated",
    )
    command.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="keep the log's columns on disk in this folder: for a log larger than memory",
    )
    group = command.add_argument_group("cleaning", "what is left out; 0 lifts a limit")
    group.add_argument(
        "--no-cleaning", action="store_true", help="leave nothing out that can be read"
    )
    for name, metavar, what in (
        ("min_count", "N", "items with fewer events; a model's min_count is another"),
        ("min_user_events", "N", "users with fewer events"),
        ("max_per_minute", "N", "users with more in any minute; events of one moment count once"),
        ("max_per_day", "N", "users with more in any day"),
        ("cancel_within_h", "HOURS", "purchases cancelled so soon, with their cancellations"),
    ):
        default = getattr(RULES, name)
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            metavar=metavar,
            help=f"{what} (default: {default:g})",
        )


def open_log(options: argparse.Namespace, say: Callable[[str], None]) -> tuple[Log, Report]:
    """Read and clean the log that the options name, and say what was dropped.

    Raises
    ------
    UsageError
        An option has a wrong value, or there is no event.
    """
    return _cleaned(_read(options, say), _rules(options), say)


def open_split(
    options: argparse.Namespace, say: Callable[[str], None]
) -> tuple[Log, Callable[[int], Log]]:
    """The same for what is to be split by time: the clean log, and how it is to be at a moment.

    Returns
    -------
    log, and `cleaned_at` of what was read, with the options' rules

    Raises
    ------
    UsageError
        As `open_log`.
    """
    rules, read = _rules(options), _read(options, say)
    log, _ = _cleaned(read, rules, say)
    return log, lambda since_ms: cleaned_at(read, since_ms, rules)


def _read(options: argparse.Namespace, say: Callable[[str], None]) -> Log:
    until, items = until_of(options), read_items(options.items, say)
    say(f"reading {options.log}")
    return read_log(
        options.log, options.format, say, items=items, scratch=options.scratch, until=until
    )


def _cleaned(log: Log, rules: Rules, say: Callable[[str], None]) -> tuple[Log, Report]:
    log, report = clean(log, rules)
    for reason, n in report.in_order():
        say(f"left out: {n:,} {reason}")
    return log, report


def provenance(log: Log, report: Report) -> dict[str, Any]:
    """What a manifest says of the log: cleaning, and the offsets of topics."""
    found: dict[str, Any] = {"cleaning": report.summary()}
    if log.offsets:
        found["offsets"] = {
            topic: {str(partition): offset for partition, offset in sorted(ends.items())}
            for topic, ends in sorted(log.offsets.items())
        }
    return found


def _rules(options: argparse.Namespace) -> Rules:
    names = {field.name for field in fields(Rules)}
    given = {
        name: value for name, value in vars(options).items() if name in names and value is not None
    }
    if wrong := [name for name, value in given.items() if not 0 <= value < float("inf")]:
        raise UsageError(f"--{wrong[0].replace('_', '-')} {given[wrong[0]]:g}: must be 0 or more")
    base = NO_RULES if options.no_cleaning else RULES
    return Rules(**{**{name: getattr(base, name) for name in names}, **given})


CLEANING = ("no_cleaning", *(field.name for field in fields(Rules)))


def first_given(options: argparse.Namespace, *names: str) -> str:
    """The first of these options that has a value, as it is written; else nothing."""
    for name in names:
        value = getattr(options, name, None)
        if not (value is None or value is False or value == []):
            return "--" + name.replace("_", "-")
    return ""


def until_of(options: argparse.Namespace) -> dict[tuple[str, int], int]:
    """The offsets of `--until`, by topic and partition.

    Raises
    ------
    UsageError
        One is written in another way.
    """
    return dict(map(_until, options.until))


def minutes(text: str) -> float:
    """A number of minutes above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: give minutes above 0, such as 30 or 0.5")
    return number


def _until(text: str) -> tuple[tuple[str, int], int]:
    place, _, offset = text.partition("=")
    topic, _, partition = place.rpartition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise UsageError(f"--until {text}: write TOPIC:PARTITION=OFFSET, such as clicks:0=1200")
    return (topic, int(partition)), int(offset)
