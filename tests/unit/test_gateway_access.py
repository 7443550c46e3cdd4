"""Who the gateway lets in, how often, and from which pages."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import SettingsError
from stream.gateway.access import Buckets, Tokens, check_open
from stream.gateway.app import gateway_app
from stream.gateway.view import partitions_named
from stream.settings.gateway import Gateway
from tests.support.gateway import NOW_MS, FakeProducer, filled, serve, settings_with

Client = TestClient[Any, Any]
TOKEN, OTHER = "one-token-of-32-characters-or-so", "another-token-that-nobody-guesses"
PATH = "/v1/users/u1/lists"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(f"# of the site\n{TOKEN}\n\n")
    return path


def bearer(token: str, kind: str = "Bearer") -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"{kind} {token}"}}


# -- tokens ----------------------------------------------------------------------------------


def test_only_a_token_of_the_file_lets_in(file: Path) -> None:
    async def check(client: Client) -> None:
        assert (await client.get(PATH, **bearer(TOKEN))).status == 200
        assert (await client.get(PATH, **bearer(TOKEN, "bearer"))).status == 200
        for options in ({}, bearer(OTHER), bearer(""), bearer(TOKEN, "Basic"), bearer("# of the")):
            async with client.get(PATH, **options) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert (await response.json())["error"] == "no_token"
        assert (await client.get("/metrics")).status == 401
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status == 200
        # A path that is not there tells nothing either.
        assert (await client.get("/v1/nothing")).status in (401, 404)

    serve(check, settings=settings_with(tokens_file=str(file)))


def test_a_changed_file_counts_from_then_on(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    tokens = Tokens(str(file), clock)
    assert tokens.known(TOKEN.encode())
    file.write_text(f"{OTHER}\n")
    os.utime(file, ns=(1, 1))
    assert tokens.known(TOKEN.encode()), "looked at more than once a second"
    clock.now_s += 1
    assert not tokens.known(TOKEN.encode())
    assert tokens.known(OTHER.encode())
    for spoil in (lambda: file.write_text("\n"), file.unlink, lambda: file.write_text("short\n")):
        spoil()
        clock.now_s += 1
        with caplog.at_level(logging.WARNING):
            assert tokens.known(OTHER.encode())
        assert not tokens.known(b"short")
        assert "The tokens from before go on" in caplog.text
        caplog.clear()
    assert OTHER not in caplog.text


@pytest.mark.parametrize("text", ["", "# none\n\n", "short\n", "fifteen-bytes-x\n"])
def test_a_file_without_good_tokens_is_no_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(SettingsError, match="FRESHET_GATEWAY_TOKENS_FILE") as told:
        gateway_app(settings_with(tokens_file=str(path)), filled(), FakeProducer())
    assert "short\n" not in str(told.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        Tokens(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("host", "more", "serves"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("localhost", {}, True),
        ("0.0.0.0", {}, False),
        ("10.0.0.1", {}, False),
        ("0.0.0.0", {"open": True}, True),
        ("0.0.0.0", {"tokens_file": "some"}, True),
    ],
)
def test_without_tokens_only_this_machine_is_served(
    host: str, more: dict[str, Any], serves: bool
) -> None:
    given_settings = Gateway(host=host, **more)
    if serves:
        check_open(given_settings)
        return
    with pytest.raises(SettingsError, match=r"gateway\.open"):
        check_open(given_settings)


def test_a_page_cannot_make_its_own_name_point_here() -> None:
    evil = {"headers": {"Host": "evil.example"}}

    async def closed(client: Client) -> None:
        async with client.get(PATH, **evil) as response:
            assert response.status == 403
            assert (await response.json())["error"] == "other_host"
        for host in ("localhost:80", "127.0.0.1", "[::1]:8420"):
            assert (await client.get(PATH, headers={"Host": host})).status == 200

    async def opened(client: Client) -> None:
        assert (await client.get(PATH, **evil)).status == 200

    serve(closed)
    serve(opened, settings=settings_with(open=True))


# -- rates -----------------------------------------------------------------------------------


def test_too_many_requests_wait(file: Path) -> None:
    async def check(client: Client) -> None:
        mine, other = bearer(TOKEN), bearer(OTHER)
        assert [(await client.get(PATH, **mine)).status for _ in range(2)] == [200, 200]
        async with client.get(PATH, **mine) as response:
            assert response.status == 429
            assert int(response.headers["Retry-After"]) > 60
            assert (await response.json())["error"] == "too_many_requests"
        # Each token has its own, and so has an address without one.
        assert (await client.get(PATH, **other)).status == 200
        assert [(await client.get(PATH)).status for _ in range(3)] == [401, 401, 429]
        assert (await client.get("/readyz")).status == 200

    with file.open("a") as tokens:
        tokens.write(f"{OTHER}\n")
    serve(check, settings=settings_with(tokens_file=str(file), rate=0.01, burst=2))


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.1, 10), st.integers(1, 5))
def test_a_bucket_gives_its_rate_and_no_more(waits: list[float], rate: float, burst: int) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock)
    began_s, taken = clock.now_s, 0
    for wait_s in waits:
        clock.now_s += wait_s
        told_s = buckets.take(b"one")
        taken += told_s == 0
        assert taken <= burst + (clock.now_s - began_s) * rate + 1e-6
        if told_s:
            clock.now_s += told_s + 1e-6
            assert buckets.take(b"one") == 0, "it came later than told"
            taken += 1


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.gateway.access._MOST_CLIENTS", 10)
    buckets = Buckets(1, 1, Clock())
    for number in range(100):
        buckets.take(b"%d" % number)
    assert len(buckets._by_client) == 10
    assert Buckets(0, 1).take(b"one") == 0


# -- origins ---------------------------------------------------------------------------------


def test_pages_of_other_origins_read_nothing_unless_they_are_named() -> None:
    shop, evil = {"Origin": "https://shop.example"}, {"Origin": "https://evil.example"}
    allow = "Access-Control-Allow-Origin"

    async def off(client: Client) -> None:
        async with client.get(PATH, headers=shop) as response:
            assert allow not in response.headers
        assert (await client.options(PATH, headers=shop)).status == 405

    async def on(client: Client) -> None:
        async with client.get(PATH, headers=shop) as response:
            assert response.headers[allow] == "https://shop.example"
            assert response.headers["Vary"] == "Origin"
        async with client.options("/v1/clicks", headers=shop) as response:
            assert response.status == 204
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        async with client.get(PATH, headers=evil) as response:
            assert allow not in response.headers
        assert (await client.options("/v1/clicks", headers=evil)).status == 405
        async with client.get("/v1/users/u1/stream", headers=shop) as response:
            assert response.headers[allow] == "https://shop.example"
        # An error can be read as well.
        async with client.get("/v1/users/u2/lists", headers=shop) as response:
            assert (response.status, response.headers[allow]) == (404, "https://shop.example")

    serve(off)
    origins = "https://shop.example,http://localhost:3000"
    serve(on, settings=settings_with(cors_origins=origins))


def test_a_form_of_another_page_sends_nothing() -> None:
    """A page may send text or a form unasked, JSON only where it is allowed to."""
    producer = FakeProducer()
    event = f'{{"user_id":"u","item_id":"i","type":"view","event_time_ms":{NOW_MS}}}'

    async def check(client: Client) -> None:
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            headers = {"Content-Type": kind, "Origin": "https://evil.example"}
            assert (await client.post("/v1/clicks", data=event, headers=headers)).status == 415

    serve(check, producer=producer)
    assert producer.sent == []


# -- partitions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [("all", range(6)), ("0-2", (0, 1, 2)), ("5", (5,)), ("0,2-3,3", (0, 2, 3))],
)
def test_partitions_are_named_by_numbers_and_ranges(text: str, found: Any) -> None:
    assert partitions_named(text, 6) == frozenset(found)


@pytest.mark.parametrize("text", ["6", "0-6", "3-2"])
def test_partitions_that_are_not_there_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"within 0-5"):
        partitions_named(text, 6)
