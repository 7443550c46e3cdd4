"""What a worker holds of one partition: the states of its users, and the right to write them.

Knows nothing of Faust, of how either came about and of what a state means.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from stream.kafka.applied import Applied
from stream.kafka.writer import Fence


class StateShard(Protocol):
    """States of the users of one partition."""

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take over recorded states; a later one of the same key wins, None deletes."""

    def __len__(self) -> int:
        """Return the number of users."""

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""


class Holdings(Protocol):
    """All that a worker holds, as those see it who read its sources.

    Attributes
    ----------
    fenced : the broker refuses what a worker writes that lost its partitions
    begun : the agent is ready for batches
    """

    fenced: bool
    begun: bool
    changelog_topic_name: str

    def applied(self, partition: int, topic: str) -> int | None:
        """Offset of the first event of `topic` that is not in the states; None when unknown."""

    def suspend(self, partitions: Iterable[int]) -> None:
        """Serve no more from partitions that were revoked; they may come back at once."""


class Holding:
    """What this worker has of one partition: its states and the right to write them.

    Attributes
    ----------
    applied : source topic -> offset of the first event that is not in the states
    fence : the right to write; None on a broker without fencing
    log_end : changelog offset after our last acknowledged batch; None when unknown
    turns : batches of the partition sent and not yet acknowledged, oldest first
    open : a turn was handed out and has not been committed
    serving : taken over and not lost since
    """

    __slots__ = (
        "applied",
        "fence",
        "lock",
        "log_end",
        "open",
        "partition",
        "serving",
        "shard",
        "turns",
        "written_s",
    )

    def __init__(self, partition: int, shard: StateShard) -> None:
        self.partition = partition
        self.shard = shard
        self.applied: dict[str, int] = {}
        self.fence: Fence | None = None
        self.log_end: int | None = None
        self.turns: deque[Any] = deque()
        self.open = False
        self.serving = False
        self.written_s = time.monotonic()
        self.lock = asyncio.Lock()

    @property
    def waits_s(self) -> float:
        """For how long the oldest batch sent has waited for its acknowledgement; 0: none waits."""
        return time.monotonic() - self.turns[0].sent_s if self.turns else 0.0

    def applied_record(self, owner: str, keyed_by: str = "") -> Applied:
        right = (-1, -1) if self.fence is None else (self.fence.producer_id, self.fence.epoch)
        return Applied(dict(self.applied), *right, owner, keyed_by)


def longest_wait_s(holdings: Mapping[int, Holding]) -> float:
    """For how long the oldest batch of all has waited for its acknowledgement."""
    return max((holding.waits_s for holding in list(holdings.values())), default=0.0)
