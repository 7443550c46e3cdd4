"""What a soak runs on: a broker that throws old data away, topics, a worker; all of them ours.

In: a folder, settings. Out: processes with pids to look at. Knows nothing of load and figures.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
from kafka.admin import ConfigResource, ConfigResourceType

from stream.config import Settings, Topics, load_settings
from stream.demo import sample
from stream.errors import FreshetError
from stream.kafka.admin import open_admin
from stream.kafka.broker import free_port
from stream.kafka.specs import changelog_topic
from stream.kafka.topics import create_topics
from tests.bench.runner import end_with_parent
from tests.support.kafka import ApacheKafka

PARTITIONS = 6
READY_S = 90.0
STOP_S = 15.0

# At 20,000 lists of 3 KB a second an hour is 200 GB: each partition keeps its last few segments.
_SEGMENT_BYTES = 16 << 20
_KEEP_BYTES = 64 << 20
_KEEP = {
    "retention.bytes": str(_KEEP_BYTES),
    "segment.bytes": str(_SEGMENT_BYTES),
    "file.delete.delay.ms": "1000",
}
# What the broker may hold at once: what it keeps, and what comes until it looks again.
DISK_BYTES = 4 << 30


class SoakError(FreshetError):
    """The soak cannot go on; the message says why."""


class SoakBroker(ApacheKafka):
    """Apache Kafka that looks for old segments every ten seconds rather than five minutes."""

    def _configuration(self) -> str:
        return super()._configuration() + "\nlog.retention.check.interval.ms=10000\n"


def make_topics(bootstrap: str, run: str) -> Settings:
    """Create the topics of a run, with little retention; the settings that name them."""
    names = {
        name: f"{name.replace('_', '-')}-{run}"
        for name, value in msgspec.structs.asdict(Topics()).items()
        if isinstance(value, str)
    }
    flags = {f"topics.{name}": topic for name, topic in names.items()}
    flags |= {"bootstrap": bootstrap, "group": f"soak-{run}", "bundle": str(sample.BUNDLE)}
    flags |= {"topics.partitions": str(PARTITIONS), "provider": "cpu"}
    settings = load_settings(None, flags, environ={})
    created = create_topics(settings)
    changelog = changelog_topic(settings)
    with open_admin(bootstrap) as admin:
        for topic in created:
            config = dict(_KEEP)
            if topic in (changelog, settings.topics.items):  # compacted: nothing goes by its age
                del config["retention.bytes"]
            if topic == changelog:
                config["min.cleanable.dirty.ratio"] = "0.3"
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)
            admin.alter_configs([resource])
    return settings


class Worker:
    """A `freshet worker` of its own."""

    def __init__(self, settings: Settings, log: Path, **environment: str) -> None:
        self.port = free_port()
        self.log = log
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
        topics = msgspec.structs.asdict(settings.topics)
        environ |= {f"FRESHET_TOPICS_{name.upper()}": str(value) for name, value in topics.items()}
        environ |= {
            "FRESHET_BOOTSTRAP": settings.bootstrap,
            "FRESHET_GROUP": settings.group,
            "FRESHET_BUNDLE": str(settings.bundle),
            "FRESHET_PROVIDER": settings.provider,
            "FRESHET_METRICS_PORT": str(self.port),
            **environment,
        }
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stream.cli", "worker"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the soak alone
                preexec_fn=end_with_parent,  # noqa: PLW1509  # takes no lock
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def page(self, path: str = "/metrics") -> str:
        """One of its pages; raises OSError where there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            self.check()
            try:
                self.page("/readyz")
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise SoakError(f"the worker is not ready:\n{self.tail()}") from None
                time.sleep(0.1)

    def check(self) -> None:
        if (code := self.process.poll()) is not None:
            raise SoakError(f"the worker ended with code {code}:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that was not enough."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_S)


@contextlib.contextmanager
def running(settings: Settings, log: Path, **environment: str) -> Iterator[Worker]:
    """A worker for the length of a block."""
    worker = Worker(settings, log, **environment)
    try:
        yield worker
    finally:
        worker.stop()
