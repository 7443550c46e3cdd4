"""`python -m deploy.local`: the Compose file's processes, started, served by, killed and ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import queries
from deploy.local import COMPOSE
from stream.kafka.broker import HOST, free_port
from tests.support.freshet import ROOT

pytestmark = [pytest.mark.kafka_only, pytest.mark.long, pytest.mark.timeout(300)]

WITHIN_S = 200.0  # a new machine compiles the loops first, in each process


class Local:
    """The script as a process, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.port, self.metrics_port, self.prometheus_port = (free_port() for _ in range(3))
        self.gateway_port = free_port()
        command = [sys.executable, "-m", "deploy.local", "--workers", "2"]
        command += ["--port", str(self.port), "--metrics-port", str(self.metrics_port)]
        command += ["--gateway-port", str(self.gateway_port)]
        command += ["--prometheus-port", str(self.prometheus_port)]
        # Nothing of the caller's settings.
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
        self.process = subprocess.Popen(
            [*command, "--data", str(folder)],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(self.process.stdout)

    def close(self) -> None:
        """Read what is left, and close the pipe."""
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def says(self, text: str) -> None:
        """Wait until a line holds `text`."""
        end = time.monotonic() + WITHIN_S
        while not any(text in line for line in self.said):
            assert self.process.poll() is None, "".join(self.said)
            assert time.monotonic() < end, "".join(self.said)
            time.sleep(0.1)

    def children(self) -> list[int]:
        """Process ids of all that it started."""
        files = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for file in files for pid in file.read_text().split()]

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return [
            pid
            for pid in self.children()
            if b"stream.cli\0worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def ready(self, number: int) -> bool:
        url = f"http://{HOST}:{self.metrics_port + number}/readyz"
        try:
            return bool(urllib.request.urlopen(url, timeout=4).status == 200)
        except OSError:
            return False

    def freshet(self, *arguments: str) -> str:
        """A command beside it, with the Compose file's settings; it must end with 0."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
        environ["FRESHET_CONFIG"] = str(COMPOSE.parent / "freshet.toml")
        environ["FRESHET_BOOTSTRAP"] = f"{HOST}:{self.port}"
        done = subprocess.run(
            [sys.executable, "-m", "stream.cli", *arguments],
            env={**environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def local(broker_kind: str, tmp_path: Path) -> Iterator[Local]:
    local = Local(tmp_path / "data")
    yield local
    for pid in local.children() if local.process.poll() is None else []:
        os.kill(pid, signal.SIGKILL)
    local.process.kill()
    local.process.wait()
    local.close()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_what_the_compose_file_runs_serves_without_containers(local: Local) -> None:
    local.says("ready: Kafka at")
    assert " topics are as a worker needs them" in local.freshet("topics", "check")
    # Both workers serve: a partition of one of them has this user's events.
    sent = local.freshet("send", "click", "--user", "u1", "--item", "85123A", "--wait")
    assert "ms" in sent

    lists = f"http://{HOST}:{local.gateway_port}/v1/users/u1/lists"
    with urllib.request.urlopen(lists, timeout=4) as answer:
        assert b'"home"' in answer.read()

    if shutil.which("prometheus"):
        url = f"http://{HOST}:{local.prometheus_port}"
        groups = queries.ask(url, "rules")["groups"]
        assert {Path(group["file"]) for group in groups} == set(queries.RULES)

    # "unless-stopped": killed, a worker comes back.
    one, other = local.workers()
    os.kill(one, signal.SIGKILL)
    local.says("it starts again")
    end = time.monotonic() + WITHIN_S
    while not (len(local.workers()) == 2 and local.ready(0) and local.ready(1)):
        assert time.monotonic() < end, "".join(local.said)
        time.sleep(0.2)
    assert one not in local.workers()
    assert other in local.workers()

    workers = local.workers()
    local.process.send_signal(signal.SIGTERM)
    assert local.process.wait(WITHIN_S) == 0, "".join(local.said)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
