"""The gateway's life: it listens, reads all lists, follows them, and ends in order.

In: settings. Out: an application that is served, or the error that ended it. Reads go on while
brokers are away; `/readyz` says so, and what is posted is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import socket
from collections.abc import Iterable
from typing import Final

from aiokafka.errors import KafkaError

from stream.config import Settings
from stream.errors import BrokerError, TopicError
from stream.gateway.app import gateway_app, unanswered
from stream.gateway.producer import TopicProducer
from stream.gateway.replies import Replies
from stream.gateway.view import View, partitions_named
from stream.kafka.cluster import Cluster
from stream.kafka.follower import TopicFollower
from stream.kafka.pulse import BrokerPulse
from stream.kafka.reader import FETCH_WAIT_MS
from stream.kafka.repeats import hold_back_repeats
from stream.kafka.rights import passing_on
from stream.listening import Listener, is_loopback
from stream.metrics import GATEWAY_READY

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
_IN_FLIGHT_END_WITHIN_S: Final = 2.0  # of the 5 s that Ctrl-C may take


class Service:
    """A gateway on brokers: `start`, then `run` until it is cancelled or raises, then `stop`.

    Parameters
    ----------
    fetch_wait_ms : how long a broker may wait for records; see `Reader.hasten`
    held : see `Listener`; its address must be the settings'

    Attributes
    ----------
    app : the application; routes may be added to it before `start`
    view : the lists

    Raises
    ------
    SettingsError : see `gateway_app` and `partitions_named`
    """

    def __init__(
        self,
        settings: Settings,
        fetch_wait_ms: int = FETCH_WAIT_MS,
        held: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        topics = settings.topics
        own = partitions_named(settings.gateway.partitions, topics.partitions)
        self.view = View(topics.partitions, own)
        replies = Replies(topics.erasures)
        self._away: str | None = "no broker was asked yet"
        self._producer = TopicProducer(settings, replies, lambda: self._away)
        cluster = Cluster.of(settings)
        stall_s = settings.broker.recovery_timeout_s
        # Outputs stand in the partition of the events that they come of.
        self._lists, self._answers, self._receipts = (
            TopicFollower(cluster, topic, put, stall_s, own, fetch_wait_ms)
            for topic, put in (
                (topics.recommendations, self.view.put),
                (topics.answers, replies.put_answers),
                (topics.receipts, replies.put_receipts),
            )
        )
        self._pulse = BrokerPulse(cluster, tuple(passing_on(settings)), topics.partitions)
        self.app = gateway_app(settings, self.view, self._producer, readiness=self.readiness)
        self._listener = Listener(
            self.app,
            settings.gateway.host,
            settings.gateway.port,
            refusal=_cannot_listen,
            unanswered=unanswered,
            end_within_s=_IN_FLIGHT_END_WITHIN_S,
            held=held,
        )

    @property
    def url(self) -> str:
        """Where it listens, without a path; once started."""
        return self._listener.url

    def readiness(self) -> dict[str, bool | str]:
        """What `/readyz` tells beside whether the lists were read."""
        return {"broker": self._away or True}

    async def start(self) -> None:
        """Listen. Lists come with `run`.

        Raises
        ------
        SettingsError : the port is taken, or the host is not an address of this machine
        """
        hold_back_repeats("aiokafka")
        await self._listener.start()
        log.info("gateway at %s", self.url)
        if not is_loopback(self._settings.gateway.host):
            log.warning(
                "%s is open to other machines, without TLS: put something that speaks TLS before "
                "it, or tokens and users' ids can be read on the way",
                self.url,
            )

    async def run(self) -> None:
        """Read, follow, and look after the brokers; ends only by raising what went wrong.

        Raises
        ------
        TopicError : a topic is missing, has another number of partitions, or holds what is damaged
        BrokerError : no broker answers at the start
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_brokers())
                tasks.create_task(self._read())
        except BaseExceptionGroup as errors:
            known, others = errors.split((BrokerError, KafkaError))
            if known is None or others is not None:
                raise
            error = _first(known)
        if isinstance(error, BrokerError):
            raise error
        raise BrokerError(
            f"the brokers at {self._settings.bootstrap} do not do what was asked ({error}): "
            f"`freshet doctor` looks for what is wrong"
        ) from error

    async def run_until(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set; raises as `run` does."""
        work, stop = asyncio.create_task(self.run()), asyncio.create_task(stopping.wait())
        await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if work.done():
            work.result()
        work.cancel()
        await asyncio.wait([work])

    async def _read(self) -> None:
        await self._answers.skip_all()
        await self._receipts.skip_all()
        await self._producer.start()
        read = await self._lists.read_all()
        self.view.loaded = True
        log.info("ready: %d records read, %d users", read, len(self.view))
        # A million lists stay: the collector need not look at them again.
        gc.collect()
        gc.freeze()
        async with asyncio.TaskGroup() as tasks:
            for follower in (self._lists, self._answers, self._receipts):
                tasks.create_task(follower.follow(_go_on))

    async def _watch_brokers(self) -> None:
        while True:
            away = await self._pulse.look()
            if away != self._away:
                log.warning("not ready: %s", away) if away else log.info("the brokers answer")
            self._away = away
            GATEWAY_READY.set(self.view.loaded and away is None)
            if self._pulse.gone is not None:
                raise TopicError(
                    f"{self._pulse.gone}: `freshet topics check` says what to do "
                    f"(topics.partitions is {self._settings.topics.partitions})"
                )
            await asyncio.sleep(_LOOK_EVERY_S)

    async def stop(self) -> None:
        """Answer what is in flight, end the streams, and close every connection."""
        GATEWAY_READY.set(0)
        await self._listener.stop()
        await self._producer.stop()
        for follower in (self._lists, self._answers, self._receipts):
            with contextlib.suppress(KafkaError):
                await follower.stop()
        await self._pulse.stop()


async def _go_on() -> None:
    """Nothing to wait for between two polls."""


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups, one of ours before others."""

    def leaves(error: BaseException) -> Iterable[BaseException]:
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from leaves(inner)
        else:
            yield error

    return min(leaves(errors), key=lambda error: not isinstance(error, BrokerError))


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"the gateway's port {port} on {host} is taken: set gateway.port "
            f"(FRESHET_GATEWAY_PORT) to a free one, or to 0 for any"
        )
    return (
        f"the gateway cannot listen on {host}:{port} ({error.strerror or error}): set gateway.host "
        f"(FRESHET_GATEWAY_HOST) to an address of this machine, gateway.port above 1023"
    )
