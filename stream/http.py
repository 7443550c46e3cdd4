"""The worker's own web endpoints: metrics, liveness, readiness.

In: a host, a port and a question "what are you still waiting for?". Out: `/metrics` for Prometheus,
`/healthz` (the event loop answers) and `/readyz` (model and catalogue loaded, states recovered,
brokers there).
Runs inside the worker's event loop, so that a stuck loop shows as a failed `/healthz`. Knows
nothing of Kafka, models or users; serves no user data.
"""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from typing import Final

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry

from stream.listening import (
    Listener,
    Readiness,
    answer,
    answer_metrics,
    answer_readiness,
    is_loopback,
    open_port,
    unsigned,
)

log = logging.getLogger(__name__)

# A scrape in flight gets a second to end; the worker's own stop is what people wait for.
_IN_FLIGHT_END_WITHIN_S: Final = 1.0


class HttpServer:
    """`/metrics`, `/healthz` and `/readyz` on one port.

    Parameters
    ----------
    host : address to listen on
    port : 0 takes any free one; `port` tells which after `start`
    readiness : asked on every `/readyz`; ready when every value is True
    registry : the metrics to show
    """

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Readiness,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._host = host
        self._readiness = readiness
        self._registry = registry
        app = web.Application()
        app.on_response_prepare.append(unsigned)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._listener = Listener(
            app,
            host,
            port,
            refusal=_cannot_listen,
            unanswered=_unanswered,
            end_within_s=_IN_FLIGHT_END_WITHIN_S,
        )

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def url(self) -> str:
        """Where the endpoints are, without a path."""
        return self._listener.url

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        SettingsError : the port is taken or the host is not an address of this machine
        """
        await self._listener.start()
        if not is_loopback(self._host):
            log.warning(
                "%s is open to other machines, without TLS and login (metrics_host, "
                "FRESHET_METRICS_HOST): let only Prometheus and probes reach it",
                self.url,
            )

    async def stop(self) -> None:
        """Stop listening and close what is open. A second call does nothing."""
        await self._listener.stop()

    async def _metrics(self, request: web.Request) -> web.Response:
        return answer_metrics(request, self._registry)

    async def _healthz(self, request: web.Request) -> web.Response:
        return answer({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        return answer_readiness(self._readiness())


def _unanswered(status: int) -> web.Response:
    error = HTTPStatus(status).phrase.lower().replace(" ", "_")
    message = "the worker failed; its log says where"
    if status < 500:
        message = "GET /metrics, /healthz and /readyz are what a worker serves"
    return answer({"error": error, "message": message}, status)


def require_free(host: str, port: int) -> None:
    """Try to listen, and let go again: tells a taken port before anything else is started.

    Raises
    ------
    SettingsError : the port is taken or the host is not an address of this machine
    """
    open_port(host, port, _cannot_listen).close()


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"the metrics port {port} on {host} is taken, perhaps by another worker: "
            "set FRESHET_METRICS_PORT to a free port, or to 0 for any"
        )
    if error.errno == errno.EACCES:
        return (
            f"the metrics port {port} needs rights that this process lacks: "
            "set FRESHET_METRICS_PORT to a port above 1023"
        )
    return (
        f"cannot serve metrics on {host}:{port} ({error.strerror or error}): "
        "set FRESHET_METRICS_HOST to an address of this machine"
    )
