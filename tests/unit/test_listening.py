"""What worker and gateway say to whom they cannot understand; what of aiohttp that leans on."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from stream.config import Settings
from stream.declared import GATEWAY
from stream.errors import SettingsError
from stream.gateway import streams
from stream.gateway.app import gateway_app, unanswered
from stream.gateway.service import Service
from stream.http import HttpServer, require_free
from stream.listening import (
    Listener,
    _Connection,
    _Runner,
    _Server,
    answer,
    open_port,
    require_host,
)
from stream.metrics import GATEWAY_REFUSED_TOTAL, GATEWAY_REQUESTS_TOTAL
from stream.settings.gateway import Gateway
from tests.support.gateway import FakeProducer, filled, record_of, settings_with

BROKEN = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a version": b"GET /v1/users/secret-shopper/lists BROKEN\r\nA b: c\r\n\r\n",
    "a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nsecret-shopper\r\n\r\n",
    "a long line": b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"secret-shopper" * 1000),
    "an expectation": b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: secret-shopper\r\n\r\n",
    "two lengths": b"POST /v1/clicks HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\n",
}


WORDS = "of a shopper"


class Server(Protocol):
    @property
    def url(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def gateway() -> Server:
    return Service(Settings(gateway=Gateway(port=0)))


def worker() -> Server:
    return HttpServer("127.0.0.1", 0, dict, CollectorRegistry())


async def say(url: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and body of what a server answers to some bytes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode()
    status, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await asyncio.wait_for(reader.readexactly(int(headers["content-length"])), 5)
    writer.close()
    return int(status.split()[1]), headers, body


def run(server: Server, check: Callable[[str], Awaitable[Any]]) -> Any:
    async def served() -> Any:
        await server.start()
        try:
            return await check(server.url)
        finally:
            await server.stop()

    return asyncio.run(served())


@pytest.mark.parametrize("start", [gateway, worker], ids=lambda start: start.__name__)
@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_told_as_other_errors_are(
    sent: bytes, start: Callable[[], Server], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        status, headers, body = run(start(), lambda url: say(url, sent))
    assert status == (417 if b"Expect" in sent else 400)
    assert headers["content-type"] == "application/json"
    assert headers["server"] == "freshet"
    told = json.loads(body)
    assert told.keys() == {"error", "message"}
    assert b"shopper" not in body
    assert "shopper" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("start", [gateway, worker], ids=lambda start: start.__name__)
@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        (b"GET /healthz", 200, None),
        (b"GET /nowhere", 404, "not_found"),
        (b"POST /healthz", 405, "method_not_allowed"),
    ],
)
def test_no_header_and_no_error_names_a_version(
    line: bytes, status: int, error: str | None, start: Callable[[], Server]
) -> None:
    sent = line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    found, headers, body = run(start(), lambda url: say(url, sent))
    assert (found, headers["server"], headers["content-type"]) == (
        *(status, "freshet", "application/json"),
    )
    assert json.loads(body).get("error") == error
    assert ("allow" in headers) == (status == 405)


def test_the_gateway_counts_what_it_cannot_read() -> None:
    counted = (
        GATEWAY_REQUESTS_TOTAL.labels("none", 400),
        GATEWAY_REFUSED_TOTAL.labels("bad_request"),
    )
    before = [counter._value.get() for counter in counted]
    run(gateway(), lambda url: say(url, BROKEN["a version"]))
    assert [counter._value.get() for counter in counted] == [count + 1 for count in before]


CLICKS, STREAM = "/v1/clicks", "/v1/users/{user_id}/stream"
OPENED = b"GET /v1/users/u1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
LEFT = {
    "in the midst of its body": (
        CLICKS,
        b"POST /v1/clicks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"user_id',
    ),
    "during a stream": (STREAM, OPENED),
    "by taking nothing": (STREAM, OPENED),
}


def counts() -> dict[tuple[str, ...], float]:
    """Answers by route and status, refusals by reason."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in GATEWAY.collect()
        for sample in family.samples
        if sample.name in {"freshet_gateway_requests_total", "freshet_gateway_refused_total"}
    }


@pytest.mark.parametrize("how", LEFT)
def test_a_client_that_leaves_is_no_failure_and_counted_once(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    route, sent = LEFT[how]
    monkeypatch.setattr(streams, "WRITE_WITHIN_S", 0.1)
    view = filled(record_of("u1"))
    listener = Listener(
        gateway_app(settings_with(), view, FakeProducer(), registry=CollectorRegistry()),
        *("127.0.0.1", 0),
        refusal=lambda *_: "",
        unanswered=unanswered,
        end_within_s=1.0,
    )
    before = counts()

    async def check(url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        if route == STREAM:
            await asyncio.wait_for(reader.readuntil(b"event: lists"), 5)
        if how != "by taking nothing":
            await asyncio.sleep(0.1)
            writer.close()
        for offset in range(1, 300):
            if counts() != before:
                break
            if route == STREAM:
                view.put([record_of("u1", items=5000, offset=offset)])
            await asyncio.sleep(0.02)
        writer.close()

    with caplog.at_level(logging.INFO):
        run(listener, check)
    now = counts()
    more = {labels: now[labels] - before.get(labels, 0.0) for labels in now}
    assert {labels: count for labels, count in more.items() if count} == {(route, "499"): 1.0}
    assert caplog.records == []


def test_a_failure_is_told_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: web.Request) -> web.Response:
        raise ValueError(WORDS)

    async def nothing(request: web.Request) -> Any:
        return None

    async def late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise ValueError(WORDS)

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == "/nowhere":
            raise ValueError(WORDS)

    app = web.Application()
    app.on_response_prepare.append(prepare)
    app.router.add_get("/fail", fail)
    app.router.add_get("/late", late)
    app.router.add_get("/nothing", nothing)
    listener = Listener(
        app,
        *("127.0.0.1", 0),
        refusal=lambda *_: "",
        unanswered=lambda status: answer({"error": status}, status),
        end_within_s=1.0,
    )

    async def all_of(url: str, path: bytes) -> bytes:
        """What comes until the connection ends, as it does after a failure."""
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        whole = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return whole

    async def check(url: str) -> None:
        whole = await all_of(url, b"/fail")
        assert whole.startswith(b"HTTP/1.1 500 ")
        assert b"\r\nServer: freshet\r\n" in whole
        assert whole.endswith(b'{"error":500}')
        whole = await all_of(url, b"/late")
        assert b"begun" in whole
        assert b"500" not in whole, "an answer in the midst of another"
        assert await all_of(url, b"/nowhere") == b""
        status, _, _ = await say(url, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == 500

    with caplog.at_level(logging.INFO):
        run(listener, check)
    told = [record.message.split("\n")[0] for record in caplog.records]
    assert told == [*["a request failed: ValueError"] * 3, "a request failed: TypeError"]
    assert "test_listening.py" in caplog.text
    assert "shopper" not in caplog.text


@pytest.mark.parametrize(
    ("theirs", "parameters"),
    [
        (web.AppRunner._make_server, "self"),
        (web.Server.__call__, "self"),
        (
            web.Server.__init__,
            "self, handler, *, request_factory=None, handler_cancellation=False, loop=None, "
            "**kwargs",
        ),
        (web.RequestHandler.handle_error, "self, request, status=500, exc=None, message=None"),
        (web.RequestHandler.log_exception, "self, *args, **kw"),
        (web.RequestHandler.finish_response, "self, request, resp, start_time"),
    ],
)
def test_what_is_overridden_is_as_it_was(theirs: Callable[..., Any], parameters: str) -> None:
    """aiohttp has no other way to word what it cannot read: see whether `listening` still fits."""
    signature = inspect.signature(theirs)
    bare = [
        one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()
    ]
    found = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    assert str(found) == f"({parameters})"


def test_a_server_is_copied_whole() -> None:
    """Attributes that aiohttp keeps to itself, taken from what an application made."""

    def refuse(status: int) -> web.Response:
        return answer({}, status)

    async def check() -> None:
        app = web.Application()
        given = {"access_log": None, "lingering_time": 3.0, "max_line_size": 1234}
        theirs, ours = web.AppRunner(app, **given), _Runner(app, refuse, **given)
        await theirs.setup()
        await ours.setup()
        expected, found = vars(theirs.server), vars(ours.server)
        assert {"_loop", "_kwargs"} <= expected.keys()
        assert expected["_kwargs"].items() >= given.items()
        assert isinstance(ours.server, _Server)
        assert found == expected | {"_unanswered": refuse}
        connection = ours.server()
        assert isinstance(connection, _Connection)
        assert (connection._lingering_time, connection.max_line_size) == (3.0, 1234)
        await ours.cleanup()
        await theirs.cleanup()

    asyncio.run(check())


@pytest.mark.parametrize("host", ["a..b", "x" * 70, ".", "a\nb", "a b", "a\0b", "\udc80"])
def test_what_no_host_can_be_called_is_refused(host: str) -> None:
    settings = settings_with(host=host, open=True, port=0)
    with pytest.raises(SettingsError, match="FRESHET_GATEWAY_HOST") as refused:
        asyncio.run(Service(settings).start())
    assert "(no host can be called so)" in str(refused.value)
    with pytest.raises(SettingsError, match="FRESHET_METRICS_HOST"):
        asyncio.run(HttpServer(host, 0, dict, CollectorRegistry()).start())
    with pytest.raises(SettingsError, match="FRESHET_METRICS_HOST"):
        require_free(host, 0)


def test_what_a_host_may_be_called() -> None:
    for host in ("127.0.0.1", "::1", "fe80::1%lo", "shop.example.", "läden.example", "shop_1"):
        require_host(host)
    with pytest.raises(OSError, match="no host") as refused:
        require_host("a..b")
    assert refused.value.errno == errno.EINVAL


def test_a_port_is_held_before_who_serves_there() -> None:
    """Nobody else gets it meanwhile, who connects early is answered late, and it ends with all."""

    def taken(host: str, port: int, error: OSError) -> str:
        assert error.errno == errno.EADDRINUSE
        return f"{host}:{port} is taken"

    async def check() -> None:
        held = open_port("127.0.0.1", 0, taken)
        host, port = held.getsockname()
        with pytest.raises(SettingsError, match=f"{host}:{port} is taken"):
            open_port(host, port, taken)
        listener = Listener(
            web.Application(),
            host,
            port,
            refusal=taken,
            unanswered=unanswered,
            end_within_s=1,
            held=held,
        )
        early = asyncio.create_task(say(listener.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        await asyncio.sleep(0.05)
        await listener.start()
        assert listener.port == port
        assert (await early)[0] == 404
        await listener.stop()
        open_port(host, port, taken).close()

    asyncio.run(check())
