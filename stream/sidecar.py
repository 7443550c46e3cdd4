"""The service beside the agent: web endpoints, the catalogue's feed, a look at the brokers.

In: settings, the feed, a question whether the states are there. Out: a Faust service. It starts
before everything else, since the endpoints must answer while states are recovered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mode import Service

from stream import metrics
from stream.errors import FreshetError, TopicError
from stream.http import HttpServer
from stream.kafka.cluster import Cluster
from stream.kafka.pulse import BrokerPulse
from stream.kafka.specs import changelog_topic, statistics_topic

if TYPE_CHECKING:
    from stream.config import Settings
    from stream.feed import CatalogueFeed
    from stream.live import LiveSettings
    from stream.tally import Tally

log = logging.getLogger(__name__)

_SHOW_EVERY_S = 1.0
_LOOK_EVERY_S = 1.0


class Sidecar(Service):  # type: ignore[misc]  # mode is untyped
    """Starts and stops with the app.

    Parameters
    ----------
    recovered : whether every partition of this worker is served
    fatal : ends the process with a reason
    """

    def __init__(
        self,
        settings: Settings,
        feed: CatalogueFeed,
        tally: Tally,
        live: LiveSettings,
        recovered: Callable[[], bool],
        fatal: Callable[[BaseException], object],
    ) -> None:
        super().__init__()
        self._feed = feed
        self._tally = tally
        self._live = live
        self._recovered = recovered
        self._fatal = fatal
        topics = settings.topics
        needed = (
            topics.clicks,
            topics.purchases,
            topics.requests,
            topics.erasures,
            topics.items,
            topics.recommendations,
            topics.answers,
            topics.dead_letters,
            topics.receipts,
            topics.trending,
            statistics_topic(settings),
            changelog_topic(settings),
        )
        self._pulse = BrokerPulse(Cluster.of(settings), needed, topics.partitions)
        self._away: str | None = "no broker was asked yet"
        self._server = HttpServer(settings.metrics_host, settings.metrics_port, self.readiness)

    def readiness(self) -> dict[str, bool | str]:
        """What `/readyz` tells; a sidecar is made only once the model is loaded."""
        return {
            "model": True,
            "catalogue": self._feed.loaded or "the catalogue is being read",
            "recovered": self._recovered() or "the users' states are being recovered",
            "broker": self._away or True,
        }

    async def on_start(self) -> None:
        await self._server.start()
        log.info("metrics and health on %s", self._server.url, extra={"url": self._server.url})

    async def on_stop(self) -> None:
        await self._feed.stop()
        await self._tally.stop()
        await self._pulse.stop()
        await self._server.stop()

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_catalogue(self) -> None:
        try:
            await self._feed.start()
            await self._feed.run()
        except FreshetError as error:
            self._fatal(error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_counts(self) -> None:
        try:
            await self._tally.run()
        except FreshetError as error:
            self._fatal(error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_settings(self) -> None:
        await self._live.run()

    @Service.task  # type: ignore[untyped-decorator]
    async def _show_readiness(self) -> None:
        async for _ in self.itertimer(_SHOW_EVERY_S, name="readiness"):
            metrics.READY.set(all(value is True for value in self.readiness().values()))

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_brokers(self) -> None:
        """Look whether the brokers answer; what needs them goes on trying meanwhile by itself."""
        asked = False
        while not self.should_stop:
            away = await self._pulse.look()
            if away is not None and (away != self._away or not asked):
                log.warning("not ready: %s", away)
            elif away is None and self._away is not None and asked:
                log.warning("the brokers answer again")
            self._away, asked = away, True
            if self._pulse.gone is not None:
                self._fatal(
                    TopicError(
                        f"while the worker ran: {self._pulse.gone}. The next start says what to do"
                    )
                )
            await self.sleep(_LOOK_EVERY_S)
