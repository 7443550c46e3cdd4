"""`freshet worker` with one mistake: an offset is committed before it is acknowledged.

A turn is settled as soon as it is handed to the producer; all else is as it was. For the test of
the checker; nothing in the product does this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from stream.cli import main
from stream.kafka.batches import Records
from stream.kafka.table import InterestTable, Turn

_send = InterestTable.send


async def send_and_settle(
    self: InterestTable, turn: Turn, changelog: Records | None, outputs: Mapping[str, Records]
) -> list[asyncio.Future[Any]]:
    """Send as ever, then make the source offset committable with no answer awaited."""
    answers = await _send(self, turn, changelog, outputs)
    # Every turn has a batch: a renewal of the fence comes after hours. The settling at the
    # acknowledgement finds the batch settled and does nothing.
    self.app.consumer.settle(turn.batch)
    return answers


if __name__ == "__main__":
    InterestTable.send = send_and_settle  # type: ignore[method-assign]
    sys.exit(main())
