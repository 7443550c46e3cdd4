"""What `freshet doctor` says of the worker and the gateway on this machine."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stream.cli.examining import endpoints
from stream.cli.examining.configuration import examine_configuration
from stream.cli.examining.gateways import examine_gateway
from stream.cli.examining.workers import examine_worker
from stream.config import Settings, load_settings
from stream.revision import revision_of
from stream.settings.gateway import Gateway

# The worker on this machine


@pytest.fixture
def answering() -> Iterator[tuple[int, dict[str, bytes]]]:
    """A port, and what it answers to /readyz."""
    says = {"body": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if b"false" in says["body"] else 200)
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port, says
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'{"ready": true}', "ok", "serves"),
        (b'{"ready": false, "reason": "the brokers"}', "note", "waits: the brokers"),
        (b"<html>", "fault", "is no worker"),
        (b"[]", "fault", "is no worker"),
        (b"[" * 60_000, "fault", "is no worker"),
    ],
)
def test_a_worker_says_how_it_is(
    body: bytes, status: str, detail: str, answering: tuple[int, dict[str, bytes]]
) -> None:
    port, says = answering
    says["body"] = body
    found = examine_worker(Settings(metrics_host="0.0.0.0", metrics_port=port))
    assert (found.status, found.detail[-len(detail) :]) == (status, detail)


def test_no_worker_is_no_fault() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = examine_worker(Settings(metrics_port=port))
    assert (found.status, found.detail) == (
        "fault",
        f"127.0.0.1:{port} is taken, and answers nothing",
    )
    assert "FRESHET_METRICS_PORT" in str(found.cure)
    found = examine_worker(Settings(metrics_port=port))
    assert (found.status, found.cure) == ("note", None)
    assert examine_worker(Settings(metrics_port=0)).status == "skip"


@pytest.mark.parametrize("host", ["a..b", "x" * 70, ".", "a\nb"])
def test_what_no_host_can_be_called_is_blamed_on_no_port(host: str) -> None:
    for found, setting in (
        (examine_worker(Settings(metrics_host=host)), "metrics_host (FRESHET_METRICS_HOST)"),
        (gateway_of(host=host, open=True), "gateway.host (FRESHET_GATEWAY_HOST)"),
    ):
        assert found.status == "fault"
        assert found.detail == f"{setting} is {host!r}, and no host can be called so"
        assert found.cure == "set an address of this machine"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"HTTP"])
def test_what_drips_is_not_waited_for(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then, in the body or in the headers; the limit is for all of it."""
    monkeypatch.setattr(endpoints, "_ANSWER_WITHIN_S", 0.2)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            taken, _ = listener.accept()
            with taken, contextlib.suppress(OSError):
                taken.sendall(answer)
                while not ended.wait(0.05):
                    taken.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        found: list[Any] = []
        port = listener.getsockname()[1]
        asking = threading.Thread(
            target=lambda: found.append(examine_worker(Settings(metrics_port=port)))
        )
        asking.start()
        asking.join(2)
        late = asking.is_alive()
        ended.set()
        asking.join()
        thread.join()
    assert not late
    assert found[0].detail == f"127.0.0.1:{port} is taken, and answers nothing"


# The gateway on this machine


def gateway_of(**given: Any) -> Any:
    return examine_gateway(Settings(gateway=Gateway(**given)))


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b'{"ready": true, "lists": true}', "ok", "serves"),
        (
            b'{"ready": false, "lists": false, "reason": "the lists are being read"}',
            "note",
            "waits: the lists are being read",
        ),
        (b'{"ready": true, "model": true}', "fault", "is no gateway"),  # a worker
        (b"<html>", "fault", "is no gateway"),
        (b"[" * 60_000, "fault", "is no gateway"),
    ],
)
def test_a_gateway_says_how_it_is(
    body: bytes, status: str, detail: str, answering: tuple[int, dict[str, bytes]]
) -> None:
    port, says = answering
    says["body"] = body
    found = gateway_of(port=port)
    assert (found.status, found.detail[-len(detail) :]) == (status, detail)
    assert (found.cure is not None) == (status == "fault")


def test_a_gateways_port_is_free_or_taken() -> None:
    assert gateway_of(port=0).status == "ok"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = gateway_of(port=port)
    assert (found.status, found.detail) == (
        "fault",
        f"127.0.0.1:{port} is taken, and answers nothing",
    )
    assert "FRESHET_GATEWAY_PORT" in str(found.cure)
    found = gateway_of(port=port)
    assert (found.status, found.cure) == ("note", None)
    assert found.detail == f"none answers at 127.0.0.1:{port} on this machine"
    found = gateway_of(host="192.0.2.1", open=True)  # of documents: no machine has it
    assert found.status == "note"
    assert "192.0.2.1:8420 is no address of this machine" in found.detail


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"host": "0.0.0.0"}, "no token is asked for"),
        ({"partitions": "0-6"}, "must lie within 0-5"),
        ({"tokens_file": "/no/such/file"}, "cannot be read"),
    ],
)
def test_what_a_gateway_would_refuse_is_a_fault(given: dict[str, Any], part: str) -> None:
    found = gateway_of(port=0, **given)
    assert found.status == "fault"
    assert part in found.detail


def test_a_gateways_tokens_are_read_and_not_told(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("one-token-of-32-characters-or-so\n")
    file.chmod(0o600)
    found = gateway_of(port=0, tokens_file=str(file))
    assert found.status == "ok"
    assert "one-token" not in json.dumps(found.as_dict())
    file.chmod(0o644)
    found = gateway_of(port=0, tokens_file=str(file))
    assert found.status == "note"
    assert "every user of this machine may read or change its tokens" in found.detail
    assert f"chmod 600 {file}" in str(found.cure)
    file.write_text("short\n")
    assert "could be guessed" in gateway_of(port=0, tokens_file=str(file)).detail


def test_a_gateway_that_just_ended_is_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()):
            listener.accept()[0].close()  # its side closes first: the address waits for a minute
        port = listener.getsockname()[1]
    assert gateway_of(port=port).status == "note"


class _Endpoints(BaseHTTPRequestHandler):
    """A worker's endpoints, as far as the doctor looks at them."""

    told = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.told if self.path == "/metrics" else b'{"ready": true}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_doctor_compares_the_file_with_what_a_worker_has_in_force(tmp_path: Path) -> None:
    path = tmp_path / "freshet.toml"
    with HTTPServer(("127.0.0.1", 0), _Endpoints) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        path.write_text(
            f"metrics_host = '0.0.0.0'\nmetrics_port = {port}\n[placements.home]\nk = 5"
        )
        settings = load_settings(path, environ={})
        revision = revision_of(settings.placements)
        told = examine_configuration(settings, {})
        assert f"placements: home, settings {revision}" in told.more
        found = []
        for in_force in (revision, "0123456789ab", "none"):
            _Endpoints.told = f'freshet_settings_info{{revision="{in_force}"}} 1.0\n'.encode()
            found.append(examine_worker(settings))
        server.shutdown()
    assert [one.status for one in found] == ["ok", "fault", "ok"]  # the last is of an older version
    assert f"has live settings 0123456789ab in force, and what is set here is {revision}" in (
        found[1].detail
    )
    assert "its log" in str(found[1].cure)
