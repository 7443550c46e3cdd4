"""A part of a micro-batch without a worker around it."""

from __future__ import annotations

from dataclasses import dataclass

from stream.core.state import UserShard
from stream.kafka.batches import RecordBatch


@dataclass
class Part:
    """What `Turn` is to the engine."""

    shard: UserShard
    batch: RecordBatch
    applied: int = 0
