"""The bad network of the fault tests, against a broker that answers each request with its bytes."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.proxy import API_KEYS, ProxiedEmbedded, ProxiedKafka, Proxy


class Echo(threading.Thread):
    """Answers each frame with the same frame, and keeps what came."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.came = bytearray()

    def run(self) -> None:
        while True:
            try:
                peer, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a second time
            self.listening.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which a close does not
        self.listening.close()
        self.join(5)

    def _serve(self, peer: socket.socket) -> None:
        with peer:
            while True:
                try:
                    data = peer.recv(1 << 16)
                except OSError:
                    return
                if not data:
                    return
                self.came += data
                peer.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    echo.start()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    proxy = Proxy(echo.listening.getsockname()[1])
    yield proxy
    proxy.close()


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def frame(api: str, size: int = 100) -> bytes:
    return struct.pack(">ih", size - 4, API_KEYS[api]) + bytes(size - 6)


def read(peer: socket.socket, size: int) -> bytes:
    """Up to `size` bytes; fewer when the connection ends before."""
    got = b""
    while len(got) < size:
        try:
            data = peer.recv(size - len(got))
        except ConnectionResetError:
            break
        if not data:
            break
        got += data
    return got


def asked(peer: socket.socket, sent: bytes) -> bytes:
    peer.sendall(sent)
    return read(peer, len(sent))


def test_forwards_both_ways_and_in_order(proxy: Proxy) -> None:
    sent = frame("fetch") + frame("produce", 200_000) + frame("heartbeat", 14)
    with connect(proxy) as peer, connect(proxy) as other:
        assert asked(peer, sent) == sent
        assert asked(other, sent) == sent


def test_a_blackhole_keeps_connections_and_passes_nothing(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch"))
        proxy.blackhole()
        peer.sendall(frame("fetch"))
        peer.settimeout(0.2)
        with connect(proxy) as late:
            late.sendall(frame("fetch"))
            with pytest.raises(TimeoutError):
                peer.recv(1)
        proxy.forward()
        peer.settimeout(5)
        assert read(peer, 100) == frame("fetch"), "what was held back comes"


def test_holds_requests_of_one_kind_that_name_a_topic(proxy: Proxy) -> None:
    held, other = frame("produce"), frame("fetch")
    named = held[:50] + b"changelog" + held[59:]
    with connect(proxy) as peer, connect(proxy) as beside:
        proxy.hold("produce", "changelog")
        assert asked(beside, held) == held, "another topic"
        assert asked(beside, other[:50] + b"changelog" + other[59:]), "another kind"
        peer.sendall(named)
        peer.settimeout(0.2)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        assert asked(beside, other) == other
        proxy.forward()
        peer.settimeout(5)
        assert read(peer, 100) == named, "what was held back comes"
        assert asked(peer, named) == named


def test_refuses_and_takes_connections_again(proxy: Proxy) -> None:
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch"))
        proxy.refuse()
        assert read(peer, 1) == b"", "an open connection is cut"
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.forward()
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch"))
        proxy.cut_all()
        assert read(peer, 1) == b""
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch"))


def test_delays_one_way_without_slowing_the_stream(proxy: Proxy) -> None:
    proxy.delay(response_s=0.3)
    with connect(proxy) as peer:
        began_s = time.monotonic()
        assert asked(peer, frame("fetch") * 20) == frame("fetch") * 20
        assert 0.3 <= time.monotonic() - began_s < 1.5, "0.3 s for all, not for each"


def test_limits_the_bandwidth(proxy: Proxy, echo: Echo) -> None:
    proxy.limit(200_000)
    with connect(proxy) as peer:
        began_s = time.monotonic()
        assert asked(peer, frame("produce", 100_000))
        assert time.monotonic() - began_s >= 0.5


@pytest.mark.parametrize("after", [0.0, 0.5, 1.0])
def test_cuts_a_request_in_the_middle(proxy: Proxy, echo: Echo, after: float) -> None:
    proxy.cut("produce", after=after)
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch")) == frame("fetch"), "others pass"
        assert asked(peer, frame("produce", 1000)) == b""
    assert proxy.cuts == 1
    deadline = time.monotonic() + 5
    while len(echo.came) < 100 + 1000 * after and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(echo.came) == 100 + 1000 * after
    with connect(proxy) as peer:
        assert asked(peer, frame("produce", 1000)), "the next one passes"


def test_cuts_a_large_response_in_the_middle(proxy: Proxy, echo: Echo) -> None:
    proxy.cut("fetch", "response", at_least=500, times=2)
    for _ in range(2):
        with connect(proxy) as peer:
            assert asked(peer, frame("fetch")) == frame("fetch"), "a small one passes"
            assert asked(peer, frame("produce", 1000)), "another kind passes"
            assert len(asked(peer, frame("fetch", 1000))) == 500
    with connect(proxy) as peer:
        assert asked(peer, frame("fetch", 1000)) == frame("fetch", 1000)
    assert len(echo.came) == 2 * 2100 + 1000


def test_a_broker_that_is_down_ends_the_connection(proxy: Proxy, echo: Echo) -> None:
    echo.close()
    with connect(proxy) as peer:
        assert read(peer, 1) == b""


@pytest.mark.parametrize("kind", [ProxiedEmbedded, ProxiedKafka])
def test_a_brokers_proxy_ends_with_it(kind: type, tmp_path: Path) -> None:
    broker = kind(tmp_path / "broker")
    assert broker.proxied == f"127.0.0.1:{broker.proxy.port}"
    with connect(broker.proxy) as peer:
        assert read(peer, 1) == b""  # the broker is not there
    broker.__exit__(None, None, None)
    with pytest.raises(ConnectionRefusedError):
        connect(broker.proxy)
