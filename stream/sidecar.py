"""The service beside the agent: web endpoints and the catalogue's feed.

In: settings, the feed, a question whether the states are there. Out: a Faust service. It starts
before everything else, since the endpoints must answer while states are recovered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mode import Service

from stream import metrics
from stream.errors import FreshetError
from stream.http import HttpServer

if TYPE_CHECKING:
    from stream.config import Settings
    from stream.feed import CatalogueFeed

log = logging.getLogger(__name__)

_SHOW_EVERY_S = 1.0


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
        recovered: Callable[[], bool],
        fatal: Callable[[BaseException], object],
    ) -> None:
        super().__init__()
        self._feed = feed
        self._recovered = recovered
        self._fatal = fatal
        self._server = HttpServer(settings.metrics_host, settings.metrics_port, self.readiness)

    def readiness(self) -> dict[str, bool]:
        """What `/readyz` tells; a sidecar is made only once the model is loaded."""
        return {"model": True, "catalogue": self._feed.loaded, "recovered": self._recovered()}

    async def on_start(self) -> None:
        await self._server.start()
        log.info("metrics and health on %s", self._server.url)

    async def on_stop(self) -> None:
        await self._feed.stop()
        await self._server.stop()

    @Service.task  # type: ignore[untyped-decorator]
    async def _follow_catalogue(self) -> None:
        try:
            await self._feed.start()
            await self._feed.run()
        except FreshetError as error:
            self._fatal(error)

    @Service.task  # type: ignore[untyped-decorator]
    async def _show_readiness(self) -> None:
        async for _ in self.itertimer(_SHOW_EVERY_S, name="readiness"):
            metrics.READY.set(all(self.readiness().values()))
