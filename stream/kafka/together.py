"""What waits in an agent's stream, taken together. In: a stream of batches. Out: lists of them.

Several batches at once cost little more than one: the fixed cost of a step and of its arithmetic is
shared. Knows nothing of states and sending.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from stream.kafka.batches import RecordBatch


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
    put_off: RecordBatch | None = None  # has its room, but another of its partition is before it
    while True:
        first = put_off
        if first is None:
            first = await anext(stream, None)
            if first is None:
                return
            await take_room(True)
        waiting, put_off = [first], None
        while put_off is None and not there.empty() and await take_room(False):
            batch = await anext(stream, None)
            if batch is None:
                break
            records = len(batch) + sum(map(len, waiting))
            if records > max_records or batch.partition in {w.partition for w in waiting}:
                put_off = batch
            else:
                waiting.append(batch)
        yield waiting
