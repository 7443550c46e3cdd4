"""Taking a partition over: replay its changelog, fence off every older owner, read on to the fence.

In: partitions and what this worker still has in memory of them. Out: holdings that may be served.
What an older owner wrote before the fence is valid and was read; after it the broker refuses it.
Knows nothing of Faust, of the source topics and of what a state means.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import DuplicateSequenceNumber, OutOfOrderSequenceNumber, ProducerFenced

from stream.errors import BrokerError, FencedError
from stream.kafka.applied import (
    APPLIED_KEY,
    NOTHING_APPLIED,
    Applied,
    decode_applied,
    encode_applied,
)
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.reader import Reader
from stream.kafka.writer import Fence, Writer

LAST_EPOCH = 32_767
MAX_ROUNDS = 20
REFUSALS = (ProducerFenced, OutOfOrderSequenceNumber, DuplicateSequenceNumber)

_FETCH_BYTES = 4 << 20
_FETCH_WAIT_MS = 100
_POLL_S = 1.0

log = logging.getLogger(__name__)


class StateShard(Protocol):
    """States of the users of one partition."""

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take over recorded states; a later one of the same key wins, None deletes."""

    def __len__(self) -> int:
        """Return the number of users."""

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""


class Holding:
    """What this worker has of one partition: its states and the right to write them.

    Attributes
    ----------
    applied : source topic -> offset of the first event that is not in the states
    fence : the right to write; None on a broker without fencing
    log_end : changelog offset after our last acknowledged batch; None when unknown
    turns : micro-batches sent and not yet acknowledged, oldest first
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

    def applied_record(self, owner: str) -> Applied:
        if self.fence is None:
            return Applied(dict(self.applied), owner=owner)
        return Applied(dict(self.applied), self.fence.producer_id, self.fence.epoch, owner)


class Takeover:
    """Takes partitions of one changelog topic over.

    Parameters
    ----------
    owner : token of this process, in every `applied` record it writes
    new_shard : makes the empty states of a partition
    timeout_s : without a single new record for so long while some are due, recovery has failed
    on_progress : called with partition and the share of its changelog that was read, 0 to 1
    last_epoch : the epoch after which a fresh producer id is taken
    """

    def __init__(
        self,
        bootstrap: list[str],
        topic: str,
        writer: Writer,
        *,
        owner: str,
        new_shard: Callable[[int], StateShard],
        timeout_s: float,
        on_progress: Callable[[int, float], None] = lambda partition, ratio: None,
        last_epoch: int = LAST_EPOCH,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._writer = writer
        self._owner = owner
        self._new_shard = new_shard
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._last_epoch = last_epoch

    async def run(self, partitions: list[int], holdings: dict[int, Holding]) -> bool:
        """Make every one of `partitions` in `holdings` ready to serve.

        Returns
        -------
        False when the broker has no producer ids: nothing keeps a second worker from writing

        Raises
        ------
        StateError : the changelog holds what this version cannot read
        BrokerError : no progress for `timeout_s`
        """
        reader = Reader(self._bootstrap, fetch_bytes=_FETCH_BYTES, fetch_wait_ms=_FETCH_WAIT_MS)
        await reader.start()
        try:
            fenced = await self._writer.new_producer_id() is not None
            replay = _Replay(self, reader, holdings, trust_ends=fenced)
            last = await self._replay(replay, partitions, holdings)
            if fenced:
                await self._fence(replay, last, holdings)
            elif any(record.producer_id >= 0 for record in last.values()):
                raise BrokerError(
                    f"the broker gives no producer ids any more, yet changelog {self._topic} was "
                    f"written under one: it could not be fenced off. See the broker's log"
                )
        finally:
            await reader.stop()
        for partition in partitions:
            holdings[partition].written_s = time.monotonic()
            holdings[partition].serving = True
        return fenced

    async def _replay(
        self, replay: _Replay, partitions: list[int], holdings: dict[int, Holding]
    ) -> dict[int, Applied]:
        """Bring the states up to the log's end; the newest `applied` record of each partition."""
        tps = [TopicPartition(self._topic, partition) for partition in partitions]
        replay.reader.assign(tps)
        begins = await replay.reader.beginnings(tps)
        ends = await replay.reader.ends(tps)
        last = {}
        for tp in tps:
            held = holdings.get(tp.partition)
            if held and held.log_end == ends[tp] and not held.turns and not held.open:
                last[tp.partition] = held.applied_record(self._owner)
                begins[tp] = ends[tp]
                log.info("partition %d resumes from memory", tp.partition)
            else:
                holdings[tp.partition] = Holding(tp.partition, self._new_shard(tp.partition))
                last[tp.partition] = NOTHING_APPLIED
        await replay.reader.start_at(begins)
        for partition, found in (await replay.read_to(begins, ends)).items():
            last[partition] = found[-1]
        return last

    async def _fence(
        self, replay: _Replay, last: dict[int, Applied], holdings: dict[int, Holding]
    ) -> None:
        """Write an `applied` record under a new epoch and read through it, until it is ours.

        Of two takers that choose the same epoch the broker appends one record: the other is told
        "duplicate", which aiokafka reports as success. So it is the owner that stands in the log
        that decides, never the answer to the send.
        """
        todo = set(last)
        for _ in range(MAX_ROUNDS):
            claims = {partition: await self._claim(last[partition]) for partition in todo}
            after = await self._write_claims(claims, holdings)
            tps = [TopicPartition(self._topic, partition) for partition in todo]
            ends = await replay.reader.ends(tps)
            for tp in tps:
                ends[tp] = max(ends[tp], after[tp.partition])
            seen = await replay.read_to({}, ends)
            for partition in list(todo):
                found = seen.get(partition, [])
                claim = claims[partition]
                # Nothing came although we wrote: the broker knows more than the log shows.
                last[partition] = found[-1] if found else claim.record({}, self._owner)
                if claim.won(found, self._owner) and claim.epoch < self._last_epoch:
                    holding = holdings[partition]
                    holding.fence = claim.fence
                    holding.log_end = ends[TopicPartition(self._topic, partition)]
                    todo.discard(partition)
            if not todo:
                return
        raise FencedError(
            f"changelog {self._topic}: other workers kept taking partitions {sorted(todo)} over"
        )

    async def _claim(self, newest: Applied) -> _Claim:
        """The next right to take after `newest`.

        A log without a producer id, or one at its last epoch, gets a fresh id from the broker. Two
        takers would get two, and a broker fences only within one id; so they first race for the
        gate, an id made from the log's name and its old id, where the broker lets one record pass.
        """
        if newest.producer_id >= 0 and newest.epoch < self._last_epoch:
            return _Claim(Fence(newest.producer_id, newest.epoch + 1), newest.producer_id)
        fresh = await self._writer.new_producer_id()
        assert fresh is not None
        return _Claim(None, fresh, newest.producer_id)

    async def _write_claims(
        self, claims: dict[int, _Claim], holdings: dict[int, Holding]
    ) -> dict[int, int]:
        """Send one record a claim; the offset after it, as far as the broker told (else 0)."""
        futures = {}
        for partition, claim in claims.items():
            fence = claim.fence or Fence(_gate(self._topic, partition, claim.replaces), 0)
            record = claim.record(holdings[partition].applied, self._owner)
            records = Records([APPLIED_KEY], [encode_applied(record)])
            batch = await self._writer.one_batch(records, self._topic, int(time.time() * 1000))
            futures[partition] = await self._writer.send(batch, self._topic, partition, fence)
        answers = await asyncio.gather(*futures.values(), return_exceptions=True)
        after = {}
        for partition, answer in zip(futures, answers, strict=True):
            if isinstance(answer, REFUSALS):
                after[partition] = 0
            elif isinstance(answer, BaseException):
                raise answer
            else:
                after[partition] = answer.offset + 1
        return after


class _Claim:
    """A right asked for. Without a fence it is only a proposal which producer id comes next."""

    __slots__ = ("epoch", "fence", "producer_id", "replaces")

    def __init__(self, fence: Fence | None, producer_id: int, replaces: int = -1) -> None:
        self.fence = fence
        self.producer_id = producer_id
        self.epoch = -1 if fence is None else fence.epoch
        self.replaces = replaces

    def record(self, applied: dict[str, int], owner: str) -> Applied:
        return Applied(dict(applied), self.producer_id, self.epoch, owner)

    def won(self, found: list[Applied], owner: str) -> bool:
        """Whether the first record under this epoch is ours and nobody has gone beyond it."""
        if self.fence is None or not found:
            return False
        right = (self.producer_id, self.epoch)
        same = [record for record in found if (record.producer_id, record.epoch) == right]
        return bool(same) and same[0].owner == owner and found[-1] is same[-1]


def _gate(topic: str, partition: int, replaces: int) -> int:
    """A producer id that every taker computes alike, far above those that brokers give out."""
    name = f"{topic}/{partition}/{replaces}".encode()
    return (1 << 62) | int.from_bytes(hashlib.blake2b(name, digest_size=7).digest(), "little")


class _Replay:
    """Reads a changelog into shards."""

    def __init__(
        self, takeover: Takeover, reader: Reader, holdings: dict[int, Holding], *, trust_ends: bool
    ) -> None:
        self.reader = reader
        self._takeover = takeover
        self._holdings = holdings
        self._trust_ends = trust_ends

    async def read_to(
        self, begins: dict[TopicPartition, int], ends: dict[TopicPartition, int]
    ) -> dict[int, list[Applied]]:
        """Load everything below `ends`; the `applied` records on the way, by partition.

        A broker that is not trusted with ends (the embedded one tells the last batch's first offset
        plus one) is asked by a fetch as well, whose high watermark is right.
        """
        found: dict[int, list[Applied]] = {}
        first = dict(begins)
        takeover = self._takeover
        deadline = time.monotonic() + takeover._timeout_s
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
                takeover._on_progress(tp.partition, ratio)
            if not todo:
                return found
            batches = await self.reader.fetch(todo, _POLL_S)
            if batches:
                deadline = time.monotonic() + takeover._timeout_s
            elif time.monotonic() > deadline:
                raise BrokerError(
                    f"recovery: changelog {takeover._topic} gave no record of partitions "
                    f"{sorted(tp.partition for tp in todo)} for {takeover._timeout_s:g} s. Check "
                    f"the brokers that lead them (broker.recovery_timeout_s)"
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
        if user_keys:
            holding.shard.load(user_keys, values)
        if applied:
            holding.applied = dict(applied[-1].next)
        return applied
