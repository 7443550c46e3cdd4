"""A shop under load whose shoppers can be told to do what alerts are about."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from typing import Any

from kafka import KafkaProducer

from stream.contracts import partition_of
from stream.demo import sample
from tests.support.freshet import Freshet, producing

PARTITIONS = 3
PAUSE_S = 0.1  # between two rounds: the embedded broker takes no more in time
CLICKS_S = 10.0
CATALOGUE = 300  # items that are there
ITEMS = ("85123A", "22423", "47566", "85099B", "20725")


def lists_of(port: int, user: str) -> tuple[int, list[str]]:
    """Status of the gateway's answer to a read, and the items of the user's list."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/v1/users/{user}/lists/home")
        answer = connection.getresponse()
        body = json.loads(answer.read())
        return answer.status, [item["item_id"] for item in body.get("items", [])]
    finally:
        connection.close()


class Load(threading.Thread):
    """Users who click what they are shown, buy and ask, all the time.

    Parameters
    ----------
    front : the gateway's port, by which a shopper sees a list
    spoiled : an item of which the model makes states that are not finite

    Attributes
    ----------
    bad : while it is set, producers send what is no JSON, and to wrong partitions
    bored : while it is set, nobody clicks what is on a list
    odd : while it is set, somebody clicks the spoiled item
    """

    def __init__(self, freshet: Freshet, front: int, spoiled: str) -> None:
        super().__init__(daemon=True)
        self.freshet, self.front, self.spoiled = freshet, front, spoiled
        self.bad, self.bored, self.odd = threading.Event(), threading.Event(), threading.Event()
        self.ended = threading.Event()
        self.failed: BaseException | None = None
        self._dice = random.Random(1)
        self._listed: dict[str, list[str]] = {}
        self._event = itertools.count()
        self._clicked = 0

    def run(self) -> None:
        begun_s = time.monotonic()
        try:
            with producing(self.freshet.bootstrap) as producer:
                for key, value in itertools.islice(sample.catalogue(), CATALOGUE):
                    producer.send(self.freshet.topic["items"], value, key)
                for number in itertools.count():
                    if self.ended.wait(PAUSE_S):
                        return
                    due = int(CLICKS_S * (time.monotonic() - begun_s)) - self._clicked
                    self._clicked += due
                    self._round(producer, number, min(due, int(CLICKS_S)))
        except BaseException as error:
            self.failed = error
            raise

    def _round(self, producer: KafkaProducer, number: int, clicks: int) -> None:
        user, item = f"u{number % 20}", ITEMS[number % len(ITEMS)]
        shown = {"type": "impression", "item_id": item, "placement": "home"}
        self._send(producer, "clicks", user, **shown, **self._now())
        for liked in self._likes(user, clicks):
            fields = {"type": "click", "item_id": liked, "placement": "home"}
            self._send(producer, "clicks", user, **fields, **self._now())
        if number % 5 == 0:
            self._send(producer, "purchases", user, type="purchase", item_id=item, **self._now())
            asked = {"request_id": str(number), "type": "list"}
            self._send(producer, "requests", user, **asked)
        if number % 20 == 0:
            self._send(producer, "items", item, "item_id", kind="product", title="Title")
            gone = f"gone{number}"
            fields = {"type": "click", "item_id": "nobody's"}
            self._send(producer, "clicks", gone, **fields, **self._now())
            self._send(producer, "erasures", gone, event_time_ms=int(time.time() * 1000))
        if self.odd.is_set():
            fields = {"type": "click", "item_id": self.spoiled}
            self._send(producer, "clicks", f"odd{number}", **fields, **self._now())
        if self.bad.is_set():
            producer.send(self.freshet.topic["clicks"], b"no JSON", user.encode())
            producer.send(self.freshet.topic["items"], b"no JSON", item.encode())
            astray = (partition_of(user.encode(), PARTITIONS) + 1) % PARTITIONS
            told = {"user_id": user, "type": "view", "item_id": item, **self._now()}
            value = json.dumps(told).encode()
            producer.send(self.freshet.topic["clicks"], value, user.encode(), partition=astray)

    def _likes(self, user: str, clicks: int) -> list[str]:
        """What a shopper clicks: what is on the list, or what is not, where it bores them."""
        try:
            _, listed = lists_of(self.front, user)
            self._listed[user] = listed
        except (OSError, ValueError, http.client.HTTPException):
            listed = self._listed.get(user, [])  # the gateway hangs: the page stays as it was
        if self.bored.is_set():
            return ["nobody's"] * clicks
        return self._dice.choices(listed or ITEMS, k=clicks)

    def _send(
        self, producer: KafkaProducer, topic: str, key: str, field: str = "user_id", **fields: Any
    ) -> None:
        value = json.dumps({field: key, **fields}).encode()
        producer.send(self.freshet.topic[topic], value, key.encode())

    def _now(self) -> dict[str, Any]:
        return {"event_id": str(next(self._event)), "event_time_ms": int(time.time() * 1000)}
