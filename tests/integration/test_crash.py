"""Workers that die: kill -9, a failing engine, a batch that the changelog cannot take."""

from __future__ import annotations

import random
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess, free_port
from tests.support.seed import SEED
from tests.support.toy import PARTITIONS
from tests.support.toy_run import Load, ToyRun

pytestmark = pytest.mark.kafka_only


@pytest.fixture
def toys(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[ToyRun]:
    run = ToyRun(broker.bootstrap, unique, tmp_path)
    yield run
    run.close()


def test_kills_lose_and_repeat_no_event(toys: ToyRun) -> None:
    load = Load(toys, rate=5_000)
    load.start()
    print(f"SEED={SEED}")
    chance = random.Random(SEED)
    for _ in range(4):
        worker = toys.worker()
        time.sleep(chance.uniform(0.05, 1.5))
        worker.kill()
    worker = toys.worker()
    load.finish()
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_an_exception_of_the_engine_ends_the_worker_and_loses_nothing(toys: ToyRun) -> None:
    toys.produce_many(20_000)
    worker = toys.worker_starting(fail_at=9_000)
    assert worker.wait(40) == 70
    assert "ValueError" in worker.log
    assert "in step" in worker.log, "the traceback is logged"
    assert not re.search(r"user b'[cp]\d", worker.log), "no id may be logged"
    worker = toys.worker()
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_an_engine_that_hangs_is_ended_and_loses_nothing(toys: ToyRun) -> None:
    toys.produce_many(20_000)
    worker = toys.worker_starting(hang_at=9_000, recovery_timeout_s=5)
    assert worker.wait(60) == 70
    assert "no progress for" in worker.log
    worker = toys.worker()
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_a_changelog_batch_that_does_not_fit_is_never_split(toys: ToyRun) -> None:
    config = {"cleanup.policy": "compact", "max.message.bytes": "20000"}
    toys.create(toys.changelog, **config)
    toys.produce_many(5_000)
    worker = toys.worker_starting()
    assert worker.wait(40) == 70
    assert "FRESHET_BATCH_MAX_EVENTS" in worker.log
    worker = toys.worker(max_events=50)
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_a_slow_start_of_the_agent_is_not_a_hang(toys: ToyRun) -> None:
    toys.produce_many(20_000)
    worker = toys.worker(wait_s=8, recovery_timeout_s=3, max_events=100)
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_a_record_larger_than_its_topic_takes_is_named(toys: ToyRun) -> None:
    toys.produce_many(4)
    worker = toys.worker_starting(output_bytes=1_100_000)
    assert worker.wait(40) == 70
    assert f"does not fit into topic {toys.spec.output} (max.message.bytes=1048588)" in worker.log
    worker = toys.worker(output_bytes=900_000)
    toys.wait_until_committed()
    worker.stop()
    toys.check().assert_exact()


def test_a_source_topic_made_anew_is_refused(toys: ToyRun) -> None:
    toys.produce_many(2_000)
    worker = toys.worker()
    toys.wait_until_committed()
    worker.stop()
    toys.delete(*toys.spec.sources)
    toys.create(*toys.spec.sources)
    worker = toys.worker_starting()
    assert worker.wait(40) == 70
    assert "the topic was made anew or lost records" in worker.log


def partitions_shown(port: int) -> set[int]:
    """The partitions that any metric of a worker names, once there is one."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            shown = answer.read().decode()
        if "freshet_state_users{" in shown:
            return set(map(int, re.findall(r'partition="(\d+)"', shown)))
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_rebalance_resumes_from_memory_and_repeats_nothing(toys: ToyRun) -> None:
    load = Load(toys, rate=3_000)
    load.start()
    port = free_port()
    stays = toys.worker(metrics_port=port)
    assert partitions_shown(port) == set(range(PARTITIONS))
    comes = toys.worker()
    time.sleep(3)
    assert 0 < len(partitions_shown(port)) < PARTITIONS
    comes.stop()
    stays.wait_for("resumes from memory")
    time.sleep(1)
    load.finish()
    toys.wait_until_committed()
    stays.stop()
    outcome = toys.check()
    outcome.assert_exact()
    assert outcome.repeated == 0
