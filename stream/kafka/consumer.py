"""Faust's consumer, delivering record batches. In: assigned partitions. Out: messages for the
conductor, one a record batch, and commits of what the table settled.

Faust's group thread keeps join, heartbeat and commit and never fetches; the data comes through a
`Reader` on the main event loop. Each override names what it stands for in Faust 0.15.3 or aiokafka
0.14, both pinned; tests/unit/test_upstream.py holds their signatures. Knows nothing of states.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from stream import declared, metrics
from stream.errors import BrokerError, TopicError
from stream.kafka.batches import RecordBatch
from stream.kafka.group import GroupListener, GroupPoll
from stream.kafka.handed_out import HandedOut
from stream.kafka.liveness import GIVING_BACK, JOINING, TAKING_OVER, Stillness
from stream.kafka.positions import Continuity, needed_by_states, refuse_unknown
from stream.kafka.reader import Progress, Reader
from stream.kafka.specs import passing_names

log = logging.getLogger(__name__)

POLL_S = 1.0  # how often the group is polled, gauges are set and the watchdog looks


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Upstream: faust.transport.drivers.aiokafka.Consumer and its bases.

    Changelog partitions stay in the group, since the assignor keeps them together with the source
    partitions of the same number, but are never read here.
    """

    RebalanceListener = GroupListener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = Reader(self.app.cluster)
        self._handed_out = HandedOut()
        self._room = asyncio.Event()
        self._group_poll = GroupPoll(self.app.fatal, self.app.undertakings)
        self._still = Stillness()
        self._passing = passing_names(self.app.settings)
        self._continuity = Continuity(self._passing)

    async def on_start(self) -> None:
        await self.reader.start()
        await super().on_start()

    async def on_stop(self) -> None:
        await super().on_stop()
        await self.reader.stop()

    # -- rebalance -------------------------------------------------------------------------

    def _sources(self, partitions: Iterable[TP]) -> set[TP]:
        return {tp for tp in partitions if not self._is_changelog_tp(tp)}

    def _forget(self) -> None:
        """Drop all that was handed out: nothing of it can be settled any more."""
        for message in self._handed_out.clear():
            message.acked = True  # or upstream's wait_empty waits for it
            self._unacked_messages.discard(message)
        self._room.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Upstream: Consumer.on_partitions_revoked, which waits until what runs is settled."""
        undertakings = self.app.undertakings
        self.app.serving = False
        undertakings.end(TAKING_OVER)
        undertakings.begin(GIVING_BACK)
        self.reader.assign(())
        await super().on_partitions_revoked(revoked)
        self._forget()
        undertakings.end(GIVING_BACK)
        # The group waits for every member, and each may take its time to give back.
        undertakings.begin(JOINING, times=2)
        partitions = {tp.partition for tp in revoked}
        if self.app.interests is not None:
            self.app.interests.suspend(partitions)
        declared.forget_partitions(partitions)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Upstream: Consumer.on_partitions_assigned."""
        metrics.REBALANCES_TOTAL.inc()
        self._forget()
        sources = self._sources(assigned)
        try:
            refuse_unknown(sources, self.app.settings.topics.partitions)
        except TopicError as error:  # the group's thread would only log it
            self.app.fatal(error)
        self.app.undertakings.end(JOINING)
        if sources:
            self.app.undertakings.begin(TAKING_OVER)
        self.app.serving = not sources
        self.reader.assign(TopicPartition(*tp) for tp in sources)
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Start each source partition at the older of its committed and its applied offset.

        Upstream: Consumer.perform_seek; Recovery calls it after the takeover.

        Raises
        ------
        StateError : a partition ends before the offset up to which its events are in the states
        """
        generation = self.app.consumer_generation_id
        group = self._thread._ensure_consumer()

        async def committed(partitions: set[TP]) -> dict[TP, int | None]:
            return {tp: await group.committed(TopicPartition(*tp)) for tp in partitions}

        sources = self._sources(self.assignment())
        starts: dict[TP, int | None] = await self._thread.call_thread(committed, sources)
        if self.app.interests is not None:
            await needed_by_states(self.app.interests, self.reader, starts, self._passing)
        if generation != self.app.consumer_generation_id:
            return
        self._forget()
        self._committed_offset.update(starts)
        self._read_offset.update(starts)
        self._still.moved()
        log.info("positions: %s", {f"{tp.topic}-{tp.partition}": at for tp, at in starts.items()})
        offsets = {TopicPartition(*tp): at for tp, at in starts.items()}
        self._continuity.start_at(offsets)
        await self.reader.start_at(offsets)
        self.app.undertakings.end(TAKING_OVER)
        self.app.serving = True
        self.app.on_serving()

    # Faust's own Recovery is told that there is nothing to read: the takeover reads the changelog.

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Upstream: ThreadDelegateConsumer.highwaters, asked by Recovery._build_highwaters."""
        return dict.fromkeys(partitions, 0)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Upstream: ThreadDelegateConsumer.earliest_offsets, asked by Recovery._build_offsets."""
        return dict.fromkeys(partitions, 0)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Upstream: ThreadDelegateConsumer.seek_wait, asked by Recovery._seek_offsets."""

    # -- delivery --------------------------------------------------------------------------

    def stop_flow(self) -> None:
        """Upstream: Consumer.stop_flow; wakes what waits for room."""
        super().stop_flow()
        self._room.set()

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> dict[TP, list[RecordBatch]]:
        """Upstream: ThreadDelegateConsumer._getmany, a round trip to the group's thread."""
        settings = self.app.settings.batch
        while self._handed_out.is_enough(2 * settings.in_flight):
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), timeout)
            except TimeoutError:
                return {}
            if not self.flow_active or self.should_stop:
                return {}
        wanted = {TopicPartition(*tp) for tp in active_partitions or ()}
        fetched = await self.reader.fetch(wanted, timeout, lambda: self.flow_active)
        await self._continuity.check(self.reader, fetched)
        most = dict.fromkeys(self._passing, settings.max_requests)
        return {
            TP(*tp): batch.split(most.get(tp.topic, settings.max_events))
            for tp, batch in fetched.items()
        }

    def _to_message(self, tp: TP, record: RecordBatch) -> ConsumerMessage:
        """Upstream: aiokafka Consumer._to_message; here a message is a whole record batch."""
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            record.next - 1,
            record.timestamps_ms[-1] / 1000,
            0,
            None,
            None,
            record,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        self._handed_out.add(message)
        return message

    async def _drain_messages(self, fetcher: Any) -> None:
        """Upstream: Consumer._drain_messages, which makes several tasks a message."""
        app = self.app
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                records, _ = await self._wait_next_records(1.0)
                generation = app.consumer_generation_id
                for tp, batches in (records or {}).items():
                    for batch in batches:
                        if not self.flow_active or generation != app.consumer_generation_id:
                            break
                        await self.callback(self._to_message(tp, batch))
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not app.should_stop:
                raise
        except Exception as exc:
            app.fatal(exc)

    async def commit_and_end_transactions(self) -> None:
        """Upstream: Consumer.commit_and_end_transactions, the last commit before partitions go.

        `commit` gives way to one that is under way, which began before the last batch settled.
        """
        await self.maybe_wait_for_commit_to_finish()
        await super().commit_and_end_transactions()

    # -- acknowledgement: by batch, in order, and only through `settle` --------------------

    def holds(self, batch: RecordBatch) -> bool:
        """Whether `batch` was handed out under the present assignment and is not settled."""
        return self._handed_out.holds(batch)

    def settle(self, batch: RecordBatch) -> None:
        """Make the offset after `batch` committable; of one partition the oldest comes first."""
        message = self._handed_out.settle(batch)
        if message is None:
            return  # handed out before a rebalance
        message.acked = True
        self.app.undertakings.moved(GIVING_BACK)
        self._unacked_messages.discard(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        self._room.set()

    def ack(self, message: ConsumerMessage) -> bool:
        """Upstream: Consumer.ack. Faust also acknowledges what it skips or what raised: ignored."""
        return False

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Upstream: Consumer._add_gap, holes between single offsets; batches have none."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        """Upstream: Consumer._filter_tps_with_pending_acks."""
        settled = self._handed_out.committable
        return [tp for tp in settled if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        """Upstream: Consumer._new_offset."""
        return self._handed_out.committable.get(tp)

    # -- liveness --------------------------------------------------------------------------

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Upstream: Consumer.verify_event_path, of a consumer that fetches. See `_watch`."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch(self) -> None:
        """Each second: poll the group while work moves, set the lag, end a process that is stuck.

        Polling is what max.poll.interval measures: it stops when batches wait and none is settled.
        """
        async for _ in self.itertimer(POLL_S, name="watch"):
            progress = self.reader.progress()
            for tp, reached in progress.items():
                oldest = self._handed_out.oldest(TP(*tp))
                at = reached.position if oldest is None else oldest.base
                lag = reached.lag + reached.position - at
                metrics.set_progress(tp.topic, tp.partition, at, lag)
            still_s = self._seconds_without_progress(progress)
            limit_s = self.app.settings.broker.recovery_timeout_s
            if still_s > limit_s:
                hangs = (
                    f"no progress for {still_s:.0f} s although events wait: the engine hangs, "
                    f"or the broker stopped answering fetches or sends"
                )
                self.app.fatal(BrokerError(hangs))
            if still_s < limit_s / 2:
                self._group_poll.poll(self._thread, rebalancing=not self.app.serving)

    def _seconds_without_progress(self, progress: Mapping[TopicPartition, Progress]) -> float:
        positions = {tp: reached.position for tp, reached in progress.items()}
        waiting = len(self._handed_out) > 0 or any(p.lag for p in progress.values())
        if self.app.interests is not None:  # before its first batch the agent may need its time
            waiting = waiting and self.app.interests.begun
        seen = (positions, dict(self._handed_out.committable))
        return self._still.seconds(waiting and self.flow_active, seen)
