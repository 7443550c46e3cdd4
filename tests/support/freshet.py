"""`freshet` commands as processes, with topics and a group of one test's own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from kafka import KafkaProducer

from tests.support.process import Process

Running = subprocess.Popen[str] | Process
ROOT = Path(__file__).parents[2]
END_WITHIN_S = 5.0
TOPICS = [
    "clicks",
    "purchases",
    "items",
    "requests",
    "erasures",
    "recommendations",
    "answers",
    "dead_letters",
    "receipts",
    "trending",
]


class Freshet:
    """Starts `freshet` with topics and group of this test's own."""

    def __init__(self, bootstrap: str, unique: str) -> None:
        self.bootstrap = bootstrap
        self.topic = {name: f"{name.replace('_', '-')}-{unique}" for name in TOPICS}
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")},
            **{f"FRESHET_TOPICS_{name.upper()}": topic for name, topic in self.topic.items()},
            "FRESHET_TOPICS_PARTITIONS": "3",
            "FRESHET_BOOTSTRAP": bootstrap,
            "FRESHET_GROUP": f"freshet-{unique}",
            "FRESHET_METRICS_PORT": "0",
            "FRESHET_GATEWAY_PORT": "0",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    @contextlib.contextmanager
    def start(
        self, *arguments: str, environ: Mapping[str, str] | None = None, anew: bool = False
    ) -> Iterator[Running]:
        """Start a command; it is killed at the end if it still runs.

        Parameters
        ----------
        anew : as a shell would, imports and all; in place of forked with everything imported
        """
        environment = {**self.environ, **(environ or {})}
        # Such a worker starts itself again by its command line.
        anew = anew or environment.get("FRESHET_PRIVACY_OVERWRITE_MEMORY") == "true"
        process: Running
        if anew:
            process = subprocess.Popen(
                [sys.executable, "-m", "stream.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                cwd="/",
            )
        else:
            process = Process(("stream.cli", *arguments), environment, folder="/")
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *arguments: str, code: int = 0, anew: bool = False) -> str:
        """Run to the end and return what it printed; its exit code must be `code`."""
        with self.start(*arguments, anew=anew) as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        assert "Traceback" not in err, err
        return out if code == 0 else out + err


@contextlib.contextmanager
def producing(bootstrap: str) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    try:
        yield producer
    finally:
        producer.close(timeout=10)


def wait_for(process: Running, text: str, output: str = "stderr") -> str:
    """Read a process's output until a line holds `text`; return that line."""
    for line in getattr(process, output):
        if text in line:
            return str(line)
    told = "" if output == "stderr" else process.communicate(timeout=10)[1]
    raise AssertionError(f"{text!r} never came; it ended with {process.wait()}\n{told}")


def interrupt(process: Running, number: int = signal.SIGINT) -> str:
    """Send a signal and return the rest of its standard error; it must end cleanly, and in time."""
    started = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=END_WITHIN_S + 5)
    assert time.monotonic() - started < END_WITHIN_S
    assert "Traceback" not in err, err
    return err
