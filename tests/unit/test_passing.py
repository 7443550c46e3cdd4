"""Topics whose records change no state: no state asks what was read of them."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from stream.config import Batch, Settings
from stream.errors import StateError
from stream.kafka.batches import RecordBatch
from stream.kafka.consumer import BatchConsumer
from stream.kafka.handed_out import HandedOut
from stream.kafka.holding import Holding
from stream.kafka.positions import Continuity, needed_by_states
from stream.kafka.specs import passing_names
from stream.kafka.table import InterestTable
from stream.kafka.turn import Turn

PASSING = passing_names(Settings())


def batch(topic: str, first: int, count: int) -> RecordBatch:
    offsets = list(range(first, first + count))
    nothing: list[bytes | None] = [None] * count
    return RecordBatch(topic, 0, first, first + count, nothing, nothing, offsets, [0] * count)


def test_only_requests_pass() -> None:
    assert passing_names(Settings()) == {"requests"}


def test_a_partition_of_requests_that_begins_again_is_read_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    continuity = Continuity(PASSING)
    for topic in ("requests", "clicks"):
        continuity.start_at({TopicPartition(topic, 0): 8})

        def check(first: int, count: int, topic: str = topic) -> None:
            fetched = {TopicPartition(topic, 0): batch(topic, first, count)}
            asyncio.run(continuity.check(SimpleNamespace(), fetched))  # type: ignore[arg-type]

        if topic == "clicks":
            with pytest.raises(StateError, match="begins with 0 again"):
                check(0, 3)
            continue
        with caplog.at_level(logging.WARNING):
            check(0, 3)
            check(3, 3)
        (told,) = caplog.messages
        assert "requests, partition 0, was read up to offset 8 and begins with 0 again" in told


class Interests:
    """States that have events of both topics, as far as an old version noted that."""

    fenced = True
    changelog_topic_name = "changelog"

    def applied(self, partition: int, topic: str) -> int | None:
        return 7


class Reader:
    async def ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 3)


def test_no_state_needs_a_request() -> None:
    starts: dict[TP, int | None] = {TP("requests", 0): 9}
    asyncio.run(needed_by_states(Interests(), Reader(), starts, PASSING))  # type: ignore[arg-type]
    assert starts == {TP("requests", 0): 9}
    starts = {TP("clicks", 0): 9}
    with pytest.raises(StateError, match="ends before offset 7"):
        asyncio.run(needed_by_states(Interests(), Reader(), starts, PASSING))  # type: ignore[arg-type]


class Packed:
    def size(self) -> int:
        return 1


class Writer:
    async def one_batch(self, records: Any, topic: str, now_ms: int) -> Packed:
        return Packed()

    async def send(self, *_: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()


def test_what_was_read_of_requests_is_not_noted_beside_the_states() -> None:
    async def run() -> dict[str, int]:
        async def no_outputs(*_: Any) -> list[Any]:
            return []

        holding = Holding(0, SimpleNamespace())  # type: ignore[arg-type]
        table: Any = SimpleNamespace(
            owner="me",
            _keyed_by="",
            _writer=Writer(),
            _passing=PASSING,
            changelog_topic_name="changelog",
            send_outputs=no_outputs,
        )
        for topic, first in (("clicks", 4), ("requests", 40)):
            turn = Turn(table, holding, batch(topic, first, 2))
            await InterestTable.send(table, turn, None, {})
        return holding.applied

    assert asyncio.run(run()) == {"clicks": 6}


def test_few_requests_are_taken_at_once() -> None:
    async def run() -> dict[Any, list[int]]:
        async def fetch(*_: Any) -> dict[TopicPartition, RecordBatch]:
            return {
                TopicPartition(topic, 0): batch(topic, 0, 5) for topic in ("clicks", "requests")
            }

        async def check(*_: Any) -> None: ...

        settings = Settings(batch=Batch(max_events=4, max_requests=2))
        consumer: Any = SimpleNamespace(
            app=SimpleNamespace(settings=settings),
            reader=SimpleNamespace(fetch=fetch),
            flow_active=True,
            _continuity=SimpleNamespace(check=check),
            _handed_out=HandedOut(),
            _passing=PASSING,
        )
        fetched = await BatchConsumer._getmany(consumer, set(), 1.0)
        return {tp.topic: list(map(len, batches)) for tp, batches in fetched.items()}

    assert asyncio.run(run()) == {"clicks": [4, 1], "requests": [2, 2, 1]}
