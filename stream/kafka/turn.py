"""A partition's batch on its way from the states before it to its acknowledgement.

In: what changed and what is to be published. Out: record batches handed to the table's writer, and
their answers counted. Knows nothing of what a state or an output means.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from stream.kafka.batches import RecordBatch, Records
from stream.kafka.holding import Holding
from stream.kafka.refusals import refusal


class Desk(Protocol):
    """Who hands turns out and sends what they bring: the table.

    Attributes
    ----------
    app : its `fatal` ends the process
    """

    app: Any

    async def send(
        self, turn: Turn, changelog: Records | None, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        """Send a turn's changelog batch and its output batches; their answers, in this order."""

    async def send_outputs(
        self, holding: Holding, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        """Send output batches of a partition; one answer is to come for each."""

    def settle(self, holding: Holding) -> None:
        """Let go of every turn at the head of the line that is acknowledged, in order."""


class Turn:
    """A batch of one partition, from the states before it to its acknowledgement.

    To the engine it is a `Part` (`stream.core.micro_batch`): shard, batch, applied.

    Attributes
    ----------
    source : the batch; None for a renewal of the fence, which has none
    holding : what is held of the partition
    records : of the changelog batch, its `applied` record too
    sent_s : monotonic time at which it was handed to the producer
    log_end : changelog offset after it; None until the broker told it
    on_acked : called once this turn and all before it are acknowledged
    shard : states of the batch's partition
    applied : offset of the first event of the batch's topic that is not in the states; the fold
        skips events below it, but their lists are published again
    """

    __slots__ = (
        "_afterwards",
        "_answers_due",
        "_desk",
        "_rest",
        "applied",
        "holding",
        "log_end",
        "on_acked",
        "records",
        "sent_s",
        "shard",
        "source",
    )

    def __init__(self, desk: Desk, holding: Holding, batch: RecordBatch | None) -> None:
        self._desk = desk
        self.holding = holding
        self.source = batch
        self.shard: Any = holding.shard
        self.applied = 0 if batch is None else holding.applied.get(batch.topic, 0)
        self.records = 0
        self.sent_s = 0.0
        self.log_end: int | None = None
        self.on_acked: Callable[[], None] | None = None
        self._afterwards: Callable[[], Awaitable[Mapping[str, Records]]] | None = None
        self._rest: asyncio.Task[None] | None = None  # kept from the collector
        self._answers_due: int | None = None  # None: not all is sent yet

    @property
    def batch(self) -> RecordBatch:
        assert self.source is not None, "only batches are handed out"
        return self.source

    @property
    def acknowledged(self) -> bool:
        return self._answers_due == 0

    async def commit(
        self,
        changelog: Records | None,
        outputs: Mapping[str, Records],
        on_acked: Callable[[], None] | None = None,
        afterwards: Callable[[], Awaitable[Mapping[str, Records]]] | None = None,
    ) -> None:
        """Send states and outputs; returns when they are on their way, not when acknowledged.

        The source offset becomes committable once this turn and all earlier ones of the partition
        are acknowledged; then `on_acked` is called. A failed or refused send ends the process.

        Parameters
        ----------
        changelog : states that changed, each user once; None or empty when none did
        outputs : topic -> records, sent to the batch's partition number of that topic
        afterwards : makes more outputs, once all of the above is acknowledged; the turn is not
            acknowledged before these are as well

        Raises
        ------
        TopicError : the changelog batch or an output record is larger than its topic takes
        """
        self.on_acked = on_acked
        self._afterwards = afterwards
        holding = self.holding
        async with holding.lock:
            self.sent_s = time.monotonic()
            holding.turns.append(self)
            futures = await self._desk.send(self, changelog, outputs)
        if self.source is not None:  # a renewal of the fence may pass a batch's turn
            holding.open = False
        futures[0].add_done_callback(self._changelog_answered)
        self._await(futures[1:], besides=1)

    def _await(self, futures: list[asyncio.Future[Any]], besides: int = 0) -> None:
        self._answers_due = len(futures) + besides
        for future in futures:
            future.add_done_callback(self._answered)

    def _changelog_answered(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            offset = future.result().offset  # -1 when the broker does not remember it
            self.log_end = offset + self.records if offset >= 0 else None
        self._answered(future)

    def _answered(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._desk.app.fatal(refusal(error))
        assert self._answers_due, "an answer to nothing that was sent"
        self._answers_due -= 1
        if self._answers_due:
            return
        try:
            if self._afterwards is None:
                self._desk.settle(self.holding)
            else:
                self._answers_due = None
                self._rest = asyncio.ensure_future(self._send_rest(self._afterwards))
                self._afterwards = None
        except Exception as exc:
            self._desk.app.fatal(exc)

    async def _send_rest(self, make: Callable[[], Awaitable[Mapping[str, Records]]]) -> None:
        """Send what must not be seen before the rest of the turn is acknowledged."""
        try:
            outputs = await make()
            async with self.holding.lock:
                futures = await self._desk.send_outputs(self.holding, outputs)
            self._await(futures)
            if not futures:
                self._answers_due = 0
                self._desk.settle(self.holding)
        except Exception as exc:
            self._desk.app.fatal(exc)
