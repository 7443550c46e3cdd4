"""Room in flight: taken once a batch and given back once, also by one that is ours no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stream.kafka.batches import RecordBatch
from stream.kafka.holding import Holding
from stream.kafka.table import InterestTable
from tests.unit.test_turn import Shard


class Table(SimpleNamespace):
    """As much of an `InterestTable` as room and turns need, with its methods."""

    def __init__(self, room: int, *serving: int) -> None:
        super().__init__()
        self._room = asyncio.Semaphore(room)
        self._max_events = 10
        self._take_room: Any = None
        self.begun = False
        self.holdings = {partition: Holding(partition, Shard()) for partition in serving}
        for holding in self.holdings.values():
            holding.serving = True
        self.current: list[RecordBatch] = []
        self.app = self
        self.consumer = self
        self.settled: list[RecordBatch] = []

    def holds(self, wanted: RecordBatch) -> bool:
        return any(wanted is batch for batch in self.current)

    def settle(self, batch: RecordBatch) -> None:
        self.settled.append(batch)

    def batch(self, partition: int) -> RecordBatch:
        made = RecordBatch("clicks", partition, 0, 1, [b"u"], [b""], [0], [0])
        self.current.append(made)
        return made

    def turn(self, batch: RecordBatch) -> Any:
        return InterestTable._turn(self, batch)  # type: ignore[arg-type]

    def take_room(self, wait: bool) -> bool:
        taking = InterestTable._take_room(self, wait)  # type: ignore[arg-type]
        return asyncio.run(asyncio.wait_for(taking, 5))

    @property
    def free(self) -> int:
        return self._room._value


def test_the_agent_has_begun_once_it_asks_for_turns() -> None:
    table = Table(1, 0)
    assert not table.begun

    class Nothing:
        channel = SimpleNamespace(queue=asyncio.Queue())  # type: ignore[var-annotated]

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            assert table.begun, "events wait, and nobody would notice that they do not move"
            raise StopAsyncIteration

    async def turns() -> list[Any]:
        return [turn async for turn in InterestTable.turns(table, Nothing())]  # type: ignore[arg-type]

    assert asyncio.run(turns()) == []
    assert table.begun


def test_room_is_taken_and_asked_for_without_waiting() -> None:
    table = Table(1, 0)
    assert table.take_room(True)
    assert not table.take_room(False), "it must not wait: batches in hand are not sent yet"
    assert table.free == 0


def test_a_batch_gets_its_turn_once() -> None:
    table = Table(0, 0)
    assert table.turn(table.batch(0)) is not None
    with pytest.raises(RuntimeError, match="without commit"):
        table.turn(table.batch(0))
    assert table.free == 0


@pytest.mark.parametrize("why", ["gone", "not serving", "from before a rebalance"])
def test_a_batch_that_is_not_ours_gives_its_room_back(why: str) -> None:
    table = Table(0, 0)
    batch = table.batch(0)
    if why == "gone":
        table.holdings.clear()
    elif why == "not serving":
        table.holdings[0].serving = False
    else:
        table.current.clear()
    assert table.turn(batch) is None
    assert table.free == 1


def test_a_settled_batch_gives_its_room_back_and_a_renewal_has_none() -> None:
    table = Table(0, 0)
    holding = table.holdings[0]
    batch = table.batch(0)
    for source in (batch, None):
        holding.turns.append(
            SimpleNamespace(acknowledged=True, log_end=3, source=source, on_acked=None)
        )
    InterestTable.settle(table, holding)  # type: ignore[arg-type]
    assert (table.free, table.settled, len(holding.turns)) == (1, [batch], 0)
