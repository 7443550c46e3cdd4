"""The load of a soak and its subscriber, in one process that reads one clock.

In: what to send and where, as JSON; on standard input `peak`, `rate N` and `stop`, a line each.
Out: a `Seen` as JSON a line and interval. A fixed population of shoppers looks at items and buys
them in sessions that change; prices change, items go and come back; a few records are bad.

Every eighth user only clicks and is watched: each of their clicks is matched to the first list of
theirs whose cause is this click or a later one. Knows nothing of workers.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import deque
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from stream.contracts.partitioner import partitions_of
from stream.demo import sample
from tests.soak.samples import Seen

WATCHED_EACH = 8
# Clicks of watched users under way at the peak: 4,000 events, which is two full micro-batches.
PEAK_WAITING = 500
BAD_SHARE = 0.002
BOUGHT_SHARE = 0.1
SESSION_S = 600
CHANGES_S = 5  # items changed a second; every tenth change takes one away for a while
_TICK_S = 0.002
_BURST = 200
_GARBAGE = (b"", b"not json", b'{"user_id":1}', b"\xff\xfe", b"[" * 200, b'{"type":"click"}')
_CLICKS = ("view", "view", "click", "click", "add_to_cart", "like", "impression")


class Load(msgspec.Struct, frozen=True):
    """The one argument."""

    bootstrap: str
    clicks: str
    purchases: str
    items: str
    lists: str
    partitions: int
    users: int
    every_s: float
    seed: int = 7


class _Cause(msgspec.Struct):
    topic: str
    offset: int


class _List(msgspec.Struct):
    cause: _Cause


_LISTS = msgspec.json.Decoder(_List)


class Watched:
    """Clicks without their list yet, by user, and how long the others took."""

    def __init__(self, users: list[bytes]) -> None:
        self._clicks: dict[bytes, deque[tuple[int, float]]] = {user: deque() for user in users}
        self._took_s: list[float] = []
        self.sent = self.answered = 0

    @property
    def waiting(self) -> int:
        return self.sent - self.answered

    def send(self, user: bytes, offset: int, now_s: float) -> None:
        """A click is about to be sent; before it is, or its list could come first."""
        self._clicks[user].append((offset, now_s))
        self.sent += 1

    def receive(self, user: bytes, offset: int, now_s: float) -> None:
        """A list reflects this user's clicks up to `offset`."""
        clicks = self._clicks[user]
        while clicks and clicks[0][0] <= offset:
            self._took_s.append(now_s - clicks.popleft()[1])
            self.answered += 1

    def __contains__(self, user: object) -> bool:
        return user in self._clicks

    def take(self) -> list[float]:
        """The times since the last call, in seconds."""
        took_s, self._took_s = self._took_s, []
        return took_s


class Subscriber(threading.Thread):
    """Reads every list, and tells the watched users' of them."""

    def __init__(self, load: Load, watched: Watched) -> None:
        super().__init__(daemon=True)
        self.lists = 0
        self._clicks = load.clicks
        self._watched = watched
        self._ended = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": load.bootstrap,
                "group.id": "soak-subscriber",
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",  # what retention took while we were slow
                "fetch.queue.backoff.ms": 1,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        everywhere = [TopicPartition(load.lists, p, 0) for p in range(load.partitions)]
        self._consumer.assign(everywhere)

    def run(self) -> None:
        poll, watched = self._consumer.poll, self._watched
        while not self._ended.is_set():
            record = poll(0.1)
            if record is None or record.error() is not None:
                continue
            self.lists += 1
            user: Any = record.key()
            value = record.value()
            if value is not None and user in watched:
                now_s = time.perf_counter()
                cause = _LISTS.decode(value).cause
                if cause.topic == self._clicks:
                    watched.receive(user, cause.offset, now_s)

    def finish(self) -> None:
        self._ended.set()
        self.join()
        self._consumer.close()


class Shoppers:
    """Sends events; the only writer of its topics, so that it knows each record's offset."""

    def __init__(self, load: Load, watched: Watched) -> None:
        self._load = load
        self._watched = watched
        self._chance = random.Random(load.seed)
        self._users = [b"s%d" % number for number in range(load.users)]
        self._partitions = partitions_of(self._users, load.partitions).tolist()
        self._next = [0] * load.partitions  # offset of the next click
        self._catalogue = list(sample.catalogue())
        self._ids = [key for key, _ in self._catalogue]
        self._gone: list[tuple[bytes, bytes]] = []
        self._changes = 0
        self._failed: list[str] = []
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": load.bootstrap,
                "linger.ms": 1,
                "enable.idempotence": True,
                "queue.buffering.max.messages": 100_000,
                "delivery.report.only.error": True,
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )

    def fill_catalogue(self) -> None:
        for key, value in self._catalogue:
            self._producer.produce(self._load.items, key=key, value=value)
        self._producer.flush(60)

    def change_items(self) -> None:
        """A new price; now and then an item goes, or the one that went comes back; a bad one."""
        self._changes += 1
        key, value = self._chance.choice(self._catalogue)
        if self._changes % 20 == 10:
            self._gone.append((key, value))
            self._produce(self._load.items, key, None)
        elif self._changes % 20 == 0:
            self._produce(self._load.items, *self._gone.pop())
        else:
            item = json.loads(value)
            item["price"] = round(self._chance.uniform(1, 20), 2)
            self._produce(self._load.items, key, json.dumps(item).encode())
        if self._changes % 50 == 0:
            self._produce(self._load.items, key, b"no item")

    def send(self, count: int) -> None:
        """Send events: one of each user first, then of users drawn evenly."""
        chance, load = self._chance.random, self._load
        now_ms = int(time.time() * 1000)
        session = now_ms // (SESSION_S * 1000)
        for _ in range(count):
            number = self.sent if self.sent < load.users else int(chance() * load.users)
            user, partition = self._users[number], self._partitions[number]
            item = self._ids[int(chance() * len(self._ids))]
            watched = number % WATCHED_EACH == 0
            drawn = chance()
            if drawn < BOUGHT_SHARE and not watched:
                value = (
                    b'{"event_id":"p%d","user_id":"%s","item_id":"%s","type":"purchase",'
                    b'"event_time_ms":%d,"session_id":"%d-%d","quantity":1,"unit_price":2.5,'
                    b'"currency":"EUR"}' % (self.sent, user, item, now_ms, number, session)
                )
                self._produce(load.purchases, user, value, partition)
            elif drawn > 1 - BAD_SHARE and self.sent >= load.users:
                self._next[partition] += 1
                garbage = _GARBAGE[self.sent % len(_GARBAGE)]
                self._produce(load.clicks, user, garbage, partition)
            else:
                kind = _CLICKS[int(chance() * len(_CLICKS))].encode()
                value = (
                    b'{"event_id":"c%d","user_id":"%s","item_id":"%s","type":"%s",'
                    b'"event_time_ms":%d,"session_id":"%d-%d","placement":"home"}'
                    % (self.sent, user, item, kind, now_ms, number, session)
                )
                if watched:
                    self._watched.send(user, self._next[partition], time.perf_counter())
                self._next[partition] += 1
                self._produce(load.clicks, user, value, partition)
            self.sent += 1
        self._producer.poll(0)

    def _produce(self, topic: str, key: bytes, value: bytes | None, partition: int = -1) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, key=key, value=value, partition=partition, on_delivery=self._told
                )
                break
            except BufferError:  # the broker is slow: wait for it, and be late
                self._producer.poll(0.01)
        if self._failed:
            raise SystemExit(f"the broker did not take a record: {self._failed[0]}")

    def _told(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed.append(str(error))

    def flush(self) -> None:
        self._producer.flush(10)


class Traffic:
    """Sends as it is told, and reports every interval."""

    def __init__(self, load: Load) -> None:
        self._load = load
        users = [b"s%d" % number for number in range(0, load.users, WATCHED_EACH)]
        self._watched = Watched(users)
        self.shoppers = Shoppers(load, self._watched)
        self._subscriber = Subscriber(load, self._watched)
        self._rate = 0.0
        self._peak = self._stopped = False
        self._late_s: list[float] = []

    def obey(self) -> None:
        """Read commands until `stop`, or until whoever gives them is gone."""
        for line in sys.stdin:
            command, *argument = line.split()
            self._peak = command == "peak"
            self._rate = float(argument[0]) if command == "rate" else 0.0
            if command == "stop":
                break
        self._stopped = True

    def run(self) -> None:
        threading.Thread(target=self.obey, daemon=True).start()
        self._subscriber.start()
        begun = reported = changed = time.perf_counter()
        before, rate, due_s = (0, 0, 0), 0.0, begun
        while not self._stopped:
            now_s = time.perf_counter()
            if self._peak:
                if self._watched.waiting < PEAK_WAITING:
                    self.shoppers.send(_BURST)
                else:
                    time.sleep(_TICK_S / 2)
            elif self._rate:
                if rate != self._rate:
                    rate, due_s = self._rate, now_s
                count = int((now_s - due_s) * rate)
                if count:
                    self._late_s.append(now_s - due_s - 1 / rate)  # of the first of them
                    self.shoppers.send(min(count, _BURST))
                    due_s += min(count, _BURST) / rate
                else:
                    time.sleep(_TICK_S)
            else:
                time.sleep(_TICK_S)
            if now_s - changed > 1 / CHANGES_S:
                changed = now_s
                self.shoppers.change_items()
            if now_s - reported >= self._load.every_s:
                before = self._report(now_s - reported, before)
                reported = now_s
        self._subscriber.finish()
        self.shoppers.flush()

    def _report(self, seconds: float, before: tuple[int, int, int]) -> tuple[int, int, int]:
        took_ms = np.array(self._watched.take() or [0.0]) * 1000
        p50, p90, p99 = np.percentile(took_ms, [50, 90, 99]).tolist()
        late_s, self._late_s = self._late_s, []
        now = (self.shoppers.sent, self._watched.answered, self._subscriber.lists)
        sent, answered, lists = (new - old for new, old in zip(now, before, strict=True))
        seen = Seen(
            seconds=seconds,
            sent=sent,
            answered=answered,
            lists=lists,
            waiting=self._watched.waiting,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            max_ms=float(took_ms.max()),
            late_p99_ms=float(np.percentile(late_s or [0.0], 99)) * 1000,
        )
        print(msgspec.json.encode(seen).decode(), flush=True)
        return now


def main() -> None:
    load = msgspec.json.decode(sys.argv[1], type=Load)
    sys.setswitchinterval(0.0005)  # two threads, one interpreter: the receipt must not wait 5 ms
    traffic = Traffic(load)
    traffic.shoppers.fill_catalogue()
    traffic.run()


if __name__ == "__main__":
    main()
