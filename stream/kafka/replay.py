"""A changelog read into shards. In: partitions, positions. Out: loaded states, `applied` records.

Whole columns at a time: a shard gets thousands of keys and values in one call. Knows nothing of
Faust, of who owns a partition and of what a state means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiokafka import TopicPartition

from stream.errors import BrokerError, StateError
from stream.kafka.applied import APPLIED_KEY, Applied, decode_applied
from stream.kafka.batches import RecordBatch
from stream.kafka.holding import Holding
from stream.kafka.reader import Reader

_POLL_S = 1.0


class Replay:
    """Reads partitions of one changelog topic into their holdings' shards.

    Parameters
    ----------
    trust_ends : False asks by a fetch as well where a partition ends, for a broker (the embedded
        one) that tells the last batch's first offset plus one
    timeout_s : without a single new record for so long while some are due, recovery has failed
    on_progress : called with partition and the share of its changelog that was read, 0 to 1
    """

    def __init__(
        self,
        reader: Reader,
        holdings: dict[int, Holding],
        *,
        trust_ends: bool,
        timeout_s: float,
        on_progress: Callable[[int, float], None],
    ) -> None:
        self.reader = reader
        self._holdings = holdings
        self._trust_ends = trust_ends
        self._timeout_s = timeout_s
        self._on_progress = on_progress

    async def read_to(
        self, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> dict[int, list[Applied]]:
        """Load everything below `ends`; the `applied` records on the way, by partition.

        Raises
        ------
        BrokerError : no record came for `timeout_s`
        StateError : a record cannot be read, or has no key
        """
        found: dict[int, list[Applied]] = {}
        first = dict(begins)
        deadline = time.monotonic() + self._timeout_s
        while True:
            progress = self.reader.progress()
            todo = set()
            for tp, told in ends.items():
                at = await self.reader.consumer.position(tp)
                end = told
                if not self._trust_ends:
                    end = max(told, progress[tp].end) if tp in progress else at + 1
                if at < end:
                    todo.add(tp)
                start = first.setdefault(tp, at)
                ratio = 1.0 if at >= end else (at - start) / (end - start)
                self._on_progress(tp.partition, ratio)
            if not todo:
                return found
            batches = await self.reader.fetch(todo, _POLL_S)
            if batches:
                deadline = time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline:
                raise BrokerError(
                    f"recovery: no record of {sorted(f'{t}-{p}' for t, p in todo)} came for "
                    f"{self._timeout_s:g} s. Check the brokers that lead these partitions "
                    f"(broker.recovery_timeout_s)"
                )
            for tp, batch in batches.items():
                found.setdefault(tp.partition, []).extend(self._load(batch))
                await asyncio.sleep(0)  # heartbeats and metrics go on

    def _load(self, batch: RecordBatch) -> list[Applied]:
        """Put one stretch of the log into its shard; the `applied` records in it, in order."""
        holding = self._holdings[batch.partition]
        keys, values = batch.keys, batch.values
        marks = [i for i, key in enumerate(keys) if key == APPLIED_KEY]
        applied = [decode_applied(values[i], batch.topic, batch.partition) for i in marks]
        values = [value for key, value in zip(keys, values, strict=True) if key != APPLIED_KEY]
        user_keys = [key for key in keys if key is not None and key != APPLIED_KEY]
        where = f"changelog {batch.topic}, partition {batch.partition}"
        if len(user_keys) < len(values):
            raise StateError(
                f"{where}: a record without a key at offset {batch.offsets[keys.index(None)]}. "
                f"Something else wrote to this topic; restore it, or delete it to start with empty "
                f"states"
            )
        if user_keys:
            try:
                holding.shard.load(user_keys, values)
            except StateError as exc:
                raise StateError(f"{where}: {exc}") from exc
        if applied:
            holding.applied = dict(applied[-1].next)
        return applied
