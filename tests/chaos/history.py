"""What was sent and what was seen, kept for the checker and written down as it happens.

One JSON object a line; bytes stand as text of one character a byte (Latin-1).
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

Place = tuple[str, int]  # topic, partition
Headers = Sequence[tuple[str, bytes | None]]


def text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


class Journal:
    """A file of JSON lines; may be written by several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry) + "\n"
        with self._lock:
            if not self._file.closed:
                self._file.write(line)

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Acknowledged(NamedTuple):
    """What a producer was told is stored.

    Attributes
    ----------
    print : `fingerprint` of the record
    good : whether it was meant to be used
    """

    print: int
    good: bool


def fingerprint(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Tells a record from another one, within this process."""
    return hash((key, value, tuple(map(tuple, headers))))


class Produced:
    """A producer's history: what was acknowledged, and where.

    Attributes
    ----------
    acknowledged : topic and partition -> offset -> what stands there
    failed : records that the producer gave up; they may stand in the log or not
    """

    def __init__(self, journal: Journal) -> None:
        self.acknowledged: dict[Place, dict[int, Acknowledged]] = defaultdict(dict)
        self.failed = 0
        self._journal = journal

    def note(self, error: Any, record: Any, headers: Headers, good: bool) -> None:
        """A delivery report of confluent_kafka, which lacks the headers."""
        key, value = record.key(), record.value()
        entry = {"topic": record.topic(), "key": text(key), "value": text(value), "good": good}
        if headers:
            entry["headers"] = [(name, text(value)) for name, value in headers]
        if error is None:
            place, offset = (record.topic(), record.partition()), record.offset()
            self.acknowledged[place][offset] = Acknowledged(fingerprint(key, value, headers), good)
            self._journal.write({**entry, "partition": place[1], "offset": offset})
        else:
            self.failed += 1
            self._journal.write({**entry, "failed": str(error)})


class SeenList(NamedTuple):
    """A record of `recommendations` as a subscriber saw it; without cause: a tombstone."""

    offset: int
    user: bytes
    cause: tuple[str, int, int, int] | None  # topic, partition, offset, event_time_ms
    settings: str | None = None  # the revision that it names
    name: str | None = None  # of the placement's list


class SeenLetter(NamedTuple):
    """A dead letter as a subscriber saw it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Seen:
    """A subscriber's history: lists and dead letters by partition, in the order of arrival."""

    def __init__(self) -> None:
        self.lists: dict[int, list[SeenList]] = defaultdict(list)
        self.letters: dict[int, list[SeenLetter]] = defaultdict(list)
