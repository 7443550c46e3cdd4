"""What the gateway sends by, and who waits for what comes back, with a client that is none."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, RecordTooLargeError

import stream.gateway.producer
import stream.gateway.replies
from stream.config import Settings
from stream.contracts import Cause, Receipt, encode_record
from stream.errors import BrokerError
from stream.gateway.posting import read_request
from stream.gateway.producer import TopicProducer
from stream.gateway.replies import Place, Replies
from stream.settings.gateway import Gateway
from tests.support.gateway import NOW_MS, Consumed

SETTINGS = Settings(gateway=Gateway(send_timeout_s=0.05))


class FakeClient:
    """Acknowledges as `acknowledge` says: None never does."""

    def __init__(self, acknowledge: Callable[[int], Any] = lambda number: None) -> None:
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.futures: list[asyncio.Future[Any]] = []
        self._acknowledge = acknowledge

    async def send(self, topic: str, value: bytes, key: bytes) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        told = self._acknowledge(len(self.sent))
        self.sent.append((topic, key, value))
        if isinstance(told, Exception):
            future.set_exception(told)
        elif told is not None:
            future.set_result(told)
        return future


def place(number: int) -> Any:
    return SimpleNamespace(partition=1, offset=number)


def producing(client: FakeClient, replies: Replies | None = None) -> TopicProducer:
    producer = TopicProducer(SETTINGS, replies or Replies("erasures"))
    producer._client = client
    return producer


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 10))


def test_records_are_acknowledged_in_their_order() -> None:
    client = FakeClient(place)
    keys, values = [b"%d" % n for n in range(200)], [b"v%d" % n for n in range(200)]
    found = run(producing(client).send("clicks", keys, values))
    assert found == [Place(1, n) for n in range(200)]
    assert client.sent[7] == ("clicks", b"7", b"v7")
    assert run(producing(client).send("clicks", [], [])) == []


@pytest.mark.parametrize(
    "acknowledge",
    [
        lambda number: None,
        lambda number: KafkaTimeoutError(),
        lambda number: RecordTooLargeError() if number == 1 else place(number),
    ],
    ids=["silence", "timeout", "one refused"],
)
def test_a_wait_for_acknowledgements_has_an_end(acknowledge: Callable[[int], Any]) -> None:
    began_s = time.monotonic()
    with pytest.raises(BrokerError, match="did not acknowledge a record of clicks"):
        run(producing(FakeClient(acknowledge)).send("clicks", [b"a"] * 3, [b"v"] * 3))
    assert time.monotonic() - began_s < 5


def test_nothing_is_tried_while_brokers_are_away() -> None:
    client = FakeClient(place)
    producer = TopicProducer(SETTINGS, Replies("erasures"), lambda: "no broker answers at x")
    with pytest.raises(BrokerError, match="not connected yet"):
        run(TopicProducer(SETTINGS, Replies("erasures")).send("clicks", [b"a"], [b"v"]))
    producer._client = client
    with pytest.raises(BrokerError, match="no broker answers at x"):
        run(producer.send("clicks", [b"a"], [b"v"]))
    assert client.sent == []


def answer(request_id: str, user: bytes = b"u") -> Consumed:
    return Consumed(user, json.dumps({"request_id": request_id, "user_id": "u"}).encode(), 0, 0)


def test_an_answer_reaches_everybody_who_waits_for_it_and_nobody_else() -> None:
    async def check() -> None:
        replies = Replies("erasures")
        producer = producing(FakeClient(place), replies)
        asking = [
            asyncio.create_task(producer.ask(user, b"{}", request_id, wait_s))
            for user, request_id, wait_s in (
                *((b"u", "r1", 5), (b"u", "r1", 5)),
                *((b"other", "r1", 0.05), (b"u", "r2", 0.05)),
            )
        ]
        await asyncio.sleep(0.01)
        replies.put_answers([Consumed(b"u", b"no JSON", 0, 0), Consumed(b"u", None, 0, 0)])
        replies.put_answers([answer("r1"), answer("r1"), answer("r3")])
        found = await asyncio.gather(*asking)
        assert found == [answer("r1").value, answer("r1").value, None, None]
        assert replies._by_request == {}

    run(check())


def receipt(offset: int, topic: str = "erasures") -> Consumed:
    value = Receipt("ab" * 16, Cause(topic, 1, offset, NOW_MS), (), {}, NOW_MS)
    return Consumed(b"hash", encode_record(value), 1, 0)


@pytest.mark.parametrize("early", [True, False])
def test_a_receipt_is_found_whether_its_place_is_known_before_or_after(early: bool) -> None:
    async def check() -> None:
        replies = Replies("erasures")
        client = FakeClient(lambda number: None if early else place(4))
        producer = producing(client, replies)
        producer._timeout_s = 5
        forgetting = asyncio.create_task(producer.forget(b"u", b"{}", 5))
        await asyncio.sleep(0.01)
        replies.put_receipts([receipt(4, "elsewhere"), receipt(5), receipt(4)])
        if early:
            client.futures[0].set_result(place(4))
        assert await forgetting == receipt(4).value
        assert (replies._by_erasure, replies._early) == ({}, None)

    run(check())


def test_a_receipt_that_does_not_come_is_none() -> None:
    replies = Replies("erasures")
    assert run(producing(FakeClient(place), replies).forget(b"u", b"{}", 0.02)) is None


@pytest.mark.parametrize("given", ['"request_id": null, ', ""])
def test_a_request_without_an_id_gets_one(given: str) -> None:
    body = f'{{{given}"user_id": "u", "type": "list", "more": [1.0]}}'.encode()
    found = read_request(body, {"home"})
    assert not isinstance(found, list)
    key, value, request = found
    assert (key, len(str(request.request_id))) == (b"u", 32)
    assert json.loads(value)["request_id"] == request.request_id
    assert b"[1.0]" in value


def test_receipts_that_nobody_asks_for_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream.gateway.replies, "_MOST_EARLY", 3)

    async def check() -> None:
        replies = Replies("erasures")
        with replies.erasing():
            replies.put_receipts([receipt(offset) for offset in range(20)])
            with replies.receipt_of(Place(1, 19)) as found, replies.receipt_of(Place(1, 4)) as gone:
                assert (found.done(), gone.done()) == (True, False)

    run(check())


def test_all_replicas_acknowledge(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Client(FakeClient):
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        async def start(self) -> None:
            """Connected."""

    monkeypatch.setattr(stream.gateway.producer, "AIOKafkaProducer", Client)
    run(TopicProducer(Settings(), Replies("erasures")).start())
    assert asked["acks"] == "all"
