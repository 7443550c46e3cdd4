"""A commit before the acknowledgement loses lists, and the checker says so.

A worker is killed while the states of some batches are stored and their lists are not: the broker
that leads the lists' topic is dead, the one with the changelog and the offsets is well. The engine
has not committed these batches and publishes their lists again; with the commit moved to the front
they are lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.reference import APPLIED_KEY, Verdict, check
from tests.chaos.shop import PARTITIONS, Shop
from tests.chaos.two_brokers import SecondBroker, move, wait_for_leaders
from tests.support.brokers import remove_data
from tests.support.kafka import ApacheKafka

pytestmark = [
    pytest.mark.kafka_only,
    pytest.mark.timeout(180),
    pytest.mark.long,
    pytest.mark.xdist_group("two_brokers"),  # both tests in one process share them
]

EVENTS = 400
STORED_S = 30.0
COMMITTED_S = 3.0  # fifteen times commit_every_s


@pytest.fixture(scope="module")
def second(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondBroker]:
    """Two brokers for this module; the tests take the second one down."""
    folders = [tmp_path_factory.mktemp(f"{broker_kind}{number}") for number in (1, 2)]
    try:
        with (
            ApacheKafka(folders[0] / "kafka", short_lived=True) as first,
            SecondBroker(folders[1] / "kafka", first) as second,
        ):
            yield second
    finally:
        for folder in folders:
            remove_data(folder)


@pytest.fixture
def shop(second: SecondBroker, unique: str, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose lists' topic is on the second broker, and all others on the first."""
    second.start()  # a test that failed may have left it down
    shop = Shop(second.first.bootstrap, unique, tmp_path, seed=20261122)
    shop.committed()  # the first question makes the topic of the offsets
    move(shop.settings.bootstrap, shop.settings.topics.recommendations)
    yield shop
    shop.close()


def kill_without_acknowledgement(shop: Shop, second: SecondBroker, module: str) -> int:
    """Kill a worker whose lists were not stored, then let a right one run to the end.

    Returns
    -------
    How many records had been committed when it was killed.
    """
    worker = shop.worker(module)
    worker.wait_until_ready()
    second.kill()
    shop.produce(EVENTS)
    shop.flush()
    assert within(STORED_S, lambda: states_are_stored(shop)), worker.tail()
    within(COMMITTED_S, lambda: sum(shop.committed()) == EVENTS)
    committed = sum(shop.committed())
    assert worker.process.poll() is None, worker.tail()
    worker.kill()
    second.start()
    wait_for_leaders(shop.settings.bootstrap, shop.settings.topics.recommendations)
    worker = shop.worker()
    worker.wait_until_ready()
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()
    return committed


def within(timeout_s: float, condition: Callable[[], bool]) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return met


def states_are_stored(shop: Shop) -> bool:
    """Whether the changelog of some partition has states in it."""
    return any(
        any(json.loads(record.value())["next"].values())
        for partition in range(PARTITIONS)
        for record in shop.read(f"{shop.settings.group}-interests-changelog", partition)
        if record.key() == APPLIED_KEY
    )


def verdict_of(shop: Shop, committed: int) -> Verdict:
    verdict = check(shop)
    print(f"{committed} records committed at the kill: {verdict}")
    return verdict


def test_the_checker_sees_a_commit_before_the_acknowledgement(
    shop: Shop, second: SecondBroker
) -> None:
    committed = kill_without_acknowledgement(shop, second, "tests.chaos.commit_first")
    assert committed > 0
    verdict = verdict_of(shop, committed)
    assert 0 < verdict.unreflected_events <= committed, "only what was committed can be lost"
    assert verdict.wrong_states == 0, "states and applied offsets stand in one record batch"


def test_a_commit_after_the_acknowledgement_loses_nothing(shop: Shop, second: SecondBroker) -> None:
    committed = kill_without_acknowledgement(shop, second, "stream.cli")
    assert committed == 0, "not one list was acknowledged"
    verdict = verdict_of(shop, committed)
    assert verdict.right, verdict
