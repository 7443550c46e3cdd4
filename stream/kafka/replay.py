"""A changelog read into shards. In: partitions, positions. Out: loaded states, `applied` records.

Whole columns at a time: a shard gets thousands of keys and values in one call. Knows nothing of
Faust, of who owns a partition and of what a state means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import monotonic

from aiokafka import TopicPartition

from stream.errors import BrokerError, StateError
from stream.kafka.applied import APPLIED_KEY, Applied, decode_applied
from stream.kafka.batches import RecordBatch
from stream.kafka.holding import Holding
from stream.kafka.reader import Reader

_POLL_S = 1.0
_TELL_AFTER_S = 2.0
_TELL_EVERY_S = 5.0

log = logging.getLogger(__name__)


class _Told:
    """Tells the log how far a recovery is that takes its time."""

    def __init__(self) -> None:
        self._began_s = monotonic()
        self._next_s = self._began_s + _TELL_AFTER_S
        self.records = 0

    def look(self, partitions: Iterable[int], read: int, due: int) -> None:
        """Take note of `read` of `due` offsets; `partitions` are not at their end."""
        now_s = monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _TELL_EVERY_S
            log.info(
                "recovering partitions %s: %d%%, %d records so far, %d records/s",
                sorted(partitions),
                100 * read // due,
                self.records,
                self.records / (now_s - self._began_s),
                extra={"partitions": sorted(partitions), "records": self.records},
            )


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
        told = _Told()
        deadline = monotonic() + self._timeout_s
        while True:
            progress = self.reader.progress()
            todo = set()
            read = due = 0
            for tp, known in ends.items():
                at = await self.reader.consumer.position(tp)
                end = known
                if not self._trust_ends:
                    end = max(known, progress[tp].end) if tp in progress else at + 1
                if at < end:
                    todo.add(tp)
                start = first.setdefault(tp, at)
                read, due = read + at - start, due + max(at, end) - start
                ratio = 1.0 if at >= end else (at - start) / (end - start)
                self._on_progress(tp.partition, ratio)
            if not todo:
                return found
            told.look((tp.partition for tp in todo), read, due)
            batches = await self.reader.fetch(todo, _POLL_S)
            if batches:
                deadline = monotonic() + self._timeout_s
            elif monotonic() > deadline:
                raise BrokerError(
                    f"recovery: no record of {sorted(f'{t}-{p}' for t, p in todo)} came for "
                    f"{self._timeout_s:g} s. Check the brokers that lead these partitions "
                    f"(broker.recovery_timeout_s)"
                )
            for tp, batch in batches.items():
                told.records += len(batch)
                found.setdefault(tp.partition, []).extend(self._load(batch))
                await asyncio.sleep(0)  # heartbeats and metrics go on

    def _load(self, batch: RecordBatch) -> list[Applied]:
        """Put one stretch of the log into its shard; the `applied` records in it, in order."""
        holding = self._holdings[batch.partition]
        keys, values = batch.keys, batch.values
        applied_at = [i for i, key in enumerate(keys) if key == APPLIED_KEY]
        applied = [decode_applied(values[i], batch.topic, batch.partition) for i in applied_at]
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
        # The furthest, not the last: a fence carries what its taker had read, and the owner before
        # it may have written since.
        for record in applied:
            for source, following in record.next.items():
                holding.applied[source] = max(following, holding.applied.get(source, 0))
        return applied
