"""Users' states by partition, as a Faust table that hands out turns to change them.

In: record batches of the source topics, in the agent's hands. Out: per batch one changelog record
batch and its outputs, acknowledged in order, then the source offset. Knows nothing of what a state
or an output means.

    async for turns in interests.turns(batches):  # one of each partition that has records waiting
        for turn in turns:
            ...                       # fold `turn.batch` from `turn.applied` on into `turn.shard`
            await turn.commit(changelog, {"recommendations": lists})
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from faust.tables.table import Table
from mode import Service

from stream import declared, metrics
from stream.kafka.applied import APPLIED_KEY, encode_applied
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.holding import Holding, StateShard
from stream.kafka.liveness import TAKING_OVER
from stream.kafka.specs import passing_names
from stream.kafka.takeover import Takeover
from stream.kafka.together import together
from stream.kafka.transport import BatchApp
from stream.kafka.turn import Turn
from stream.kafka.writer import Writer

# Times round the event loop until the producer's task has written what a turn handed it; else that
# waits for the next step. (p90 at 1,000 events/s: 9 ms without, 7 with.)
_SEND_STEPS = 4

__all__ = ["InterestTable", "Turn"]

log = logging.getLogger(__name__)


class InterestTable(Table):  # type: ignore[misc]  # Faust is untyped
    """Sharded state with a fenced changelog.

    Upstream: faust.tables.table.Table (0.15.3); its own recovery is told that there is nothing to
    recover (`BatchConsumer.highwaters`), and its key-by-key interface is not used.

    Parameters
    ----------
    new_shard : makes the empty states of a partition
    keyed_by : fingerprint of the secret that makes the states' keys
    upkeep : what an idle partition has to publish, asked for each second
    """

    def __init__(
        self,
        app: BatchApp,
        name: str,
        new_shard: Callable[[int], StateShard],
        keyed_by: str = "",
        upkeep: Callable[[Holding], Mapping[str, Records]] = lambda holding: {},
    ) -> None:
        super().__init__(
            app,
            name=name,
            partitions=app.settings.topics.partitions,
            key_type=bytes,
            value_type=bytes,
            beacon=app.tables.beacon,
        )
        self._new_shard = new_shard
        self._keyed_by = keyed_by
        self._upkeep = upkeep
        self._max_events = app.settings.batch.max_events
        self._in_flight = app.settings.batch.in_flight
        self._passing = passing_names(app.settings)
        self._writer = Writer(app.cluster)
        self._room: asyncio.Semaphore | None = None
        self._taking_over: asyncio.Task[None] | None = None
        self.holdings: dict[int, Holding] = {}
        self.owner = uuid.uuid4().hex
        self.fenced = True
        self.begun = False  # the agent is ready for batches
        app.tables.add(self)
        app.interests = self

    def __bool__(self) -> bool:
        return True  # upstream is a mapping, and this one has no keys

    @property
    def ready(self) -> bool:
        """Every partition that this worker was given is served."""
        return (
            self._taking_over is not None
            and self._taking_over.done()
            and all(holding.serving for holding in self.holdings.values())
        )

    def applied(self, partition: int, topic: str) -> int | None:
        """Offset of the first event of `topic` that is not in the states; None when unknown."""
        holding = self.holdings.get(partition)
        return None if holding is None else holding.applied.get(topic)

    # -- life with the group ---------------------------------------------------------------

    def suspend(self, partitions: Iterable[int]) -> None:
        """Serve no more from partitions that were revoked; they may come back at once."""
        for partition in partitions:
            if partition in self.holdings:
                self.holdings[partition].serving = False

    async def on_rebalance(
        self,
        assigned: set[Any],
        revoked: set[Any],
        newly_assigned: set[Any],
        generation_id: int = 0,
    ) -> None:
        """Stop serving until the takeover is through; forget what went to another worker.

        Upstream: faust Collection.on_rebalance.
        """
        await self._abandon_takeover()
        for holding in self.holdings.values():
            holding.serving = False
        kept = {tp.partition for tp in assigned if tp.topic == self.changelog_topic_name}
        dropped = self.holdings.keys() - kept
        for partition in dropped:
            del self.holdings[partition]
        declared.forget_partitions(dropped)

    async def on_recovery_completed(self, active_tps: set[Any], standby_tps: set[Any]) -> None:
        """Take the assigned partitions over.

        Upstream: faust Collection.on_recovery_completed, which Recovery runs through asyncio.wait:
        an exception would vanish there, so it ends the process here.
        """
        partitions = sorted(tp.partition for tp in active_tps)
        await self._abandon_takeover()
        self._taking_over = asyncio.ensure_future(self._take_over(partitions))
        try:
            await self._taking_over
        except asyncio.CancelledError:
            log.info("takeover given up: the group is rebalancing")
            raise
        except Exception as exc:
            self.app.fatal(exc)

    async def _abandon_takeover(self) -> None:
        """End a takeover under way. Recovery, which started it, does not when it is cancelled."""
        task = self._taking_over
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def _take_over(self, partitions: list[int]) -> None:
        started_s = time.monotonic()
        await self._writer.start()
        takeover = Takeover(
            self.app.cluster,
            self.changelog_topic_name,
            self._writer,
            owner=self.owner,
            new_shard=self._new_shard,
            keyed_by=self._keyed_by,
            timeout_s=self.app.settings.broker.recovery_timeout_s,
            on_progress=self._recovering,
        )
        if not partitions:
            return
        self.fenced = await takeover.run(partitions, self.holdings)
        if self._room is None:
            if not self.fenced:
                log.warning(
                    "this broker gives no producer ids, so nothing fences off a worker that lost "
                    "its partitions: run one worker only"
                )
                self.app.consumer.reader.hasten()
            self._room = asyncio.Semaphore(self._in_flight if self.fenced else 1)
        metrics.RECOVERY_SECONDS.observe(took_s := time.monotonic() - started_s)
        users = sum(len(holding.shard) for holding in self.holdings.values())
        told = {"partitions": partitions, "users": users, "seconds": took_s}
        log.info("took partitions %s over: %d users in %.3f s", *told.values(), extra=told)

    def _recovering(self, partition: int, ratio: float) -> None:
        self.app.undertakings.moved(TAKING_OVER)
        metrics.RECOVERY_PROGRESS_RATIO.labels(partition).set(ratio)

    async def on_stop(self) -> None:
        await self._abandon_takeover()
        await super().on_stop()
        await self._writer.stop()

    # -- turns -----------------------------------------------------------------------------

    async def turns(self, batches: Any) -> AsyncIterator[list[Turn]]:
        """Turns for what waits in an agent's stream, one a partition, as soon as something does.

        The agent has begun when it asks for them: from then on events that wait must move.
        Batches of partitions that are no longer ours are dropped and stay uncommitted.

        Parameters
        ----------
        batches : the stream that a Faust agent is given
        """
        self.begun = True
        async for waiting in together(batches, self._take_room, self._max_events):
            turns = [turn for batch in waiting if (turn := self._turn(batch)) is not None]
            if turns:
                yield turns
                for _ in range(_SEND_STEPS):
                    await asyncio.sleep(0)

    async def _take_room(self, wait: bool) -> bool:
        """Take room in flight for one batch; without waiting only where there is some."""
        assert self._room is not None, "no batch comes before the first takeover"
        if not wait and self._room.locked():
            return False
        await self._room.acquire()
        return True

    def _turn(self, batch: RecordBatch) -> Turn | None:
        """A turn in the room that was taken for it; None when the partition is no longer ours."""
        holding = self.holdings.get(batch.partition)
        if holding is None or not holding.serving or not self.app.consumer.holds(batch):
            assert self._room is not None
            self._room.release()
            return None
        if holding.open:
            raise RuntimeError("a turn was left without commit: its batch would be lost")
        holding.open = True
        return Turn(self, holding, batch)

    async def send(
        self, turn: Turn, changelog: Records | None, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        """Send a turn's changelog batch, `applied` record last, and its output batches."""
        holding = turn.holding
        now_ms = int(time.time() * 1000)
        if turn.source is not None and turn.source.topic not in self._passing:
            topic = turn.source.topic
            holding.applied[topic] = max(holding.applied.get(topic, 0), turn.source.next)
        applied = encode_applied(holding.applied_record(self.owner, self._keyed_by))
        states = changelog or Records([], [])
        records = Records([*states.keys, APPLIED_KEY], [*states.values, applied])
        writer, name, partition = self._writer, self.changelog_topic_name, holding.partition
        batch = await writer.one_batch(records, name, now_ms)
        metrics.CHANGELOG_BYTES_TOTAL.inc(batch.size())
        turn.records = len(records)
        futures = [await writer.send(batch, name, partition, holding.fence)]
        futures += await self.send_outputs(holding, outputs)
        holding.written_s = time.monotonic()
        return futures

    async def send_outputs(
        self, holding: Holding, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        """Send output batches of a partition; one answer is to come for each."""
        writer, now_ms = self._writer, int(time.time() * 1000)
        return [
            await writer.send(piece, topic, holding.partition, holding.fence)
            for topic, output in outputs.items()
            for piece in await writer.batches(output, topic, now_ms)
        ]

    def settle(self, holding: Holding) -> None:
        """Let go of every turn at the head of the line that is acknowledged, in order."""
        assert self._room is not None
        turns = holding.turns
        while turns and turns[0].acknowledged:
            turn = turns.popleft()
            holding.log_end = turn.log_end
            if turn.source is not None:
                self.app.consumer.settle(turn.source)
                self._room.release()
            if turn.on_acked is not None:
                turn.on_acked()

    # -- upkeep ----------------------------------------------------------------------------

    @Service.task  # type: ignore[untyped-decorator]
    async def _keep_house(self) -> None:
        """Each second: gauges, upkeep, and what keeps brokers from forgetting idle producer ids."""
        refresh_s = self.app.settings.broker.fence_refresh_s
        async for _ in self.itertimer(1.0, name="interests"):
            for holding in list(self.holdings.values()):
                if not holding.serving:
                    continue
                metrics.STATE_USERS.labels(holding.partition).set(len(holding.shard))
                metrics.STATE_BYTES.labels(holding.partition).set(holding.shard.nbytes)
                idle = not holding.turns and not holding.open
                stale = holding.fence and time.monotonic() - holding.written_s > refresh_s
                if idle and ((outputs := self._upkeep(holding)) or stale):
                    await Turn(self, holding, None).commit(None, outputs)
