"""Events straight from the topics. In: a settings file. Out: what the topics hold, up to now.

Reads `clicks` and `purchases` from the first record that is still there up to the ends that the
partitions have at the start: a log is the same however long reading takes. `items` is the
catalogue. Users in `erasures` are left out. Joins no group and commits nothing.

Must not know: columns, models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from tqdm import tqdm

from stream.cli.clients import assign_all, open_consumer
from stream.config import load_settings
from stream.contracts import Item, Kind, decode_erasures, decode_item
from stream.errors import BrokerError, RecordError, UsageError
from stream.kafka.cluster import Cluster
from stream.logs import BadLines, Line, LoggedEvent, decode_lines

POLL_MS = 500
STALL_S = 30.0  # without any record for so long, reading has failed

Until = Mapping[tuple[str, int], int]
Ends = dict[TopicPartition, int]


class TopicsReader:
    """The events that the topics of some settings hold.

    An erasure leaves out the user's events up to its own time for as long as its record is on the
    topic, which is eight days at most. What must not be trained on later than that has to leave
    `clicks` and `purchases` by their retention.

    Parameters
    ----------
    path : settings file; "-" takes the environment alone
    until : (topic, partition) -> offset to stop before; others are read to their ends

    Attributes
    ----------
    items : the catalogue, once `events` has begun
    offsets : topic -> partition -> offset that reading stopped before

    Raises
    ------
    UsageError : the settings are wrong
    """

    def __init__(self, path: Path, until: Until) -> None:
        self._settings = load_settings(None if str(path) == "-" else path, {})
        self._until = until
        self.items: list[Item] = []
        self.offsets: dict[str, dict[int, int]] = {}

    def events(self, bad: BadLines) -> Iterator[LoggedEvent]:
        """The good events, partition by partition as they come, in no order of time.

        Parameters
        ----------
        bad : gets records that cannot be used, numbered from 1 in the order of reading

        Raises
        ------
        UsageError : `until` names a partition that is not there
        BrokerError : no broker answers, or it stops to
        """
        topics = self._settings.topics
        kinds: dict[str, Kind] = {topics.clicks: "clicks", topics.purchases: "purchases"}
        names = [topics.erasures, topics.items, *kinds]
        with open_consumer(Cluster.of(self._settings), names) as consumer:
            places = assign_all(consumer, names)
            ends = consumer.end_offsets([one for name in kinds for one in places[name]])
            self._stop_early(ends)
            for place, end in sorted(ends.items()):
                self.offsets.setdefault(place.topic, {})[place.partition] = end
            erased = _erased(consumer, places[topics.erasures])
            self.items = _items(consumer, places[topics.items], bad)
            yield from _events(consumer, ends, kinds, erased, bad)

    def _stop_early(self, ends: Ends) -> None:
        for (topic, partition), offset in self._until.items():
            place = TopicPartition(topic, partition)
            if place not in ends:
                known = ", ".join(f"{one.topic}:{one.partition}" for one in sorted(ends))
                raise UsageError(f"--until {topic}:{partition}: is none of {known}")
            ends[place] = min(ends[place], offset)


def _events(
    consumer: KafkaConsumer,
    ends: Ends,
    kinds: Mapping[str, Kind],
    erased: Mapping[bytes, int],
    bad: BadLines,
) -> Iterator[LoggedEvent]:
    now_ms = time.time_ns() // 1_000_000
    number = 0
    for records in _records(consumer, ends):
        keys: dict[int, bytes | None] = {}
        lines: list[Line] = []
        for record in records:
            number += 1
            keys[number] = record.key
            if record.value is None:
                bad.append((number, "empty_value"))
            else:
                lines.append(Line(number, record.value))
        kind = kinds[records[0].topic]
        for line in decode_lines(lines, bad, now_ms):
            if line.kind != kind:
                bad.append((line.number, "unknown_type (type)"))
            elif keys[line.number] != line.key:
                bad.append((line.number, "key_mismatch (user_id)"))
            elif line.event.event_time_ms <= erased.get(line.key, 0):
                bad.passed_over["user erased"] += 1
            else:
                yield line


def _erased(consumer: KafkaConsumer, places: list[TopicPartition]) -> dict[bytes, int]:
    """User id -> time (ms) up to which the user's events are to be forgotten."""
    found: dict[bytes, int] = {}
    now_ms = time.time_ns() // 1_000_000
    for records in _records(consumer, consumer.end_offsets(places)):
        keys, values = [record.key for record in records], [record.value for record in records]
        for _, erasure in decode_erasures(keys, values, now_ms)[0]:
            user = erasure.user.encode()
            found[user] = max(found.get(user, 0), erasure.event_time_ms)
    return found


def _items(consumer: KafkaConsumer, places: list[TopicPartition], bad: BadLines) -> list[Item]:
    found: dict[bytes, Item] = {}
    for records in _records(consumer, consumer.end_offsets(places)):
        for record in records:
            try:
                item = decode_item(record.key, record.value)
            except RecordError:
                bad.passed_over["unusable catalogue record"] += 1
                continue
            if item is None:
                found.pop(record.key, None)
            else:
                found[record.key] = item
    return list(found.values())


def _records(consumer: KafkaConsumer, ends: Ends) -> Iterator[list[Any]]:
    """Records of one partition each, from the first that is there up to the ends."""
    consumer.assign(list(ends))
    consumer.seek_to_beginning(*ends)
    heard_s = time.monotonic()
    with tqdm(unit="record", unit_scale=True, leave=False, disable=None) as progress:
        while behind := [place for place in ends if consumer.position(place) < ends[place]]:
            consumer.pause(*(set(ends) - set(behind)))
            polled = consumer.poll(timeout_ms=POLL_MS)
            if polled:
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > STALL_S:
                raise BrokerError(
                    f"topic {behind[0].topic!r} could not be read to its end: nothing came for "
                    f"{STALL_S:g} s; try again when the broker is well"
                )
            for place, records in polled.items():
                wanted = [record for record in records if record.offset < ends[place]]
                progress.update(len(wanted))
                if wanted:
                    yield wanted
