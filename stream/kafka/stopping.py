"""The end of a consumer. In: an aiokafka consumer. Out: nothing of it is left."""

from __future__ import annotations

import asyncio
from typing import Any


async def stop_consumer(consumer: Any) -> None:
    """Stop it, also while its fetches wait for a broker that is away.

    Upstream: aiokafka Fetcher.close cancels its fetches one by one and awaits each; the first that
    waits for its next try lets its CancelledError out, which leaves the others and the connections.
    """
    task = asyncio.current_task()
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
        fetches = list(consumer._fetcher._pending_tasks)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        await consumer._client.close()
