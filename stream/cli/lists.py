"""Lists as they arrive, with the catalogue's titles. In: a consumer. Out: records and words.

Reads the items topic from its beginning and follows it beside the topics that the caller wants.
Shared by watch, simulate and demo; knows nothing of terminals.
"""

from __future__ import annotations

import contextlib
from typing import Any

from kafka import KafkaConsumer

from stream.cli.clients import assign_all, read_to_end, seek_to_end
from stream.config import Settings
from stream.contracts import Item, Reason, decode_item
from stream.errors import RecordError
from stream.words.templates import Words


class Titles:
    """The catalogue as people read it.

    Parameters
    ----------
    words : what reasons are told in, where a record has no words of its own

    Attributes
    ----------
    items : by item_id
    """

    def __init__(self, words: Words) -> None:
        self.items: dict[str, Item] = {}
        self._words = words

    def learn(self, key: bytes | None, value: bytes | None) -> None:
        """Take a record of the items topic in; a bad one is the worker's to report."""
        with contextlib.suppress(RecordError):
            item = decode_item(key, value)
            if item is not None:
                self.items[item.item_id] = item
            elif key is not None:
                self.items.pop(key.decode(errors="replace"), None)

    def title(self, item_id: str) -> str:
        """Return the item's title; its id when it has none."""
        item = self.items.get(item_id)
        return (item.title if item else None) or item_id

    def why(self, reason: Reason) -> str:
        """Return a reason in words, such as "You bought LUNCH BAG"."""
        if reason.words:
            return reason.words
        title = None if reason.item_id is None else self.title(reason.item_id)
        return self._words.why(reason.code, title)


class ListReader:
    """Follows topics from now on, beside the catalogue from its beginning.

    Parameters
    ----------
    consumer : opened for the items topic and `topics`
    topics : what `poll` returns the records of
    """

    def __init__(self, consumer: KafkaConsumer, settings: Settings, *topics: str) -> None:
        self.titles = Titles(Words.of(settings.words))
        self._consumer = consumer
        self._items_topic = settings.topics.items
        assigned = assign_all(consumer, [self._items_topic, *topics])
        catalogue = assigned.pop(self._items_topic)
        followed = [one for of_topic in assigned.values() for one in of_topic]
        seek_to_end(consumer, followed)
        consumer.pause(*followed)
        for record in read_to_end(consumer, catalogue):
            self.titles.learn(record.key, record.value)
        consumer.resume(*followed)

    def poll(self, timeout_s: float) -> list[Any]:
        """Wait for records of the topics; those of the catalogue are taken in on the way."""
        records = []
        for partition, batch in self._consumer.poll(timeout_ms=int(timeout_s * 1000)).items():
            if partition.topic == self._items_topic:
                for record in batch:
                    self.titles.learn(record.key, record.value)
            else:
                records += batch
        return records
