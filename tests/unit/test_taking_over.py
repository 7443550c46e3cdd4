"""A partition taken over without a broker: whose states are refused, before anything is written."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition

from stream.errors import StateError
from stream.kafka.applied import NOTHING_APPLIED, Applied
from stream.kafka.cluster import Cluster
from stream.kafka.holding import Holding
from stream.kafka.takeover import Takeover

OURS, THEIRS = "ours", "theirs"
END = 5


class Shard:
    """Nobody's states."""

    nbytes = 0

    def __len__(self) -> int:
        return 0

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        pass


class Log:
    """A changelog of one partition, as replay and reader; each reading brings the next records."""

    def __init__(self, *readings: list[Applied]) -> None:
        self._readings = list(readings)
        self.reader = self

    def assign(self, tps: list[TopicPartition]) -> None:
        pass

    async def beginnings(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def ends(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, END)

    async def start_at(self, offsets: dict[TopicPartition, int]) -> None:
        pass

    async def read_to(self, begins: Any, ends: Any) -> dict[int, list[Applied]]:
        return {0: self._readings.pop(0)}


class Answer(NamedTuple):
    offset: int


class Writer:
    """A broker that takes everything."""

    async def new_producer_id(self) -> int:
        return 7

    async def one_batch(self, records: Any, topic: str, timestamp_ms: int) -> Any:
        return records

    async def send(self, *_: Any) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer.set_result(Answer(END))
        return answer


def taker(keyed_by: str) -> Takeover:
    writer: Any = Writer()
    return Takeover(
        Cluster("127.0.0.1:9"),
        "log",
        writer,
        owner="me",
        new_shard=lambda partition: Shard(),
        keyed_by=keyed_by,
        timeout_s=5,
    )


def replayed(keyed_by: str, *records: Applied) -> Applied:
    log: Any = Log(list(records))
    return asyncio.run(taker(keyed_by)._replay(log, [0], {}))[0]


def test_states_under_the_same_secret_are_taken() -> None:
    newest = Applied({"clicks": 3}, 7, 4, "another", OURS)
    assert replayed(OURS, newest) == newest


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (OURS, THEIRS, "made with another secret and this worker has a different one"),
        ("", THEIRS, "made with another secret and this worker has none"),
        (OURS, "", "made with no secret and this worker has one"),
    ],
)
def test_states_under_another_secret_are_refused(ours: str, theirs: str, words: str) -> None:
    with pytest.raises(StateError, match=f"partition 0: .*{words}"):
        replayed(ours, Applied({}, 7, 4, "another", theirs))


def test_records_without_an_applied_one_are_refused() -> None:
    with pytest.raises(StateError, match="partition 0: it has records and no `applied` record"):
        replayed("")


def test_a_quicker_taker_with_another_secret_is_not_overwritten() -> None:
    """The log was empty when it was replayed."""
    holdings = {0: Holding(0, Shard())}

    def fence(keyed_by: str) -> None:
        quicker = [Applied({}, 7, -1, "another", keyed_by), Applied({}, 7, 0, "another", keyed_by)]
        log: Any = Log(quicker, [Applied({}, 7, 1, "me", OURS)])
        asyncio.run(taker(OURS)._fence(log, {0: NOTHING_APPLIED}, holdings))

    with pytest.raises(StateError, match="made with another secret"):
        fence(THEIRS)
    assert holdings[0].fence is None
    fence(OURS)
    assert holdings[0].fence is not None
