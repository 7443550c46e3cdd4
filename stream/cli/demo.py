"""`freshet demo`: all of Freshet on one machine. In: a real shop's baskets. Out: lists.

Starts an embedded broker (unless one is named), the topics, the catalogue and a worker; lets a few
shoppers of the sample click and buy at a human pace; shows every list with its event-to-list time:
from this process's send to its receipt, by one clock. For events sent by hand it is from
their event_time_ms to the receipt.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from kafka import KafkaProducer

from stream.cli.clients import open_consumer, open_producer
from stream.cli.common import connection_options, examples, load
from stream.cli.lists import ListReader
from stream.cli.screen import Happened, Screen, own_click
from stream.config import Settings, given_paths, settings_file
from stream.contracts import Cause, Item, Recommendation, decode_recommendation
from stream.core.bundle import Bundle
from stream.demo import sample, shop
from stream.demo.worker import WorkerProcess
from stream.errors import RecordError
from stream.kafka.broker import EmbeddedBroker, free_port
from stream.kafka.cluster import Cluster
from stream.kafka.topics import create_topics, require_topics
from stream.logs import Event

KNOWN_EVENTS = 1000  # remembered, to say what a list answers
HOLD_S = 0.3  # a list waits so long for the record of its event
REMIND_EVERY = 20  # events between two reminders of how to click oneself

# The embedded broker lets a group join after half the session timeout.
_EMBEDDED = {
    "broker.session_timeout_s": "2",
    "broker.heartbeat_s": "0.5",
}

Where = tuple[str, int, int]  # topic, partition, offset


@click.command(
    "demo",
    epilog=examples(
        "freshet demo",
        "freshet demo --shoppers 5 --pace 0.5",
    ),
)
@click.option("--shoppers", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option(
    "--pace",
    type=click.FloatRange(0.01),
    default=1.5,
    show_default=True,
    help="Seconds between two events.",
)
@click.option(
    "--events",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    help="Stop replaying after so many, and wait for events by hand.",
)
@connection_options
def command(
    *, config: Path | None, bootstrap: str | None, shoppers: int, pace: float, events: int
) -> None:
    """Show lists of a real shop change with every click, on this machine.

    Starts an embedded broker; with --bootstrap or FRESHET_BOOTSTRAP it uses that broker's topics
    instead. Ctrl-C ends all it started.
    """
    config = settings_file(config) or shop.SETTINGS
    settings = load(config, bootstrap)
    with contextlib.ExitStack() as stack:
        worker_settings: dict[str, str] = {}
        # The default address counts when it was spelled out, or how to get in there.
        given = given_paths(config, {"bootstrap": bootstrap})
        if not any(path.partition(".")[0] in {"bootstrap", "security"} for path in given):
            broker = stack.enter_context(EmbeddedBroker())
            settings = msgspec.structs.replace(settings, bootstrap=broker.bootstrap)
            worker_settings = _EMBEDDED
            click.echo(f"broker   {broker.bootstrap}, embedded, all in memory")
        else:
            click.echo(f"broker   {settings.bootstrap}")
        create_topics(settings)
        require_topics(settings)
        worker = stack.enter_context(_worker(settings, config, worker_settings))
        topics = settings.topics
        sources = [topics.items, topics.clicks, topics.purchases]
        producer = stack.enter_context(open_producer(Cluster.of(settings), sources))
        items = _send_catalogue(settings, producer)
        products = sum(item.kind == "product" for item in items)
        click.echo(
            f"items    {products:,} of Online Retail (UCI, CC BY 4.0), prices in GBP; "
            f"{len(items) - products} shops, coupons, ads and articles are made up"
        )
        started = time.monotonic()
        worker.await_ready()
        click.echo(
            f"worker   ready after {time.monotonic() - started:.1f} s, metrics at "
            f"{worker.url}/metrics"
        )
        consumer = stack.enter_context(
            open_consumer(Cluster.of(settings), [*sources, topics.recommendations])
        )
        _Demo(settings, producer, consumer, worker, pace).run(shoppers, events)


def _worker(settings: Settings, config: Path, given: dict[str, str]) -> WorkerProcess:
    flags = ["--bootstrap", settings.bootstrap, "--config", str(config)]
    flags += ["--bundle", settings.bundle or str(sample.BUNDLE)]
    return WorkerProcess(flags, given, free_port())


def _send_catalogue(settings: Settings, producer: KafkaProducer) -> list[Item]:
    items = shop.assortment(Bundle.load(settings.bundle or sample.BUNDLE))
    for key, value in shop.records(items):
        producer.send(settings.topics.items, key=key, value=value)
    producer.flush(timeout=30)
    return items


class _Sent(NamedTuple):
    acknowledged: Any  # future of the record's place
    at_s: float  # monotonic
    happened: Happened


class _Received(NamedTuple):
    recommendation: Recommendation
    at_s: float  # monotonic
    at_ms: float  # wall clock


class _Demo:
    """The loop: send what is due, show what arrives."""

    def __init__(
        self,
        settings: Settings,
        producer: KafkaProducer,
        consumer: Any,
        worker: WorkerProcess,
        pace_s: float,
    ) -> None:
        topics = settings.topics
        self._topics = {"click": topics.clicks, "purchase": topics.purchases}
        self._lists_topic = topics.recommendations
        self._bootstrap = settings.bootstrap
        self._producer = producer
        self._worker = worker
        self._pace_s = pace_s
        self._lists = ListReader(consumer, settings, *self._topics.values(), self._lists_topic)
        self._screen = Screen(self._lists.titles)
        self._known: OrderedDict[Where, Happened] = OrderedDict()
        self._sent: dict[str, _Sent] = {}  # by user_id: the newest one
        self._waiting: deque[_Received] = deque()

    def run(self, shoppers: int, events: int) -> None:
        """Replay `events` events, then wait for those sent by hand; ends with Ctrl-C."""
        baskets = sample.read_baskets()
        favourites = sample.favourite_items(baskets, 2)
        suggestions = [(item_id, self._lists.titles.title(item_id)) for item_id in favourites]
        hint = own_click(_program(), self._bootstrap, suggestions)
        click.echo("\n+ marks what is new on a list. Ctrl-C ends all.")
        click.echo(hint)
        steps: Iterator[tuple[str, str, str]] | None
        steps = islice(sample.visits(baskets, shoppers), events)
        due, number = time.monotonic(), 0
        while True:
            self._worker.check()
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
                elif record.value is not None:
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
