"""The aiohttp application. In: settings, a view, a producer. Out: routes, behind their checks.

`gateway_app` is what `freshet gateway` serves, and what others mount: they may add routes of their
own to it, which these checks leave alone.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry

from stream.config import Settings
from stream.declared import GATEWAY
from stream.gateway.access import Buckets, Tokens, check_open
from stream.gateway.answers import FailureError, fail
from stream.gateway.openapi import document
from stream.gateway.producer import Producer
from stream.gateway.routes import Routes
from stream.gateway.streams import Streams
from stream.gateway.view import View
from stream.listening import (
    Readiness,
    answer,
    answer_metrics,
    answer_readiness,
    asked_host,
    is_loopback,
    log_failure,
    reworded,
    unsigned,
)
from stream.metrics import (
    GATEWAY_REFUSED_TOTAL,
    GATEWAY_REQUEST_SECONDS,
    GATEWAY_REQUESTS_TOTAL,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STREAM: Final = "/v1/users/{user_id}/stream"
_GUARDED: Final = ("/v1/", "/metrics")
_METHODS: Final = "GET, POST, DELETE"


def gateway_app(
    settings: Settings,
    view: View,
    producer: Producer,
    *,
    readiness: Readiness | None = None,
    registry: CollectorRegistry = GATEWAY,
) -> web.Application:
    """Build the application; it starts and stops nothing but its streams.

    Parameters
    ----------
    readiness : asked on every `/readyz`, beside whether the view is loaded
    registry : the metrics to show

    Raises
    ------
    SettingsError : the file of tokens cannot be used, or nobody would be asked for one
    """
    check_open(settings.gateway)
    guard = _Guard(settings)
    routes = Routes(settings, view, producer)
    streams = Streams(routes, view, settings.gateway.max_streams)
    status = _Status(view, readiness or dict, registry)
    app = web.Application(
        middlewares=[_measured, guard.let_in],
        client_max_size=settings.gateway.max_body_bytes,
    )
    app.on_response_prepare.append(unsigned)
    app.on_response_prepare.append(guard.allow_origin)
    app.on_shutdown.append(lambda _: streams.close())
    add = app.router
    add.add_get("/v1/users/{user_id}/lists", routes.lists)
    add.add_get("/v1/users/{user_id}/lists/{placement}", routes.list_of)
    add.add_get(STREAM, streams.handle, allow_head=False)
    add.add_delete("/v1/users/{user_id}", routes.forget)
    for kind in ("clicks", "purchases", "items"):
        add.add_post(f"/v1/{kind}", routes.post(kind))
    add.add_post("/v1/requests", routes.ask)
    add.add_get("/openapi.json", status.openapi)
    add.add_get("/healthz", status.healthz)
    add.add_get("/readyz", status.readyz)
    add.add_get("/metrics", status.metrics)
    return app


class _Status:
    """What the gateway says of itself."""

    def __init__(self, view: View, readiness: Readiness, registry: CollectorRegistry) -> None:
        self._view = view
        self._readiness = readiness
        self._registry = registry
        self._openapi = msgspec.json.encode(document())

    async def openapi(self, request: web.Request) -> web.Response:
        return answer(self._openapi)

    async def healthz(self, request: web.Request) -> web.Response:
        return answer({"alive": True})

    async def readyz(self, request: web.Request) -> web.Response:
        lists = self._view.loaded or "the lists are being read"
        return answer_readiness({"lists": lists, **self._readiness()})

    async def metrics(self, request: web.Request) -> web.Response:
        return answer_metrics(request, self._registry)


class _Guard:
    """Tokens, rates and origins, for the gateway's own routes."""

    def __init__(self, settings: Settings) -> None:
        given = settings.gateway
        self._tokens = Tokens(given.tokens_file)
        self._buckets = Buckets(given.rate, given.burst)
        self._origins = frozenset((given.cors_origins or "").split(",")) - {""}
        # A page that makes its own name point here would read everything that needs no token.
        self._loopback_only = not (given.open or self._tokens.needed)

    @web.middleware
    async def let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(_GUARDED):
            return await handler(request)
        if request.method == hdrs.METH_OPTIONS and self._origin(request) is not None:
            return web.Response(status=204)
        client, known = self._client(request)
        wait_s = self._buckets.take(client)
        if wait_s:
            raise fail(
                429,
                "too_many_requests",
                "this client asks more often than gateway.rate allows: wait as Retry-After says",
                {"Retry-After": str(math.ceil(wait_s))},
            )
        if not known:
            raise fail(
                401,
                "no_token",
                "send a token of gateway.tokens_file, as Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        if self._loopback_only and not is_loopback(asked_host(request.host)):
            raise fail(
                403,
                "other_host",
                "without tokens only this machine's own names are served: set gateway.tokens_file, "
                "or gateway.open",
            )
        return await handler(request)

    def _client(self, request: web.Request) -> tuple[bytes, bool]:
        """Whose bucket counts, and whether this client is let in."""
        peer = b"at " + _network(request.remote or "").encode()
        if not self._tokens.needed:
            return peer, True
        kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        given = token.strip().encode(errors="surrogateescape")
        if kind.lower() != "bearer" or not self._tokens.known(given):
            return peer, False
        return hashlib.sha256(given).digest(), True

    def _origin(self, request: web.Request) -> str | None:
        origin = request.headers.get(hdrs.ORIGIN)
        return origin if origin in self._origins else None

    async def allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let a page of a known origin read what comes."""
        if not self._origins:
            return
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = self._origin(request)
        if origin is None:
            return
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        if request.method == hdrs.METH_OPTIONS:
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = "Authorization, Content-Type"
            response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"


def _network(address: str) -> str:
    """Whom an address stands for: of IPv6 a client has a /64 to itself."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else address


@web.middleware
async def _measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make an answer of every error, and count."""
    began_s = time.perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "none"
    status = 499  # the client left
    try:
        response = await _answered(request, handler)
        status = response.status
        return response
    finally:
        GATEWAY_REQUESTS_TOTAL.labels(route, status).inc()
        if route != STREAM:
            GATEWAY_REQUEST_SECONDS.labels(route).observe(time.perf_counter() - began_s)


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FailureError as error:
        GATEWAY_REFUSED_TOTAL.labels(error.body.error).inc()
        return answer(error.body, error.status, error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return reworded(error, _refused)
    except (ConnectionError, TimeoutError):
        raise
    except Exception as error:
        log_failure(error)
        return _refused(500)


def unanswered(status: int) -> web.Response:
    """What the gateway says, and counts, of a request that came to no route of its own."""
    GATEWAY_REQUESTS_TOTAL.labels("none", status).inc()
    return _refused(status)


def _refused(status: int) -> web.Response:
    reason = "internal" if status >= 500 else _REASONS.get(status, "bad_request")
    GATEWAY_REFUSED_TOTAL.labels(reason).inc()
    return answer(fail(status, reason, _WORDS[reason]).body, status)


_REASONS: Final = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_WORDS: Final = {
    "not_found": "there is no such path: GET /openapi.json lists them",
    "method_not_allowed": "this path takes other methods: see the header Allow",
    "body_too_large": "the body is longer than gateway.max_body_bytes: send less at a time",
    "bad_request": "the request cannot be read",
    "internal": "the gateway failed; its log says where",
}
