"""Events in, states and lists out, on a real broker, with a toy engine."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.support.toy_run import Load, ToyRun


@pytest.fixture
def toys(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[ToyRun]:
    run = ToyRun(broker.bootstrap, unique, tmp_path)
    yield run
    run.close()


def test_every_event_is_folded_once_and_listed(toys: ToyRun) -> None:
    toys.produce_many(20_000)
    worker = toys.worker()
    toys.wait_until_committed()
    assert worker.stop() < 5
    outcome = toys.check()
    outcome.assert_exact()
    assert outcome.repeated == 0


def test_an_orderly_restart_repeats_nothing(toys: ToyRun) -> None:
    load = Load(toys, rate=2_000)
    load.start()
    worker = toys.worker()
    worker.send(signal.SIGINT)
    assert worker.wait(15) == 0
    assert "Traceback" not in worker.log
    worker = toys.worker()
    load.finish()
    toys.wait_until_committed()
    worker.stop()
    outcome = toys.check()
    outcome.assert_exact()
    assert outcome.repeated == 0


def test_nothing_is_left_in_the_working_directory(toys: ToyRun) -> None:
    from tests.support.toy_run import ROOT

    before = set(ROOT.iterdir())
    toys.worker().stop()
    assert {path.name for path in set(ROOT.iterdir()) - before} <= {"__pycache__"}


def test_outputs_larger_than_a_record_batch_are_cut(toys: ToyRun) -> None:
    toys.produce_many(10_000)
    worker = toys.worker(output_bytes=2_000)
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


@pytest.mark.kafka_only
def test_a_session_timeout_that_the_broker_refuses_ends_the_worker(
    toys: ToyRun,
) -> None:
    worker = toys.worker_starting(session_timeout_s=0.01)
    assert worker.wait(30) == 70
    assert "the consumer group cannot go on" in worker.log
