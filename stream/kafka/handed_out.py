"""Batches that the agent has and the broker has not acknowledged, and what may be committed.

In: messages as they are handed out, batches as they are settled. Out: the offset of each source
partition below which everything is acknowledged. Knows nothing of sending, and no broker.
"""

from __future__ import annotations

from collections import defaultdict, deque

from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.kafka.batches import RecordBatch
from stream.kafka.unpack import MAX_UNPACKED_BYTES


class HandedOut:
    """The messages of each partition, oldest first; a message's value is its `RecordBatch`.

    Attributes
    ----------
    committable : partition -> offset after the newest batch that is settled with all before it
    """

    def __init__(self) -> None:
        self.committable: dict[TP, int] = {}
        self._messages: dict[TP, deque[ConsumerMessage]] = defaultdict(deque)
        self._unpacked_bytes = 0

    def __len__(self) -> int:
        """Return how many are open, of all partitions."""
        return sum(map(len, self._messages.values()))

    def is_enough(self, most: int) -> bool:
        """Whether `most` are open, or those that are came compressed and take much memory."""
        return len(self) >= most or self._unpacked_bytes >= MAX_UNPACKED_BYTES

    def add(self, message: ConsumerMessage) -> None:
        self._messages[message.tp].append(message)
        self._unpacked_bytes += message.value.unpacked_bytes

    def holds(self, batch: RecordBatch) -> bool:
        """Whether `batch` is open: handed out since the last `clear`, and not settled."""
        messages = self._messages.get(TP(batch.topic, batch.partition), ())
        return any(message.value is batch for message in messages)

    def oldest(self, tp: TP) -> RecordBatch | None:
        """The first open batch of a partition."""
        messages = self._messages.get(tp)
        return messages[0].value if messages else None

    def settle(self, batch: RecordBatch) -> ConsumerMessage | None:
        """Close the oldest batch of its partition; None for one handed out before a `clear`."""
        tp = TP(batch.topic, batch.partition)
        if self.oldest(tp) is not batch:
            return None
        self.committable[tp] = batch.next
        self._unpacked_bytes -= batch.unpacked_bytes
        return self._messages[tp].popleft()

    def clear(self) -> list[ConsumerMessage]:
        """Forget everything; the messages that were open."""
        messages = [message for opened in self._messages.values() for message in opened]
        self._messages.clear()
        self.committable.clear()
        self._unpacked_bytes = 0
        return messages
