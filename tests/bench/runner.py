"""One throughput run of one job: start its process, watch the broker, end it by its pid.

The clock is outside the job and the same for all. It starts when the broker first shows progress
and ends when it shows the last event's; the rate counts the events between the two. Progress is
what the broker has acknowledged: outputs that a reader of committed records can see or, for a job
whose outputs are not one per event or carry transaction markers, the source offsets that it
committed after them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stream.errors import FreshetError
from tests.bench import machine
from tests.bench.stages import Stages, read_stages

_WATCH_EVERY_S = 0.05
_NO_PROGRESS_S = 90.0
_LOG_LINES = 15
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Loaded here and not in the child: between fork and exec nothing may import or take a lock.
_LIBC = ctypes.CDLL(None)


class JobError(FreshetError):
    """A job ended by itself or stood still; the message has the tail of its log."""


@dataclass(frozen=True)
class Measurement:
    """What one run showed: `events` of the `asked` ones lie between the clock's start and end.

    `stages` is what the engine's own histograms hold at the end, the peers have none.
    """

    events: int
    asked: int
    seconds: float
    cpu_s: float
    broker_cpu_s: float
    peak_rss_mib: float
    steal_percent: float
    others_percent: float
    stages: Stages

    @property
    def eps(self) -> float:
        """Events per second."""
        return self.events / self.seconds


def end_with_parent() -> None:
    """Have the kernel kill this new process when the harness ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class JobProcess:
    """A job's process, in a process group of its own so that Ctrl-C reaches the harness alone."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("wb")
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # takes no lock
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise JobError when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise JobError(f"ended by itself with code {code}\n{self.tail()}")

    def tail(self) -> str:
        """Last lines of what it printed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join("    " + line for line in lines[-_LOG_LINES:])

    def end(self, grace_s: float = 8.0) -> None:
        """SIGTERM, and SIGKILL when that was not enough."""
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
            if self._process.poll() is not None:
                break
            os.kill(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
        self._file.close()


@contextlib.contextmanager
def running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[JobProcess]:
    """Run a job's process for the length of a block."""
    process = JobProcess(command, environment, log)
    try:
        yield process
    finally:
        process.end()


def measure(
    process: JobProcess,
    progress: Callable[[], int],
    events: int,
    broker_pid: int | None,
    metrics_url: str | None = None,
) -> Measurement:
    """Watch a job until it has done `events` events.

    Raises
    ------
    JobError
        The process ended, or there was no progress for 90 s.
    """

    pids = [process.pid] + ([broker_pid] if broker_pid else [])
    first = 0
    begun = moved = time.monotonic()
    before = machine.Usage(pids)
    done = 0
    while True:
        process.check()
        seen = progress()
        now = time.monotonic()
        if seen > done:
            moved, done = now, seen
            if not first:
                first, begun, before = seen, now, machine.Usage(pids)
        if done >= events:
            break
        if now - moved > _NO_PROGRESS_S:
            raise JobError(
                f"no progress for {_NO_PROGRESS_S:g} s at {done:,} events\n{process.tail()}"
            )
        time.sleep(_WATCH_EVERY_S)
    after = machine.Usage(pids)
    job, *broker = (now - then for now, then in zip(after.cpu_s, before.cpu_s, strict=True))
    return Measurement(
        events=done - first,
        asked=events,
        seconds=moved - begun,
        cpu_s=job,
        broker_cpu_s=sum(broker),
        peak_rss_mib=machine.peak_rss_mib(process.pid),
        steal_percent=after.steal_percent_since(before),
        others_percent=after.others_percent_since(before),
        stages=read_stages(metrics_url),
    )
