"""What ends a worker that hangs: undertakings that do not move, a loop that does not beat."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from stream.errors import EXIT_FATAL, StateError, TopicError
from stream.kafka.batches import RecordBatch
from stream.kafka.liveness import JOINING, TAKING_OVER, Undertakings
from stream.kafka.positions import Continuity, refuse_unknown
from tests.support.kafka import ROOT

LIMIT_S = 60


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        self.undertakings = Undertakings()

    def look(self, seconds: float) -> str | None:
        """Look once a second for so long; the last answer."""
        said = None
        for _ in range(int(seconds)):
            self.now_s += 1
            said = self.undertakings.stuck(LIMIT_S)
        return said


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_an_undertaking_that_does_not_move_is_told(clock: Clock) -> None:
    assert clock.look(100) is None
    clock.undertakings.begin(TAKING_OVER)
    assert clock.look(60) is None
    assert clock.look(2) == f"no progress for 61 s: {TAKING_OVER}"


def test_what_moves_may_take_any_time(clock: Clock) -> None:
    clock.undertakings.begin(TAKING_OVER)
    for _ in range(10):
        assert clock.look(50) is None
        clock.undertakings.moved(TAKING_OVER)
    clock.undertakings.end(TAKING_OVER)
    clock.undertakings.moved(TAKING_OVER)
    assert TAKING_OVER not in clock.undertakings
    assert clock.look(100) is None


def test_some_may_take_longer_and_begin_anew(clock: Clock) -> None:
    clock.undertakings.begin(JOINING, times=2)
    assert clock.look(100) is None
    clock.undertakings.begin(JOINING, times=2)
    assert clock.look(100) is None
    assert clock.look(25) is not None


def test_a_process_that_was_stopped_gets_its_chance(clock: Clock) -> None:
    clock.undertakings.begin(TAKING_OVER)
    clock.look(30)
    clock.now_s += 1000  # SIGSTOP, then SIGCONT
    assert clock.undertakings.stuck(LIMIT_S) is None
    assert clock.look(30) is not None


SCRIPT = """
import asyncio, ctypes, logging, os, signal, sys, threading, time
from stream.kafka import watchdog

watchdog.TELL_WITHIN_S = 0.5
logging.basicConfig(format="%(message)s")

def stand_still():
    {fault}

async def main():
    dog = watchdog.LoopWatchdog(0.5)
    dog.start()
    for _ in range(40):
        dog.beat()
        await asyncio.sleep(0.025)
    stand_still()

class Blocked(logging.Handler):
    def emit(self, record):
        time.sleep(1000)

asyncio.run(main())
print("ended by itself")
"""


def run(fault: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(fault=fault)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_loop_that_beats_is_left_alone() -> None:
    done = run("pass")
    assert (done.returncode, done.stdout) == (0, "ended by itself\n"), done.stderr


def test_a_loop_that_stands_still_ends_the_process_and_says_where() -> None:
    done = run("time.sleep(1000)")
    assert done.returncode == EXIT_FATAL, done.stderr
    assert "fatal: the event loop stood still for 0.5 s" in done.stderr
    assert "in stand_still" in done.stderr


def test_a_log_that_takes_nothing_is_no_reason_to_stay() -> None:
    done = run("logging.getLogger().addHandler(Blocked()); logging.warning('x')")
    assert done.returncode == EXIT_FATAL, done.stderr


def test_compiled_code_that_keeps_the_interpreters_lock_ends_the_process_too() -> None:
    done = run("ctypes.PyDLL(None).sleep(1000)")
    assert done.returncode == 1
    assert "in stand_still" in done.stderr


def test_a_stopped_process_goes_on_when_it_wakes() -> None:
    fault = (
        "import subprocess; "
        "subprocess.Popen(['sh', '-c', 'sleep 0.7; kill -CONT %d' % os.getpid()]); "
        "os.kill(os.getpid(), signal.SIGSTOP)"
    )
    done = run(fault)
    assert (done.returncode, done.stdout) == (0, "ended by itself\n"), done.stderr


# -- positions -----------------------------------------------------------------------------

CLICKS = TopicPartition("clicks", 1)


class Log:
    """A reader that knows where its partitions begin."""

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest

    async def beginnings(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, self.oldest)


def batch(first: int, count: int) -> RecordBatch:
    offsets = list(range(first, first + count))
    nothing: list[bytes | None] = [None] * count
    return RecordBatch(*CLICKS, first, first + count, nothing, nothing, offsets, [0] * count)


def read(continuity: Continuity, log: Log, *batches: RecordBatch) -> None:
    for one in batches:
        asyncio.run(continuity.check(log, {CLICKS: one}))


def test_batches_that_follow_each_other_are_well(caplog: pytest.LogCaptureFixture) -> None:
    continuity = Continuity()
    continuity.start_at({CLICKS: 5})
    read(continuity, Log(0), batch(5, 3), batch(8, 1))
    continuity.start_at({CLICKS: None})
    read(continuity, Log(0), batch(2, 3), batch(5, 1))
    read(continuity, Log(0), batch(9, 1))  # compacted
    assert not caplog.records


def test_a_partition_that_begins_again_is_refused() -> None:
    continuity = Continuity()
    continuity.start_at({CLICKS: 5})
    read(continuity, Log(0), batch(5, 3))
    with pytest.raises(StateError, match="was read up to offset 8 and begins with 0 again"):
        read(continuity, Log(0), batch(0, 3))


def test_what_retention_took_is_told(caplog: pytest.LogCaptureFixture) -> None:
    continuity = Continuity()
    continuity.start_at({CLICKS: 5})
    with caplog.at_level(logging.ERROR):
        read(continuity, Log(25), batch(30, 2))
    assert "20 records of clicks, partition 1, were deleted" in caplog.text


def test_a_partition_that_was_added_is_refused() -> None:
    refuse_unknown({TP("clicks", 0), TP("clicks", 3)}, wanted=4)
    with pytest.raises(TopicError, match="topic clicks got more partitions"):
        refuse_unknown({TP("clicks", 4)}, wanted=4)
