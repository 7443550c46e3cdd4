"""A TCP proxy on loopback in front of a Kafka broker, to be made a bad network at run time.

    with ProxiedKafka(folder / "kafka") as broker:
        worker_uses(broker.proxied)     # broker.bootstrap goes past the proxy
        broker.proxy.blackhole()        # connections stay, nothing passes
        broker.proxy.forward()          # all is well again; what was held back passes now

What else it can do: `refuse`, `cut_all`, `delay`, `limit`, `hold` requests of one kind, and `cut`
in the middle of a request or response of one kind. It reads the frames of the Kafka protocol: no
TLS, and no producer that goes without acknowledgements. It runs in a thread of its own; any thread
may call its methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from stream.kafka.broker import HOST, BrokerProcess, EmbeddedBroker, free_port
from tests.support.kafka import ApacheKafka

Way = Literal["request", "response"]
WAYS: tuple[Way, Way] = ("request", "response")
# https://kafka.apache.org/protocol#protocol_api_keys
API_KEYS = {"produce": 0, "fetch": 1, "offset_commit": 8, "join_group": 11, "heartbeat": 12}

_CHUNK = 16 << 10
_HELD_FRAMES = 64  # a direction; then the sender feels it, as with a full socket


@dataclass
class _Cut:
    api: int
    way: Way
    after: float
    at_least: int
    times: int


class Proxy:
    """Passes connections on to 127.0.0.1:`upstream`.

    Attributes
    ----------
    port : where it listens, the same one for life
    cuts : how many connections `cut` has cut
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.cuts = 0
        # Bound and never listening: it keeps the port ours while connections are refused.
        self._guard = _bound(0)
        self.port: int = self._guard.getsockname()[1]
        self._delay_s = dict.fromkeys(WAYS, 0.0)
        self._bytes_per_s = 0.0
        self._free_s = dict.fromkeys(WAYS, 0.0)
        self._cut: _Cut | None = None
        self._held: tuple[int, bytes] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._released = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.forward()

    # -- what the network does -------------------------------------------------------------

    def forward(self) -> None:
        """Pass everything, at once. Also what it does first."""
        self._do(self._forward())

    def blackhole(self) -> None:
        """Keep connections, take new ones, pass nothing."""
        self._do(self._set(self._flows.clear))

    def refuse(self) -> None:
        """Cut all connections and refuse new ones."""
        self._do(self._refuse())

    def cut_all(self) -> None:
        """Cut all connections; new ones are taken."""
        self._do(self._cut_all())

    def delay(self, request_s: float = 0.0, response_s: float = 0.0) -> None:
        """Let everything arrive so much later; the order stays and the bandwidth too."""
        self._do(self._set(lambda: self._delay_s.update(request=request_s, response=response_s)))

    def limit(self, bytes_per_s: float) -> None:
        """Pass so many bytes a second each way, of all connections together; 0 is no limit."""
        self._do(self._set(lambda: setattr(self, "_bytes_per_s", bytes_per_s)))

    def hold(self, api: str, topic: str) -> None:
        """Keep back requests of a kind that name a topic, and what comes behind them.

        Parameters
        ----------
        api : a name of `API_KEYS`
        """
        self._do(self._hold(API_KEYS[api], topic.encode()))

    def cut(
        self,
        api: str,
        way: Way = "request",
        *,
        after: float = 0.5,
        at_least: int = 0,
        times: int = 1,
    ) -> None:
        """Cut the connection in the middle of the next frame of a kind, `times` times.

        Parameters
        ----------
        api : a name of `API_KEYS`
        way : its request, or the broker's response to it
        after : share of the frame that still passes; 0 is none of it, 1 is all of it
        at_least : spare smaller frames, bytes: a fetch is mostly answered with nothing
        """
        cut = _Cut(API_KEYS[api], way, after, at_least, times)
        self._do(self._set(lambda: setattr(self, "_cut", cut)))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._guard.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    # -- in the thread ---------------------------------------------------------------------

    async def _set(self, change: Callable[[], object]) -> None:
        change()

    async def _forward(self) -> None:
        self._delay_s.update(request=0.0, response=0.0)
        self._bytes_per_s = 0.0
        self._cut = None
        self._held = None
        self._released.set()
        self._flows.set()
        if self._server is None:
            listening = _bound(self.port)
            self._server = await asyncio.start_server(self._accept, sock=listening)

    async def _hold(self, api: int, topic: bytes) -> None:
        self._released.clear()
        self._held = (api, topic)

    async def _refuse(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await asyncio.sleep(0)  # what was taken a moment ago becomes a connection
        await self._cut_all()

    async def _cut_all(self) -> None:
        tasks = set(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Also when the task is cancelled before its first step.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _connect(
        self, client_reads: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        broker: asyncio.StreamWriter | None = None
        asked: deque[int] = deque()  # api keys of the requests not answered: answers keep the order
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._flows.wait()
            broker_reads, broker = await self._open()
            for source, sink, way in (
                (client_reads, broker, WAYS[0]),
                (broker_reads, client, WAYS[1]),
            ):
                frames: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD_FRAMES)
                pumps.append(asyncio.ensure_future(self._read(source, frames, way)))
                pumps.append(asyncio.ensure_future(self._write(frames, sink, way, asked)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the broker is down
        finally:
            # First of all: whatever is awaited in here may be cancelled.
            ends = [end for end in (client, broker) if end is not None]
            for end in ends:
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in ends:
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the broker; one that is cut while it opens is closed, too."""
        opening = asyncio.ensure_future(asyncio.open_connection(HOST, self.upstream))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                _, broker = await opening
                broker.transport.abort()
                await broker.wait_closed()
            raise

    async def _read(
        self, source: asyncio.StreamReader, frames: asyncio.Queue[tuple[float, bytes]], way: Way
    ) -> None:
        """Take frames in, each with the time from which it may pass; ends with the connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await source.readexactly(4)
                frame = head + await source.readexactly(int.from_bytes(head, "big"))
                await frames.put((self._loop.time() + self._delay_s[way], frame))

    async def _write(
        self,
        frames: asyncio.Queue[tuple[float, bytes]],
        sink: asyncio.StreamWriter,
        way: Way,
        asked: deque[int],
    ) -> None:
        """Pass frames on as the network allows; ends by cutting one."""
        sink.transport.set_write_buffer_limits(0)  # `drain` waits until all is with the kernel
        while True:
            due_s, frame = await frames.get()
            await asyncio.sleep(due_s - self._loop.time())
            if way == "request":
                api = int.from_bytes(frame[4:6], "big")
                asked.append(api)
                if self._held is not None and self._held[0] == api and self._held[1] in frame:
                    await self._released.wait()
            else:
                api = asked.popleft() if asked else -1
            cut = self._take_cut(api, way, len(frame))
            passes = len(frame) if cut is None else int(len(frame) * cut.after)
            for at in range(0, passes, _CHUNK):
                chunk = frame[at : min(at + _CHUNK, passes)]
                await self._bandwidth(way, len(chunk))
                await self._flows.wait()
                sink.write(chunk)
                await sink.drain()
            if cut is not None:
                return

    def _take_cut(self, api: int, way: Way, size: int) -> _Cut | None:
        """The cut that this frame is to suffer."""
        cut = self._cut
        if cut is None or (cut.api, cut.way) != (api, way) or size < cut.at_least:
            return None
        cut.times -= 1
        if not cut.times:
            self._cut = None
        self.cuts += 1
        return cut

    async def _bandwidth(self, way: Way, size: int) -> None:
        """Wait for this chunk's turn on the wire."""
        if self._bytes_per_s:
            starts_s = max(self._loop.time(), self._free_s[way])
            self._free_s[way] = starts_s + size / self._bytes_per_s
            await asyncio.sleep(self._free_s[way] - self._loop.time())


def _bound(port: int) -> socket.socket:
    """A socket of 127.0.0.1:`port` that shares it with others of this kind."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((HOST, port))
    return made


class _Proxied(BrokerProcess):
    """A broker with a proxy before it, which ends with it."""

    proxy: Proxy

    @property
    def proxied(self) -> str:
        """Where clients find it behind the proxy: HOST:PORT."""
        return f"{HOST}:{self.proxy.port}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self.proxy.close()


class ProxiedEmbedded(_Proxied, EmbeddedBroker):
    """The embedded broker, all of whose clients come through `proxy`: it tells no other address."""

    def __init__(self, log: Path | None = None) -> None:
        super().__init__(free_port(), log=log)
        self.proxy = Proxy(self.port)

    def _prepare(self) -> list[str]:
        told = "--advertised-listener-url="
        return [
            f"{told}tcp://{self.proxied}" if word.startswith(told) else word
            for word in super()._prepare()
        ]


class ProxiedKafka(_Proxied, ApacheKafka):
    """Apache Kafka with two addresses: `bootstrap`, and `proxied`, which leads through `proxy`.

    The broker tells each client the address by which it came, so all of a client's connections
    take the same way.
    """

    def __init__(self, data: Path, port: int = 0) -> None:
        super().__init__(data, port)
        self.proxy = Proxy(free_port())

    def _configuration(self) -> str:
        # Of a key that stands twice the last value holds.
        names = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT"
        return super()._configuration() + (
            f"\nlistener.security.protocol.map={names}\n"
            f"listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://{HOST}:{self.controller_port},"
            f"PROXIED://{HOST}:{self.proxy.upstream}\n"
            f"advertised.listeners=PLAINTEXT://{self.bootstrap},PROXIED://{self.proxied}\n"
            "inter.broker.listener.name=PLAINTEXT\n"
        )
