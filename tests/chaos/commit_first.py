"""`freshet worker` with one mistake: an offset is committed before its lists are acknowledged.

For the test of the checker; nothing in the product does this.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping

from stream.cli import main
from stream.kafka.batches import Records
from stream.kafka.table import Turn

LATE_S = 0.5
LATE: set[asyncio.Future[None]] = set()

_commit = Turn.commit


async def commit_first(
    self: Turn,
    changelog: Records | None,
    outputs: Mapping[str, Records],
    on_acked: Callable[[], None] | None = None,
) -> None:
    """Settle on the changelog's acknowledgement alone; the outputs follow later."""
    await _commit(self, changelog, {}, on_acked)

    async def publish() -> None:
        await asyncio.sleep(LATE_S)
        writer, holding = self._table._writer, self.holding
        async with holding.lock:
            for topic, records in outputs.items():
                for batch in await writer.batches(records, topic, int(time.time() * 1000)):
                    await writer.send(batch, topic, holding.partition, holding.fence)

    publishing = asyncio.ensure_future(publish())
    LATE.add(publishing)
    publishing.add_done_callback(LATE.discard)


if __name__ == "__main__":
    Turn.commit = commit_first  # type: ignore[method-assign]
    sys.exit(main())
