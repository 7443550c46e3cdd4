"""The demo's loop: sends what is due, shows what arrives. In: visits, records. Out: a terminal.

Every list stands there with its event-to-list time: from this process's send to its receipt, by one
clock. For events sent by hand it is from their event_time_ms to the receipt.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import click
import msgspec
from kafka import KafkaProducer

from stream.cli.lists import ListReader
from stream.cli.screen import Happened, Screen, own_click
from stream.cli.shoppers import is_simulated
from stream.config import Settings
from stream.contracts import Cause, Recommendation, decode_recommendation
from stream.errors import RecordError
from stream.logs import Event

KNOWN_EVENTS = 1000  # remembered, to say what a list answers
HOLD_S = 0.3  # a list waits so long for the record of its event
REMIND_EVERY = 20  # events between two reminders of how to click oneself

Where = tuple[str, int, int]  # topic, partition, offset
Step = tuple[str, str, str]  # user_id, event type, item_id


class Watched(Protocol):
    """What the demo started."""

    def check(self) -> None:
        """Raise FreshetError when it has ended."""


class _Sent(NamedTuple):
    acknowledged: Any  # future of the record's place
    at_s: float  # monotonic
    happened: Happened


class _Received(NamedTuple):
    recommendation: Recommendation
    at_s: float  # monotonic
    at_ms: float  # wall clock


class DemoLoop:
    """Until Ctrl-C.

    Parameters
    ----------
    consumer : opened for the items, clicks, purchases and recommendations topics
    watched : what must not end
    pace_s : seconds between two events
    """

    def __init__(
        self,
        settings: Settings,
        producer: KafkaProducer,
        consumer: Any,
        watched: Sequence[Watched],
        pace_s: float,
    ) -> None:
        topics = settings.topics
        self._topics = {"click": topics.clicks, "purchase": topics.purchases}
        self._lists_topic = topics.recommendations
        self._bootstrap = settings.bootstrap
        self._producer = producer
        self._watched = watched
        self._pace_s = pace_s
        self._lists = ListReader(consumer, settings, *self._topics.values(), self._lists_topic)
        self._screen = Screen(self._lists.titles)
        self._known: OrderedDict[Where, Happened] = OrderedDict()
        self._sent: dict[str, _Sent] = {}  # by user_id: the newest one
        self._waiting: deque[_Received] = deque()

    def run(self, visits: Sequence[Step], favourites: Sequence[str]) -> None:
        """Replay visits, then wait for what is done by hand; ends with Ctrl-C.

        Parameters
        ----------
        visits : user_id, event type, item_id of each event
        favourites : items that a reader is told to click
        """
        suggestions = [(item_id, self._lists.titles.title(item_id)) for item_id in favourites]
        hint = own_click(_program(), self._bootstrap, suggestions)
        click.echo("\n+ marks what is new on a list. Ctrl-C ends all.")
        click.echo(hint)
        steps: Iterator[Step] | None = iter(visits)
        due, number = time.monotonic(), 0
        while True:
            for one in self._watched:
                one.check()
            left_s = due - time.monotonic()
            self._receive(max(0.0, min(left_s, 0.25)) if steps else 0.25)
            self._show()
            if steps is None or left_s > 0:
                continue
            step = next(steps, None)
            if step is None:
                steps = None
                click.echo(f"\n{number} events are replayed; waiting for yours (Ctrl-C ends).")
                click.echo(hint)
                continue
            self._send(*step)
            number, due = number + 1, due + self._pace_s
            if number % REMIND_EVERY == 0:
                click.echo(hint)

    def _send(self, user_id: str, event_type: str, item_id: str) -> None:
        at_s, at_ms = time.monotonic(), time.time_ns() // 1_000_000
        event = {
            "event_id": f"demo-{time.time_ns()}",
            "user_id": user_id,
            "item_id": item_id,
            "type": event_type,
            "event_time_ms": at_ms,
        }
        value = msgspec.json.encode(event)
        sent = self._producer.send(self._topics[event_type], key=user_id.encode(), value=value)
        self._sent[user_id] = _Sent(sent, at_s, Happened(event_type, item_id))

    def _receive(self, timeout_s: float) -> None:
        for record in self._lists.poll(timeout_s):
            at_s, at_ms = time.monotonic(), time.time_ns() / 1e6
            refused = (RecordError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
            with contextlib.suppress(*refused):
                if record.topic != self._lists_topic:
                    where = (record.topic, record.partition, record.offset)
                    event = msgspec.json.decode(record.value or b"", type=Event)
                    self._known[where] = Happened(event.type, str(event.item_id))
                    while len(self._known) > KNOWN_EVENTS:
                        self._known.popitem(last=False)
                elif record.value is not None and not is_simulated(record.key):
                    received = _Received(decode_recommendation(record.value), at_s, at_ms)
                    self._waiting.append(received)

    def _show(self) -> None:
        """Print the lists whose event is known, or that waited long enough for it."""
        while self._waiting:
            received = self._waiting[0]
            recommendation, cause = received.recommendation, received.recommendation.cause
            own = self._own(recommendation.user_id, cause)
            happened = own.happened if own else self._known.get(_where(cause))
            if happened is None and time.monotonic() - received.at_s < HOLD_S:
                return
            self._waiting.popleft()
            delay_ms = received.at_ms - cause.event_time_ms
            if own is not None:
                delay_ms = (received.at_s - own.at_s) * 1000
            lines = self._screen.render(recommendation, happened, delay_ms, by_hand=own is None)
            click.echo("\n".join(lines))

    def _own(self, user_id: str, cause: Cause) -> _Sent | None:
        """Return the event of this demo that a list answers, if it is one of them.

        A later offset is an event that was sent by hand for the same user.
        """
        sent = self._sent.get(user_id)
        if sent is None:
            return None
        place = sent.acknowledged.get(timeout=10)
        return sent if (place.topic, place.partition, place.offset) == _where(cause) else None


def _where(cause: Cause) -> Where:
    return cause.topic, cause.partition, cause.offset


def _program() -> str:
    """Return how this program was called, so that its command line works in another terminal."""
    called = Path(sys.argv[0])
    if called.name != "freshet":
        return f"{sys.executable} -m stream.cli"
    found = shutil.which("freshet")
    if found and Path(found).resolve() == called.resolve():
        return "freshet"
    with contextlib.suppress(ValueError):
        return str(called.resolve().relative_to(Path.cwd()))
    return str(called.resolve())
