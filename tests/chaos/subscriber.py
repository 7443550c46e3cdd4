"""A subscriber of lists and dead letters that writes down what it sees, in order."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from queue import Queue
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from stream.config import Topics
from tests.chaos.history import Journal, Seen, SeenLetter, SeenList, text
from tests.chaos.names import Names
from tests.chaos.segments import PLACEMENT


class Subscriber(threading.Thread):
    """Reads both topics from their beginning until `finish`.

    Parameters
    ----------
    names : is told the names of the placement's lists

    Attributes
    ----------
    seen : the history so far
    """

    def __init__(self, bootstrap: str, topics: Topics, journal: Journal, names: Names) -> None:
        super().__init__(daemon=True)
        self.seen = Seen()
        self._lists, self._letters = topics.recommendations, topics.dead_letters
        self._journal, self._names = journal, names
        self._ended = threading.Event()
        self._wanted: Queue[list[TopicPartition]] = Queue()
        self._places = [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in (self._lists, self._letters)
            for partition in range(topics.partitions)
        ]
        self._options = {"bootstrap.servers": bootstrap, "group.id": "none", "log_level": 0}
        self._consumer = self._reading(self._places)
        # Asked while the other one waits for records, a consumer may never answer.
        self._ends = Consumer(self._options)

    def _reading(self, places: list[TopicPartition]) -> Consumer:
        """A consumer of these; one that knew a topic may never find the one made in its place."""
        # Where a broker that dies leaves the question for the beginning open, it goes by this.
        options = {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
        consumer = Consumer({**self._options, **options})
        consumer.assign(places)
        return consumer

    def run(self) -> None:
        while not self._ended.is_set():
            # One at a time: `consume` may not come back from topics that come and go.
            record = self._consumer.poll(0.1)
            if record is not None and record.error() is None:
                self._note(record)
            while not self._wanted.empty():
                self._consumer.close()
                self._consumer = self._reading(self._wanted.get())
                self._wanted.task_done()

    def finish(self, timeout_s: float = 60.0) -> None:
        """Read to the present end of both topics.

        Raises
        ------
        TimeoutError : it was not reached
        """
        deadline = time.monotonic() + timeout_s
        for place in self._places:
            _, end = self._ends.get_watermark_offsets(place, timeout=30)
            while self._reached(place) < end:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{place.topic}-{place.partition} was not read to its end")
                time.sleep(0.05)

    def let_go(self) -> dict[int, list[SeenList]]:
        """Stop reading lists, for their topic goes; those seen of it so far.

        Raises
        ------
        TimeoutError : its end was not reached
        """
        self.finish()
        self._read([place for place in self._places if place.topic == self._letters])
        seen, self.seen.lists = self.seen.lists, defaultdict(list)
        return seen

    def read_anew(self) -> None:
        """Read the lists again, from the beginning of a topic that was made anew."""
        self._read(self._places)

    def _read(self, places: list[TopicPartition]) -> None:
        """Let the thread go on with these, each where it is; returns when it does."""
        self._wanted.put([TopicPartition(p.topic, p.partition, self._reached(p)) for p in places])
        self._wanted.join()

    def close(self) -> None:
        self._ended.set()
        if self.ident is not None:
            self.join()
        self._consumer.close()
        self._ends.close()

    def _reached(self, place: TopicPartition) -> int:
        mine: Any = self.seen.lists if place.topic == self._lists else self.seen.letters
        found = mine.get(place.partition)
        return int(found[-1].offset) + 1 if found else 0

    def _note(self, record: Any) -> None:
        partition, offset = record.partition(), record.offset()
        key, value = record.key(), record.value()
        entry = {"topic": record.topic(), "partition": partition, "offset": offset}
        if record.topic() == self._letters:
            headers = record.headers() or []
            self.seen.letters[partition].append(SeenLetter(offset, key, value, headers))
            told = [(name, text(content)) for name, content in headers]
            self._journal.write({**entry, "key": text(key), "value": text(value), "headers": told})
            return
        cause = settings = name = None
        if value is not None:
            record = json.loads(value)
            found, settings = record["cause"], record.get("settings")
            cause = found["topic"], found["partition"], found["offset"], found["event_time_ms"]
            name = record.get("lists", {}).get(PLACEMENT, {}).get("name")
        if name is not None:
            self._names.note(key, name)
        self.seen.lists[partition].append(SeenList(offset, key, cause, settings, name))
        told = {"key": text(key), "cause": cause, "settings": settings, "name": name}
        self._journal.write({**entry, **told})
