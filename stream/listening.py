"""An application on a socket, and answers that are alike everywhere. In: an application.

No header and no error names a version; `/metrics` does, of Python (`python_info`). What cannot be
read as HTTP is answered as JSON, as all errors are, and quoted in no log, for it may hold ids.
Knows no routes, and nothing of Kafka.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from stream.errors import SettingsError

log = logging.getLogger(__name__)

# What must hold while something serves, by name: {"model": True, "recovered": False, ...}; a text
# for what does not hold, too, and says why.
Readiness = Callable[[], Mapping[str, bool | str]]
# What to say, and to do, of a host and a port that cannot be had.
Refusal = Callable[[str, int, OSError], str]
# The answer to what no handler has answered, by status.
Unanswered = Callable[[int], web.Response]
_NAME: Final = "freshet"
_NO_HOST: Final = re.compile(r"[\x00-\x20\x7f]")
_HOST: Final = re.compile(r"(\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:]+))(:\d*)?")


class Listener:
    """Serves an application from `start` until `stop`.

    Parameters
    ----------
    port : 0 takes any free one; `port` tells which after `start`
    held : listens there already (see `open_port`), and is closed by `stop`; None: `start` listens
    refusal : what to say, and to do, when an address cannot be had
    unanswered : the answer to what no handler of the application has answered
    end_within_s : for requests that are in flight when it stops
    """

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        *,
        refusal: Refusal,
        unanswered: Unanswered,
        end_within_s: float,
        held: socket.socket | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self.port = port
        self._refusal = refusal
        self._unanswered = unanswered
        self._end_within_s = end_within_s
        self._held = held
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        SettingsError : the port is taken, or the host is not an address of this machine
        """
        runner = _Runner(
            self._app,
            self._unanswered,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=self._end_within_s,
        )
        await runner.setup()
        try:
            if self._held is None:
                require_host(self._host)
                await web.TCPSite(runner, self._host, self.port).start()
            else:
                await web.SockSite(runner, self._held).start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(self._refusal(self._host, self.port, error)) from error
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and close what is open. A second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


class _Runner(web.AppRunner):
    """aiohttp's runner with connections of ours."""

    __slots__ = ("_unanswered",)

    def __init__(self, app: web.Application, unanswered: Unanswered, **given: Any) -> None:
        super().__init__(app, **given)
        self._unanswered = unanswered

    async def _make_server(self) -> web.Server:
        """As `aiohttp.web.AppRunner._make_server`."""
        return _Server(await super()._make_server(), self._unanswered)


class _Server(web.Server):
    """Another one's requests, answered to the end."""

    def __init__(self, of: web.Server, unanswered: Unanswered) -> None:
        super().__init__(
            of.request_handler,
            request_factory=of.request_factory,
            handler_cancellation=of.handler_cancellation,
            loop=of._loop,
            **of._kwargs,
        )
        self._unanswered = unanswered

    def __call__(self) -> web.RequestHandler:
        """As `aiohttp.web.Server.__call__`."""
        return _Connection(self, self._unanswered, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """A connection that tells what is wrong in the application's own way."""

    __slots__ = ("_unanswered",)

    def __init__(self, manager: web.Server, unanswered: Unanswered, **given: Any) -> None:
        super().__init__(manager, **given)
        self._unanswered = unanswered

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """As `aiohttp.web.RequestHandler.handle_error`: of what could not be read, or failed."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has left: no failure, and nobody to answer
        if exc is not None and status >= 500:
            log_failure(exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        response = self._unanswered(status)
        response.headers[hdrs.SERVER] = _NAME
        response.force_close()
        return response

    def log_exception(
        self, *args: Any, exc_info: BaseException | None = None, **given: Any
    ) -> None:
        """As `aiohttp.web.RequestHandler.log_exception`; None: a handler returned no answer."""
        log_failure(exc_info or TypeError())

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """As `aiohttp.web.RequestHandler.finish_response`; errors of no handler are ours."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = reworded(resp, self._unanswered)
        return await super().finish_response(request, resp, start_time)


def reworded(error: web.HTTPException, unanswered: Unanswered) -> web.Response:
    """An error of aiohttp's in the application's own words; which methods are allowed is kept."""
    told = unanswered(error.status)
    if hdrs.ALLOW in error.headers:
        told.headers[hdrs.ALLOW] = error.headers[hdrs.ALLOW]
    return told


async def unsigned(request: web.Request, response: web.StreamResponse) -> None:
    """No header tells which versions serve; for the `on_response_prepare` of an application."""
    response.headers[hdrs.SERVER] = _NAME


def log_failure(error: BaseException) -> None:
    """Say that a request failed, and where; not in the error's words, which may hold an id."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("a request failed: %s\n%s", type(error).__name__, where)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON, from a struct or from bytes that are JSON already."""
    return web.Response(
        body=body if isinstance(body, bytes) else msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def answer_readiness(told: Mapping[str, bool | str]) -> web.Response:
    """What `/readyz` answers: 200 when every value is True, else 503 with the reasons."""
    held = {name: value is True for name, value in told.items()}
    reasons = [value for value in told.values() if isinstance(value, str)]
    ready = all(held.values())
    body = {"ready": ready, **held} | ({"reason": "; ".join(reasons)} if reasons else {})
    return answer(body, 200 if ready else 503)


def answer_metrics(request: web.Request, registry: CollectorRegistry) -> web.Response:
    """A registry's series in the format that Prometheus asks for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})


def open_port(host: str, port: int, refusal: Refusal) -> socket.socket:
    """Listen, before whatever will serve there: who connects until then waits.

    Parameters
    ----------
    port : 0 takes any free one
    refusal : what to say, and to do, when it cannot be had

    Raises
    ------
    SettingsError : the port is taken, or the host is not an address of this machine
    """
    try:
        require_host(host)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsError(refusal(host, port, error)) from error


def require_host(host: str) -> None:
    """Look whether any machine could be called so; sockets tell it in errors of all kinds.

    Raises
    ------
    OSError : EINVAL
    """
    try:
        host.encode("idna")
    except UnicodeError:
        pass
    else:
        if _NO_HOST.search(host) is None:
            return
    raise OSError(errno.EINVAL, "no host can be called so")


def asked_host(host: str) -> str:
    """The name or address of a request's Host header, without its port; empty where it is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found["address"] or found["name"]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
