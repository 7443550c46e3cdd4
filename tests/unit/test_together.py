"""Batches that wait are taken together: in order, one a partition, within room and size."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from stream.kafka.batches import RecordBatch
from stream.kafka.together import together


class Stream:
    """What a Faust agent is given, as far as `together` looks."""

    handed: bool
    later: asyncio.Future[RecordBatch]

    def __init__(self, *batches: RecordBatch) -> None:
        self.queue: asyncio.Queue[RecordBatch] = asyncio.Queue()
        for batch in batches:
            self.queue.put_nowait(batch)
        self.channel = SimpleNamespace(queue=self.queue)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> RecordBatch:
        await asyncio.sleep(0)
        if self.queue.empty():
            raise StopAsyncIteration
        return self.queue.get_nowait()


class Room:
    def __init__(self, size: int) -> None:
        self.free = size

    async def take(self, wait: bool) -> bool:
        if self.free == 0:
            assert not wait, "waits for room that nobody gives back"
            return False
        self.free -= 1
        return True


def batch(partition: int, base: int = 0, records: int = 1, topic: str = "clicks") -> RecordBatch:
    offsets = list(range(base, base + records))
    nothing: list[bytes | None] = [None] * records
    return RecordBatch(
        topic, partition, base, base + records, nothing, nothing, offsets, [0] * records
    )


def taken(room: Room, most: int, *batches: RecordBatch) -> list[list[RecordBatch]]:
    """Rounds; the room of a round is given back before the next."""

    async def run() -> list[list[RecordBatch]]:
        rounds = []
        async for waiting in together(Stream(*batches), room.take, most):
            rounds.append(waiting)
            room.free += len(waiting)
        return rounds

    return asyncio.run(run())


def test_batches_of_different_partitions_are_taken_together() -> None:
    some = [batch(0), batch(2), batch(1)]
    assert taken(Room(8), 100, *some) == [some]


def test_a_second_batch_of_a_partition_comes_after_the_first() -> None:
    clicks, purchases, other = batch(0), batch(0, topic="purchases"), batch(1)
    room = Room(8)
    assert taken(room, 100, clicks, purchases, other) == [[clicks], [purchases, other]]
    assert room.free == 8


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_more_are_taken_than_there_is_room_for(size: int) -> None:
    some = [batch(n) for n in range(6)]
    room = Room(size)
    rounds = taken(room, 100, *some)
    assert [b for waiting in rounds for b in waiting] == some
    assert max(map(len, rounds)) == size
    assert room.free == size


def test_batches_in_hand_do_not_wait_for_what_a_rebalance_took_back() -> None:
    class Revoked(Stream):
        async def __anext__(self) -> RecordBatch:
            if self.handed:
                while not self.queue.empty():  # as Faust does with what it has not handed on
                    self.queue.get_nowait()
                return await self.later
            self.handed = True
            return await super().__anext__()

    async def run() -> None:
        first, gone, later = batch(0), batch(1), batch(2)
        stream, room = Revoked(first, gone), Room(8)
        stream.handed, stream.later = False, asyncio.get_running_loop().create_future()
        rounds = together(stream, room.take, 100)
        assert await asyncio.wait_for(anext(rounds), 5) == [first]
        stream.later.set_result(later)
        assert await asyncio.wait_for(anext(rounds), 5) == [later]
        assert room.free == 6, "room is taken for what was handed out, once each"
        await rounds.aclose()

    asyncio.run(run())


def test_records_are_limited_but_a_large_batch_comes_alone() -> None:
    small, large, last = batch(0, records=4), batch(1, records=50), batch(2, records=6)
    room = Room(8)
    assert taken(room, 10, small, large, last) == [[small], [large], [last]]
    assert room.free == 8
