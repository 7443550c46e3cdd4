"""A subscriber of lists and dead letters that writes down what it sees, in order."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from stream.config import Topics
from tests.chaos.history import Journal, Seen, SeenLetter, SeenList, text


class Subscriber(threading.Thread):
    """Reads both topics from their beginning until `finish`.

    Attributes
    ----------
    seen : the history so far
    """

    def __init__(self, bootstrap: str, topics: Topics, journal: Journal) -> None:
        super().__init__(daemon=True)
        self.seen = Seen()
        self._lists, self._letters = topics.recommendations, topics.dead_letters
        self._journal = journal
        self._ended = threading.Event()
        self._places = [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in (self._lists, self._letters)
            for partition in range(topics.partitions)
        ]
        options = {"bootstrap.servers": bootstrap, "group.id": "none", "log_level": 0}
        self._consumer = Consumer({**options, "enable.auto.commit": False})
        # Asked while the other one waits for records, a consumer may never answer.
        self._ends = Consumer(options)
        self._consumer.assign(self._places)

    def run(self) -> None:
        while not self._ended.is_set():
            for record in self._consumer.consume(1000, 0.1):
                if record.error() is None:
                    self._note(record)

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
        cause = None
        if value is not None:
            found = json.loads(value)["cause"]
            cause = found["topic"], found["partition"], found["offset"], found["event_time_ms"]
        self.seen.lists[partition].append(SeenList(offset, key, cause))
        self._journal.write({**entry, "key": text(key), "cause": cause})
