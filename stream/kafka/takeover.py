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
from collections.abc import Callable

from aiokafka import TopicPartition
from aiokafka.errors import DuplicateSequenceNumber, OutOfOrderSequenceNumber, ProducerFenced

from stream.errors import BrokerError, FencedError, StateError
from stream.kafka.applied import (
    APPLIED_KEY,
    NOTHING_APPLIED,
    Applied,
    check_keys,
    encode_applied,
)
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.holding import Holding, StateShard
from stream.kafka.reader import Reader
from stream.kafka.refusals import refusal
from stream.kafka.replay import Replay
from stream.kafka.writer import Fence, Writer

LAST_EPOCH = 32_767
MAX_ROUNDS = 20
REFUSALS = (ProducerFenced, OutOfOrderSequenceNumber, DuplicateSequenceNumber)

_FETCH_BYTES = 4 << 20
_FETCH_WAIT_MS = 100

log = logging.getLogger(__name__)


class Takeover:
    """Takes partitions of one changelog topic over.

    Parameters
    ----------
    owner : token of this process, in every `applied` record it writes
    new_shard : makes the empty states of a partition
    keyed_by : fingerprint of the secret that makes the users' keys; another's states are refused
    timeout_s : without a single new record for so long while some are due, recovery has failed
    on_progress : called with partition and the share of its changelog that was read, 0 to 1
    last_epoch : the epoch after which a fresh producer id is taken
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        writer: Writer,
        *,
        owner: str,
        new_shard: Callable[[int], StateShard],
        keyed_by: str = "",
        timeout_s: float,
        on_progress: Callable[[int, float], None] = lambda partition, ratio: None,
        last_epoch: int = LAST_EPOCH,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._writer = writer
        self._owner = owner
        self._new_shard = new_shard
        self._keyed_by = keyed_by
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
        StateError : the changelog holds what this version cannot read, or users under other keys
        BrokerError : no progress for `timeout_s`
        """
        reader = Reader(self._cluster, fetch_bytes=_FETCH_BYTES, fetch_wait_ms=_FETCH_WAIT_MS)
        await reader.start()
        try:
            fenced = await self._writer.new_producer_id() is not None
            replay = Replay(
                reader,
                holdings,
                trust_ends=fenced,
                timeout_s=self._timeout_s,
                on_progress=self._on_progress,
            )
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
        self, replay: Replay, partitions: list[int], holdings: dict[int, Holding]
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
                last[tp.partition] = held.applied_record(self._owner, self._keyed_by)
                begins[tp] = ends[tp]
                told = {"partition": tp.partition}
                log.info("partition %d resumes from memory", tp.partition, extra=told)
            else:
                holdings[tp.partition] = Holding(tp.partition, self._new_shard(tp.partition))
                last[tp.partition] = NOTHING_APPLIED
        await replay.reader.start_at(begins)
        for partition, found in (await replay.read_to(begins, ends)).items():
            if not found:
                raise StateError(
                    f"changelog {self._topic}, partition {partition}: it has records and no "
                    f"`applied` record among them. Something else wrote to this topic; restore it, "
                    f"or delete it to start with empty states"
                )
            last[partition] = found[-1]
            check_keys(found[-1], self._keyed_by, self._topic, partition)
        return last

    async def _fence(
        self, replay: Replay, last: dict[int, Applied], holdings: dict[int, Holding]
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
                for record in found:  # of a taker that was quicker, in a log that was empty
                    check_keys(record, self._keyed_by, self._topic, partition)
                claim = claims[partition]
                # Nothing came although we wrote: the broker knows more than the log shows.
                last[partition] = found[-1] if found else claim.record({}, self._owner, "")
                if claim.won(found, self._owner) and claim.epoch < self._last_epoch:
                    holding = holdings[partition]
                    holding.fence = claim.fence
                    holding.log_end = ends[TopicPartition(self._topic, partition)]
                    if found[-1].next != holding.applied:
                        await self._restate(holding)
                    todo.discard(partition)
            if not todo:
                return
        raise FencedError(
            f"changelog {self._topic}: other workers kept taking partitions {sorted(todo)} over"
        )

    async def _restate(self, holding: Holding) -> None:
        """Write the applied offsets anew, behind a fence that has older ones.

        It carries what we had read when we wrote it, and the owner before us went on meanwhile. The
        furthest count, but compaction keeps the last.
        """
        record = holding.applied_record(self._owner, self._keyed_by)
        records = Records([APPLIED_KEY], [encode_applied(record)])
        batch = await self._writer.one_batch(records, self._topic, int(time.time() * 1000))
        sent = await self._writer.send(batch, self._topic, holding.partition, holding.fence)
        holding.log_end = (await sent).offset + 1

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
            record = claim.record(holdings[partition].applied, self._owner, self._keyed_by)
            records = Records([APPLIED_KEY], [encode_applied(record)])
            batch = await self._writer.one_batch(records, self._topic, int(time.time() * 1000))
            futures[partition] = await self._writer.send(batch, self._topic, partition, fence)
        answers = await asyncio.gather(*futures.values(), return_exceptions=True)
        after = {}
        for partition, answer in zip(futures, answers, strict=True):
            if isinstance(answer, REFUSALS):
                after[partition] = 0
            elif isinstance(answer, BaseException):
                raise refusal(answer) from answer
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

    def record(self, applied: dict[str, int], owner: str, keyed_by: str) -> Applied:
        return Applied(dict(applied), self.producer_id, self.epoch, owner, keyed_by)

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
