"""The worker's own web endpoints: metrics, liveness, readiness.

In: a host, a port and a question "what are you still waiting for?". Out: `/metrics` for Prometheus,
`/healthz` (the event loop answers) and `/readyz` (model and catalogue loaded, states recovered,
brokers there).
Runs inside the worker's event loop, so that a stuck loop shows as a failed `/healthz`. Knows
nothing of Kafka, models or users; serves no user data.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stream.errors import SettingsError

log = logging.getLogger(__name__)

# What must hold while the worker serves, by name: {"model": True, "recovered": False, ...}; a text
# for what does not hold, too, and says why.
Readiness = Callable[[], Mapping[str, bool | str]]


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
        self.host = host
        self.port = port
        self._readiness = readiness
        self._registry = registry
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the endpoints are, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        SettingsError : the port is taken or the host is not an address of this machine
        """
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        # A scrape in flight gets a second to end; the worker's own stop is what people wait for.
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(_cannot_listen(self.host, self.port, error)) from error
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])
        if not is_loopback(self.host):
            log.warning(
                "%s is open to other machines, without TLS and login (metrics_host, "
                "FRESHET_METRICS_HOST): let only Prometheus and probes reach it",
                self.url,
            )

    async def stop(self) -> None:
        """Stop listening and close what is open. A second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        told = self._readiness()
        body: dict[str, bool | str] = {name: value is True for name, value in told.items()}
        ready = all(body.values())
        if reasons := [value for value in told.values() if isinstance(value, str)]:
            body["reason"] = "; ".join(reasons)
        return web.json_response({"ready": ready, **body}, status=200 if ready else 503)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_free(host: str, port: int) -> None:
    """Try to listen, and let go again: tells a taken port before anything else is started.

    Raises
    ------
    SettingsError : the port is taken or the host is not an address of this machine
    """
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as error:
        raise SettingsError(_cannot_listen(host, port, error)) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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
