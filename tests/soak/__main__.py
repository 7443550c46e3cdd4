"""`python -m tests.soak`: the engine under a steady load for as long as asked, and what grows.

Starts Apache Kafka and a worker, finds out how many events a second this machine takes with broker,
worker and load on the same cores, then runs at a share of that. Ctrl-C ends it early with the table
so far. Exit code 0: nothing grows; 1: something does, or the soak cannot go on; 2: a wrong option,
or a place that cannot be written; 3: something may; 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from stream.config import Settings
from stream.errors import FreshetError
from tests.bench import machine
from tests.bench.runner import end_with_parent
from tests.soak import report
from tests.soak.samples import Sample, Seen, look
from tests.soak.shop import (
    DISK_BYTES,
    PARTITIONS,
    SoakBroker,
    SoakError,
    Worker,
    make_topics,
    running,
)
from tests.soak.traffic import Load
from tests.support import runs
from tests.support.kafka import BUILD

_SPEED_UP_S = 5.0  # at the peak before it is measured
_EMPTY_S = 60.0
_HEAD_EACH = 20
_WARM_UP_S = 30.0  # and until the users' rings are full, twice over
_STAY_S = 15.0  # of the worker that comes and goes


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="after the peak (default 10)")
    parser.add_argument("--share", type=float, default=0.7, help="of the peak (default 0.7)")
    parser.add_argument("--rate", type=float, help="events/s; default: a share of the peak")
    parser.add_argument("--peak-seconds", type=float, default=20.0, help="to measure it")
    parser.add_argument("--every", type=float, default=10.0, help="seconds a line (default 10)")
    parser.add_argument(
        "--warm-up",
        type=float,
        help="seconds left out of the slopes; default: until all rings are full",
    )
    parser.add_argument("--users", type=int, default=5_000, help="a fixed number of them")
    parser.add_argument(
        "--rebalance-minutes", type=float, help="how often a second worker comes and goes"
    )
    parser.add_argument(
        "--bootstrap", type=runs.bootstrap, help="a running Apache Kafka; default: start one"
    )
    parser.add_argument("--out", type=Path, default=BUILD.parent / "soak.json")
    options = parser.parse_args(arguments)
    names = ("minutes", "rate", "peak_seconds", "every", "warm_up", "users", "rebalance_minutes")
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:  # nan is neither
            parser.error(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    if not 0 < options.share <= 1:
        parser.error("--share must be above 0 and at most 1")
    return options


@contextlib.contextmanager
def _broker(bootstrap: str | None, folder: Path) -> Iterator[tuple[str, int | None]]:
    if bootstrap:
        yield bootstrap, None
    else:
        free = shutil.disk_usage(folder).free
        if free < 2 * DISK_BYTES:
            raise SoakError(
                f"{folder} has {free >> 30} GiB left; the broker needs {2 * DISK_BYTES >> 30}. "
                f"Make room, or name another place (TMPDIR)"
            )
        print("starting Apache Kafka ...", flush=True)
        with SoakBroker(folder / "kafka") as broker:
            yield broker.bootstrap, broker.pid


class Traffic:
    """The load's process: told what to send, it answers with what it saw."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.traffic", msgspec.json.encode(load).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509  # takes no lock
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def see(self) -> Seen:
        """The next interval; waits for its end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SoakError(f"the load ended with code {self._process.wait()}")
        return msgspec.json.decode(line, type=Seen)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.tell("stop")
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextlib.contextmanager
def _sending(load: Load) -> Iterator[Traffic]:
    traffic = Traffic(load)
    try:
        yield traffic
    finally:
        traffic.stop()


def _peak(traffic: Traffic, seconds: float, every_s: float) -> float:
    """Events a second when a few thousand are always under way."""
    traffic.tell("peak")
    for _ in range(max(1, round(min(_SPEED_UP_S, seconds) / every_s))):
        traffic.see()
    seen = [traffic.see() for _ in range(max(1, round(seconds / every_s)))]
    traffic.tell("rate 0")
    deadline = time.monotonic() + _EMPTY_S
    while traffic.see().waiting:
        if time.monotonic() > deadline:
            raise SoakError(f"clicks wait for their lists {_EMPTY_S:g} s after the last one")
    return sum(one.sent for one in seen) / sum(one.seconds for one in seen)


class Guest(threading.Thread):
    """A second worker that comes and goes, so that partitions change hands."""

    def __init__(self, settings: Settings, log: Path, every_s: float) -> None:
        super().__init__(daemon=True)
        self._settings, self._log, self._every_s = settings, log, every_s
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            with contextlib.suppress(FreshetError), running(self._settings, self._log) as worker:
                worker.wait_until_ready()
                self._ended.wait(_STAY_S)

    def finish(self) -> None:
        self._ended.set()
        self.join()


@contextlib.contextmanager
def _guest(settings: Settings, folder: Path, minutes: float | None) -> Iterator[None]:
    if not minutes:
        yield
        return
    guest = Guest(settings, folder / "guest.log", minutes * 60)
    guest.start()
    try:
        yield
    finally:
        guest.finish()


class Run:
    """One soak and what it has found so far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._warm_up_s = options.warm_up or 0.0
        self._samples: list[Sample] = []
        self._peak = self._rate = 0.0

    def run(self) -> None:
        options = self._options
        print(machine.describe_machine(), flush=True)
        with _broker(options.bootstrap, self._folder) as (bootstrap, broker_pid):
            settings = make_topics(bootstrap, uuid.uuid4().hex[:8])
            topics = settings.topics
            load = Load(
                bootstrap=bootstrap,
                clicks=topics.clicks,
                purchases=topics.purchases,
                items=topics.items,
                lists=topics.recommendations,
                partitions=PARTITIONS,
                users=options.users,
                every_s=min(options.every, 1.0),
            )
            with running(settings, self._folder / "worker.log") as worker:
                worker.wait_until_ready()
                self._rate = options.rate or 0.0
                if not self._rate:
                    print("measuring the peak ...", flush=True)
                    with _sending(load) as traffic:
                        self._peak = _peak(traffic, options.peak_seconds, load.every_s)
                    self._rate = options.share * self._peak
                    print(f"peak: {self._peak:,.0f} events/s, all on this machine", flush=True)
            if not options.warm_up:
                self._warm_up_s = _WARM_UP_S + 2 * options.users * settings.state.ring / self._rate
            # A worker and a load of their own: nothing of the peak is in what is looked at.
            settings = make_topics(bootstrap, uuid.uuid4().hex[:8])
            topics = settings.topics
            load = msgspec.structs.replace(
                load,
                clicks=topics.clicks,
                purchases=topics.purchases,
                items=topics.items,
                lists=topics.recommendations,
                every_s=options.every,
            )
            with (
                running(settings, self._folder / "worker.log") as worker,
                _guest(settings, self._folder, options.rebalance_minutes),
            ):
                worker.wait_until_ready()
                with _sending(load) as traffic:
                    self._soak(traffic, worker, broker_pid)

    def _soak(self, traffic: Traffic, worker: Worker, broker_pid: int | None) -> None:
        print(
            f"{self._rate:,.0f} events/s for {self._options.minutes:g} minutes, "
            f"the first {self._warm_up_s:.0f} s to warm up",
            flush=True,
        )
        traffic.tell(f"rate {self._rate}")
        traffic.see()  # the catalogue, and half an interval of the rest
        begun = time.monotonic()
        while (at_s := time.monotonic() - begun) < self._options.minutes * 60:
            if len(self._samples) % _HEAD_EACH == 0:
                print(report.head(), flush=True)
            seen = traffic.see()
            worker.check()
            free = shutil.disk_usage(self._folder).free
            at_s = time.monotonic() - begun
            self._samples.append(look(at_s, seen, worker, broker_pid, free))
            print(report.line(self._samples[-1]), flush=True)
            if free < DISK_BYTES // 2:
                raise SoakError(f"only {free >> 20} MiB are left on the disk")

    def conclude_early(self) -> None:
        """The same of what there is; a run that saw nothing leaves an older one's results."""
        if self._samples:
            self.conclude(interrupted=True)

    def conclude(self, interrupted: bool) -> str:
        """Print what was found, write it down; the verdict."""
        trends, verdict = report.judge(self._samples, self._warm_up_s)
        if self._samples:
            print(f"\n{report.table(self._samples)}\n")
            for trend in trends:
                print(report.words(trend))
            print(f"after a warm-up of {self._warm_up_s:.0f} s. {verdict}")
        soak = report.Soak(
            machine=machine.describe_machine(),
            peak_events_s=self._peak,
            share=self._options.share,
            rate_events_s=self._rate,
            warm_up_s=self._warm_up_s,
            interrupted=interrupted,
            samples=self._samples,
            trends=trends,
            verdict=verdict,
        )
        report.write_json(self._options.out, soak)
        print(f"written to {self._options.out}", flush=True)
        return verdict


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; `report.exit_code`, or when it ends early one of `tests.support.runs`."""
    options = _arguments(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return runs.told(lambda: _soak(options))


def _soak(options: argparse.Namespace) -> int:
    runs.check_file(options.out)
    with tempfile.TemporaryDirectory(prefix="freshet-soak-") as folder:
        run = Run(options, Path(folder))
        try:
            run.run()
        except (KeyboardInterrupt, FreshetError):
            run.conclude_early()
            raise
        return report.exit_code(run.conclude(interrupted=False))


if __name__ == "__main__":
    raise SystemExit(main())
