"""What waits in an agent's stream, taken together. In: a stream of batches. Out: lists of them.

Several batches at once cost little more than one: the fixed cost of a step and of its arithmetic is
shared. Knows nothing of states and sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from stream.kafka.batches import RecordBatch

_HANDING_ON = 8  # times round the event loop; Faust's stream needs three


async def together(
    batches: Any, take_room: Callable[[bool], Awaitable[bool]], max_records: int
) -> AsyncIterator[list[RecordBatch]]:
    """Batches of different partitions that are there by now, the oldest first; waits for one.

    Upstream: faust Stream.channel, whose queue tells whether the next batch is there already.

    Parameters
    ----------
    batches : the stream that a Faust agent is given
    take_room : takes room for one batch and answers True; told not to wait, it may answer False
    max_records : of all batches together, but for a single larger one
    """
    stream = aiter(batches)
    there = batches.channel.queue
    ahead: asyncio.Future[RecordBatch | None] | None = None  # asked for, and has its room

    async def following() -> RecordBatch | None:
        return await anext(stream, None)

    try:
        while True:
            if ahead is None:
                first = await following()
                if first is not None:
                    await take_room(True)
            else:
                first, ahead = await ahead, None
            if first is None:
                return
            waiting = [first]
            while not there.empty() and await take_room(False):
                ahead = asyncio.ensure_future(following())
                batch = await _soon(ahead)
                if batch is None:
                    break
                records = len(batch) + sum(map(len, waiting))
                if records > max_records or batch.partition in {w.partition for w in waiting}:
                    break
                waiting.append(batch)
                ahead = None
            yield waiting
    finally:
        if ahead is not None:
            ahead.cancel()


async def _soon(ahead: asyncio.Future[RecordBatch | None]) -> RecordBatch | None:
    """What the queue showed, once the stream handed it on; None when it does not.

    A rebalance may empty the queue in between. It waits for the batches in hand, so they must not
    wait for what only comes after it.
    """
    for _ in range(_HANDING_ON):
        if ahead.done():
            return ahead.result()
        await asyncio.sleep(0)
    return None
