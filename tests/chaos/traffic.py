"""What a shop sends: events, late, repeated, unknown and broken ones, and a catalogue that changes.

Drawn from a seed. Everything that was sent, and where it was acknowledged, is in `produced`.
"""

from __future__ import annotations

import json
import random
import threading
import time
from functools import partial
from typing import Any, Protocol

from confluent_kafka import Producer

from stream.config import Topics
from tests.chaos.decode import CLICKS, PURCHASES
from tests.chaos.history import Journal, Produced
from tests.chaos.names import Names
from tests.chaos.segments import PLACEMENT

ITEMS = 300  # of the bundle
NEW_ITEMS = 8  # which the catalogue brings, with embeddings
DIM = 16
USERS = 3_000
BAD_SHARE = 0.01
ERASURES_SHARE = 0.01  # of records
FLUSH_S = 90.0
LATE_MS = (0, 0, 0, 90_000_000)
OWN_HEADERS: list[tuple[str, bytes | None]] = [("trace", b"\x00\xff7"), ("empty", None)]

Sent = tuple[str, bytes | None, bytes | None]


class Traffic:
    """A producer of events and catalogue records.

    Parameters
    ----------
    names : of lists, from which events say on which one they were done

    Attributes
    ----------
    new_items : embedding by item_id of the items that the bundle does not know; they stand in the
        catalogue from the beginning and stay as they are, so that a state does not depend on when
        a worker read the catalogue
    erases : erasures are sent among the events
    """

    def __init__(
        self, bootstrap: str, topics: Topics, seed: int, journal: Journal, names: Names
    ) -> None:
        self.produced = Produced(journal)
        self._topics, self._names = topics, names
        self._chance = random.Random(seed)
        self.new_items: dict[str, list[float]] = {}
        self.erases = False
        self._again: list[Sent] = []
        self._guests = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "enable.idempotence": True,
                "message.timeout.ms": int(FLUSH_S * 1000),
                "log_level": 0,
            }
        )

    # -- catalogue -------------------------------------------------------------------------

    def fill_catalogue(self) -> None:
        """All items, and some that only the catalogue has."""
        for number in range(NEW_ITEMS):
            self.new_items[f"new{number}"] = [self._chance.uniform(-1, 1) for _ in range(DIM)]
        for number in range(1, ITEMS + 1):
            self._put(f"i{number}", {"price": number / 2})
        for item_id, embedding in self.new_items.items():
            self._put(item_id, {"embedding": embedding})
        self.flush()

    def change_catalogue(self, count: int) -> None:
        """Prices, items that sell out, vanish and come back, and records that cannot be used."""
        for _ in range(count):
            item_id = f"i{self._chance.randrange(1, ITEMS + 1)}"
            if self._chance.random() < 0.1:
                bad = self._chance.choice(_BAD_ITEMS)
                self._send(self._topics.items, item_id.encode(), bad, good=False)
            elif self._chance.random() < 0.1:
                self._send(self._topics.items, item_id.encode(), None, good=True)
            else:
                price = round(self._chance.uniform(1, 100), 2)
                self._put(item_id, {"price": price, "available": self._chance.random() < 0.9})

    def _put(self, item_id: str, fields: dict[str, Any]) -> None:
        value = json.dumps({"item_id": item_id, **fields}).encode()
        self._send(self._topics.items, item_id.encode(), value, good=True)

    # -- events ----------------------------------------------------------------------------

    def produce(self, count: int) -> None:
        """Send `count` records: views to purchases, late, repeated, unknown and broken ones."""
        for _ in range(count):
            self._event()
        self._producer.poll(0)

    def _event(self) -> None:
        chance, topics = self._chance, self._topics
        if self.erases and chance.random() < ERASURES_SHARE:
            self._erasure()
            return
        if self._again and chance.random() < 0.02:  # the shop's own retry
            self._send(*chance.choice(self._again), good=True)
            return
        user: str | int = f"u{int(USERS * chance.random() ** 2)}"
        if chance.random() < 0.01:
            user = chance.randrange(50)  # a number becomes its text
        key = str(user).encode()
        if chance.random() < BAD_SHARE:
            self._send(*self._bad(key), good=False)
            return
        bought = chance.random() < 0.15
        event: dict[str, Any] = {
            "user_id": user,
            "item_id": self._item(),
            "type": chance.choice((*PURCHASES, "purchase") if bought else (*CLICKS, "view")),
            "event_time_ms": int(time.time() * 1000) - chance.choice(LATE_MS),
        }
        if not bought and chance.random() < 0.5:
            event["placement"] = chance.choice((PLACEMENT, PLACEMENT, "elsewhere"))
            name = self._names.drawn(key)
            if name is not None:
                event["list_name"] = name
        if bought and chance.random() < 0.8:
            event["unit_price"] = chance.choice((0, 3, round(50 * chance.random(), 2)))
            event["quantity"] = chance.randrange(1, 5)
        if chance.random() < 0.7:  # without one, an event that is folded twice shows in the state
            event["event_id"] = f"{chance.getrandbits(64):x}"
        record = (topics.purchases if bought else topics.clicks, key, json.dumps(event).encode())
        if "event_id" in event:
            self._again = [*self._again[-200:], record]
        self._send(*record, good=True)

    def _erasure(self) -> None:
        """An erasure of somebody who goes on, of one who does not, or one that cannot be used."""
        chance = self._chance
        kind = chance.random()
        if kind < 0.1:
            key = b"u1"
            self._send(self._topics.erasures, key, chance.choice(_BAD_ERASURES), good=False)
        elif kind < 0.6:
            user = f"u{int(USERS * chance.random() ** 2)}"
            self.erase(user, int(time.time() * 1000) - chance.choice(LATE_MS))
        else:
            self._guests += 1
            guest = f"g{self._guests}"
            now_ms = int(time.time() * 1000)
            self.view(guest, now_ms - 2_000)
            self.erase(guest, now_ms, times=chance.choice((1, 1, 2)))
            self.view(f"g{chance.randint(1, self._guests)}", now_ms - 90_000_000)

    def erase(self, user: str, until_ms: int, times: int = 1) -> None:
        """Ask to forget a user's events up to a time."""
        value = json.dumps({"user_id": user, "event_time_ms": until_ms}).encode()
        for _ in range(times):
            self._send(self._topics.erasures, user.encode(), value, good=True)

    def view(self, user: str, time_ms: int) -> None:
        """One event of a user, at a time."""
        event = {"user_id": user, "item_id": "i1", "type": "view", "event_time_ms": time_ms}
        self._send(self._topics.clicks, user.encode(), json.dumps(event).encode(), good=True)

    def _item(self) -> str:
        if self.new_items and self._chance.random() < 0.05:
            return self._chance.choice(list(self.new_items))
        return f"i{self._chance.randrange(1, ITEMS + 20)}"

    def _bad(self, key: bytes) -> Sent:
        chance, topics = self._chance, self._topics
        good = {"user_id": key.decode(), "item_id": "i1", "type": "view"}
        good["event_time_ms"] = int(time.time() * 1000)  # type: ignore[assignment]
        values: list[bytes | None] = [None, b"", b"not json", b"\xff\xfe", b"[" * 2000, b"[1]"]
        values += [b'{"type":"click"}', b'{"user_id":1}']
        wrong: list[dict[str, Any]] = [
            {"type": "browse"},
            {"type": "purchase"},
            {"event_time_ms": 5},
            {"event_time_ms": 2**52},
            {"item_id": ""},
            {"item_id": "i" * 300},
            {"user_id": "somebody else"},
            {"list_name": 7},
            {"list_name": "n" * 257},
        ]
        values += [json.dumps({**good, **fields}).encode() for fields in wrong]
        record = (topics.clicks, key, chance.choice(values))
        nobody = (topics.clicks, None, json.dumps(good).encode())
        return chance.choice([record] * 15 + [nobody])

    # -- sending ---------------------------------------------------------------------------

    def _send(self, topic: str, key: bytes | None, value: bytes | None, *, good: bool) -> None:
        headers = OWN_HEADERS if self._chance.random() < 0.2 else []
        noted = partial(self.produced.note, headers=headers, good=good)
        while True:
            try:
                self._producer.produce(topic, value, key, headers=[*headers], on_delivery=noted)
                return
            except BufferError:  # the broker is away for long
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Wait until everything is answered.

        Raises
        ------
        TimeoutError : the brokers do not answer
        """
        left = self._producer.flush(FLUSH_S)
        if left:
            raise TimeoutError(f"{left} records were not answered within {FLUSH_S:g} s")


_BAD_ITEMS = (b"not json", b"{}", b'{"item_id":"other"}', b"", b'{"item_id":7,"kind":"x"}')
_BAD_ERASURES = (b"not json", b"{}", b'{"user_id":"u1"}', b'{"user_id":"u2","event_time_ms":9}')


class Shop(Protocol):
    traffic: Traffic


class Shoppers(threading.Thread):
    """Sends at a steady rate until `finish`; when there is a catalogue, changes of it too."""

    def __init__(self, shop: Shop, rate: int) -> None:
        super().__init__(daemon=True)
        self._traffic, self._rate = shop.traffic, rate
        self._ended = threading.Event()

    def run(self) -> None:
        began, sent, changed = time.monotonic(), 0, 0
        while not self._ended.wait(0.02):
            passed_s = time.monotonic() - began
            due = int(passed_s * self._rate)
            self._traffic.produce(due - sent)
            sent = due
            if self._traffic.new_items and int(passed_s) > changed:
                changed = int(passed_s)
                self._traffic.change_catalogue(5)

    def finish(self) -> None:
        self._ended.set()
        self.join()
        self._traffic.flush()
