"""How long reads of the gateway take: `python -m tests.bench.gateway --rate 1000 --seconds 20`.

A process serves the application over a view of many users, into which new lists come meanwhile; no
broker. With `--kafka` it is `freshet gateway` itself, which reads the users' records from Apache
Kafka; a process more produces the new ones. This process asks at Poisson times over connections
that stay open, whether or not earlier answers came, and counts from when a request was due.
`/healthz`, which reads nothing, is the floor. Prints a table and asserts nothing; the figures also
go to build/bench-gateway.json, those with `--kafka` to build/bench-gateway-kafka.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from stream.gateway.app import gateway_app
from stream.gateway.view import View
from stream.kafka.broker import free_port
from tests.bench.machine import Usage, describe_machine
from tests.bench.runner import JobError
from tests.support.freshet import Freshet, producing
from tests.support.gateway import PARTITIONS, FakeProducer, record_of, settings_with
from tests.support.kafka import ApacheKafka
from tests.support.runs import above_zero, check_file, told, whole

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "build" / "bench-gateway.json"
RESULT_KAFKA = ROOT / "build" / "bench-gateway-kafka.json"
LOADED_WITHIN_S = 300.0
ITEMS = 20
CONNECTIONS = 32
WARM_UP_S = 2.0
PATHS = {
    "floor: /healthz": "/healthz",
    "one placement": "/v1/users/u{user}/lists/home",
    "all lists, as published": "/v1/users/u{user}/lists",
}


async def serve(users: int, lists: float) -> None:
    """Serve a view of `users`, `lists` new records a second coming in, until killed."""
    view = View(PARTITIONS)
    view.put(record_of(f"u{user}", ITEMS) for user in range(users))
    view.loaded = True
    runner = web.AppRunner(gateway_app(settings_with(), view, FakeProducer()), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gc.collect()
    gc.freeze()  # as the service does
    print(runner.addresses[0][1], flush=True)
    newer = cycle([record_of(f"u{user}", ITEMS, offset=1) for user in range(min(users, 1000))])
    began_s, put = time.monotonic(), 0
    while True:
        await asyncio.sleep(0.002)
        due = int((time.monotonic() - began_s) * lists)
        view.put(next(newer) for _ in range(due - put))
        put = due


def feed(bootstrap: str, topic: str, users: int, lists: float) -> None:
    """Produce a record of each user, say so, then `lists` new ones a second until killed."""
    with producing(bootstrap) as producer:
        for user in range(users):
            record = record_of(f"u{user}", ITEMS)
            producer.send(topic, record.value, record.key)
        producer.flush()
        print("fed", flush=True)
        newer = cycle([record_of(f"u{user}", ITEMS, offset=1) for user in range(min(users, 1000))])
        began_s, sent = time.monotonic(), 0
        while True:
            time.sleep(0.002)
            due = int((time.monotonic() - began_s) * lists)
            for record in (next(newer) for _ in range(due - sent)):
                producer.send(topic, record.value, record.key)
            sent = due


@contextlib.contextmanager
def fed_by_hand(users: int, lists: float) -> Iterator[tuple[int, list[int]]]:
    """The application over a made-up view: its port, and its process."""
    with child("--serve", "--users", str(users), "--lists", str(lists)) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline()), [server.pid]


@contextlib.contextmanager
def fed_by_kafka(users: int, lists: float) -> Iterator[tuple[int, list[int]]]:
    """`freshet gateway` before Apache Kafka: its port; its process, the feed's, the broker's."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-gateway-"))
        broker = stack.enter_context(ApacheKafka(Path(folder) / "kafka"))
        freshet = Freshet(broker.bootstrap, "bench-gateway")
        freshet.run("topics", "create", anew=True)
        topic, port = freshet.topic["recommendations"], free_port()
        told = ["--feed", broker.bootstrap, topic, "--users", str(users), "--lists", str(lists)]
        feeding = stack.enter_context(child(*told))
        assert feeding.stdout is not None
        assert feeding.stdout.readline() == "fed\n"
        command = ("gateway", "--port", str(port), "--log-level", "error")
        unlimited = {"FRESHET_GATEWAY_RATE": "0"}
        gateway = stack.enter_context(freshet.start(*command, environ=unlimited, anew=True))
        await_users(port, users)
        assert broker.pid is not None
        yield port, [gateway.pid, feeding.pid, broker.pid]


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """This module as another process, killed at the end."""
    command = [sys.executable, "-m", "tests.bench.gateway", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def await_users(port: int, users: int) -> None:
    """Wait until the gateway is ready and holds all users.

    Raises
    ------
    JobError : it does not within `LOADED_WITHIN_S`
    """
    deadline, held = time.monotonic() + LOADED_WITHIN_S, 0
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            url = f"http://127.0.0.1:{port}"
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                found = re.search(r"^freshet_gateway_users (\S+)", answer.read().decode(), re.M)
            held = int(float(found[1])) if found else 0
            if held == users:
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
                return
        time.sleep(0.2)
    raise JobError(f"the gateway holds {held:,} of {users:,} users")


class Connection:
    """One connection that stays open, and asks one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self, path: str) -> int:
        """Bytes of the answer's body."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)
        return length

    def close(self) -> None:
        self._writer.close()


async def measure(port: int, path: str, rate: float, seconds: float, users: int) -> dict[str, Any]:
    """Milliseconds from when a request was due to the end of its answer, warm-up left out."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(Connection(*await asyncio.open_connection("127.0.0.1", port)))
    dice, took_ms, late_ms, sizes = random.Random(1), [], [], []

    async def ask(due_s: float, user: int) -> None:
        connection = await idle.get()
        sizes.append(await connection.get(path.format(user=user)))
        idle.put_nowait(connection)
        if due_s >= began_s + WARM_UP_S:
            took_ms.append(1000 * (time.perf_counter() - due_s))

    began_s = time.perf_counter()
    due_s, asked = began_s, set()
    while due_s < began_s + WARM_UP_S + seconds:
        due_s += dice.expovariate(rate)
        if (wait_s := due_s - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        late_ms.append(1000 * (time.perf_counter() - due_s))
        task = asyncio.create_task(ask(due_s, dice.randrange(users)))
        asked.add(task)
        task.add_done_callback(asked.discard)
    await asyncio.gather(*asked)
    while not idle.empty():
        idle.get_nowait().close()
    p50, p90, p99, p999 = np.percentile(took_ms, [50, 90, 99, 99.9])
    return {
        **{"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "p999_ms": p999, "max_ms": max(took_ms)},
        **{"late_p99_ms": np.percentile(late_ms, 99), "requests": len(took_ms)},
        "body_bytes": int(np.mean(sizes)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each row, print the table; the exit codes of `tests.support.runs`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gateway", description=__doc__)
    parser.add_argument("--rate", type=above_zero, default=1000, help="requests a second")
    parser.add_argument(
        "--seconds", type=above_zero, default=20, help="of each row, after the warm-up"
    )
    parser.add_argument("--users", type=whole(1), default=100_000)
    parser.add_argument(
        "--lists", type=above_zero, default=1000, help="new lists a second meanwhile"
    )
    parser.add_argument("--kafka", action="store_true", help="`freshet gateway` before a broker")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--feed", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve(options.users, options.lists))
    elif options.feed:
        feed(*options.feed, options.users, options.lists)
    else:
        return told(lambda: _run(options))
    return 0


def _run(options: argparse.Namespace) -> int:
    result = RESULT_KAFKA if options.kafka else RESULT
    check_file(result)
    serving = fed_by_kafka if options.kafka else fed_by_hand
    with serving(options.users, options.lists) as (port, pids):
        gc.collect()
        gc.freeze()
        source = "freshet gateway, Apache Kafka" if options.kafka else "no broker"
        print(
            f"{describe_machine()}\n{source}, {options.users:,} users, lists of {ITEMS}; each row"
        )
        print(f"{options.rate:,.0f} requests/s for {options.seconds:g} s beside ", end="")
        print(f"{options.lists:,.0f} new lists/s\n")
        print(f"{'':26}{'p50':>7}{'p90':>7}{'p99':>7}{'p99.9':>7}{'max':>7}{'late p99':>9}", end="")
        print(f"{'bytes':>7}{'CPU %':>6}{'steal %':>8}{'others %':>9}")
        results = {}
        for name, path in PATHS.items():
            before, wall_s = Usage(pids), time.monotonic()
            run = asyncio.run(measure(port, path, options.rate, options.seconds, options.users))
            passed_s = time.monotonic() - wall_s
            after = Usage(pids)
            run["cpu_percent"] = 100 * (after.cpu_s[0] - before.cpu_s[0]) / passed_s
            run["steal_percent"] = after.steal_percent_since(before)
            run["others_percent"] = after.others_percent_since(before)
            results[name] = run
            print(f"{name:26}", end="")
            for part in ("p50", "p90", "p99", "p999", "max"):
                print(f"{run[f'{part}_ms']:7.2f}", end="")
            print(
                f"{run['late_p99_ms']:9.2f}{run['body_bytes']:7}{run['cpu_percent']:6.0f}", end=""
            )
            print(f"{run['steal_percent']:8.1f}{run['others_percent']:9.1f}", flush=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps({"machine": describe_machine(), "rows": results}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
