"""The list that answers an event. In: a subscription, an event's place. Out: the user's new list.

Subscribes as `watch` does, before the event is produced; knows the answer by its `cause`. Whether
a list is shown, and how, is the caller's business.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from kafka import KafkaConsumer

from stream.cli.clients import assign_all, open_consumer, seek_to_end
from stream.cli.common import printable
from stream.config import Settings
from stream.contracts import Recommendation, decode_recommendation
from stream.errors import FreshetError, RecordError
from stream.kafka.cluster import Cluster


class Place(Protocol):
    """Where a record stands, as kafka-python's acknowledgement says it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Reflected(NamedTuple):
    """A list and when it came.

    Attributes
    ----------
    at_s : time.monotonic() of the receipt
    value : the record as it came, with fields that this version does not know
    """

    at_s: float
    recommendation: Recommendation
    value: bytes


class Lists:
    """All users' lists from now on. Made by `following_lists`."""

    def __init__(self, consumer: KafkaConsumer, settings: Settings) -> None:
        self._consumer = consumer
        self._settings = settings

    def await_list(self, user: bytes, event: Place, timeout_s: float) -> Reflected:
        """Wait for the user's first list that reflects `event`, or a later one of its partition.

        Parameters
        ----------
        user : the event's key
        event : produced after this subscription began

        Raises
        ------
        FreshetError : none came in `timeout_s` seconds
        """
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            polled = self._consumer.poll(timeout_ms=max(1, int(left_s * 1000)))
            at_s = time.monotonic()
            for record in (one for records in polled.values() for one in records):
                if record.key != user or record.value is None:  # null: the user was forgotten
                    continue
                with contextlib.suppress(RecordError):
                    recommendation = decode_recommendation(record.value)
                    if reflects(recommendation, event):
                        return Reflected(at_s, recommendation, record.value)
        raise FreshetError(
            f"no list of {printable(user.decode())} reflected the event within {timeout_s:g} s: is "
            f"a worker running? The event stands on {event.topic!r} and is not lost; `freshet "
            f"doctor --bootstrap {self._settings.bootstrap}` looks for what is wrong"
        )


@contextlib.contextmanager
def following_lists(settings: Settings) -> Iterator[Lists]:
    """Subscribe to the lists that are published from now on; its position is fixed on entry.

    Raises
    ------
    BrokerError : no broker answers
    TopicError : there is no topic of lists
    """
    topic = settings.topics.recommendations
    with open_consumer(Cluster.of(settings), [topic]) as consumer:
        seek_to_end(consumer, assign_all(consumer, [topic])[topic])
        yield Lists(consumer, settings)


def reflects(recommendation: Recommendation, event: Place) -> bool:
    """Whether the list was made after the user's `event`: its cause is that one or a later one."""
    cause = recommendation.cause
    same = (cause.topic, cause.partition) == (event.topic, event.partition)
    return same and cause.offset >= event.offset
