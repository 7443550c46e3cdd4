"""Where events come from: files and topics. In: a path and a format. Out: events of a log.

Must not know: columns, models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from export.data.catalogue import ItemFacts
from stream.errors import UsageError
from stream.logs import FORMATS, BadLines, LoggedEvent, read_events

KAFKA: Final = "kafka"
SOURCES: Final = (*FORMATS, KAFKA)
NAMELESS: Final = ("sessions", "histories")  # users are named after lines


@dataclass(slots=True)
class Asides:
    """What a source tells beside its events.

    Attributes
    ----------
    bad : what cannot be used, of the file that is being read
    offsets : topic -> partition -> offset that reading stopped before
    """

    bad: BadLines = field(default_factory=BadLines)
    facts: ItemFacts = field(default_factory=ItemFacts)
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)


def files_of(path: Path, format_name: str) -> list[Path]:
    """The files of a log: itself, or those of a folder in the order of their names.

    Raises
    ------
    UsageError
        No such format; or a folder of files whose users have no ids.
    """
    if format_name not in SOURCES:
        raise UsageError(f"format {format_name!r} is not one of {', '.join(SOURCES)}")
    if format_name == KAFKA or not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file())
    if format_name in NAMELESS and len(files) > 1:
        raise UsageError(f"{path}: name one file; users of {format_name} are named after its lines")
    return files


def events_of(
    path: Path,
    format_name: str,
    asides: Asides,
    until: Mapping[tuple[str, int], int] | None = None,
) -> Iterator[LoggedEvent]:
    """The good events of a file, or of the topics that a settings file names.

    Parameters
    ----------
    until : (topic, partition) -> offset to stop before, of topics alone

    Raises
    ------
    UsageError
        It cannot be read as this format.
    """
    if format_name != KAFKA:
        if until:
            raise UsageError("--until: only topics have offsets; add --format kafka")
        events = read_events(path, format_name, asides.bad)
    else:
        from export.data.topics import TopicsReader  # Kafka's client takes its time to import

        reader = TopicsReader(path, until or {})
        asides.offsets = reader.offsets
        events = reader.events(asides.bad)
    for line in events:
        if str(line.event.item_id).endswith("\0"):  # no array of NumPy's holds such a text
            asides.bad.append((line.number, "item_id ends in a NUL"))
            continue
        asides.facts.add(line)
        yield line
    if format_name == KAFKA:
        asides.facts.join(reader.items)
