"""The checker is tested too: what each mistake in the engine must look like to it, and no more."""

from __future__ import annotations

import signal
import time

import pytest

from tests.chaos.reference import check
from tests.chaos.shop import PARTITIONS, Shop, Worker
from tests.chaos.test_points import AWAKE_S, REACHED_S, shoppers, wait_for

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

EVENTS = 600
COMMITTED_S = 2.0  # ten times commit_every_s, and less than lists are held up


def sabotaged(shop: Shop, mistake: str, **environment: str) -> Worker:
    return shop.worker("tests.chaos.sabotage", SABOTAGE=mistake, **environment)


def let_work(shop: Shop, worker: Worker) -> None:
    """Let the worker do all there is to do, and stop it."""
    worker.wait_until_ready()
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()


@pytest.mark.parametrize(
    ("mistake", "faults"),
    [
        ("dropped_list", {"unreflected_events"}),
        ("repeated_list", {"backward_lists"}),
        ("altered_letter", {"missing_dead_letters", "false_dead_letters"}),
        ("double_fold", {"wrong_states"}),
    ],
)
def test_a_mistake_in_what_is_made(shop: Shop, mistake: str, faults: set[str]) -> None:
    shop.produce(EVENTS)
    shop.flush()
    let_work(shop, sabotaged(shop, mistake))
    assert set(check(shop).faults) == faults


def test_applied_offsets_in_a_batch_of_their_own(shop: Shop) -> None:
    shop.produce(EVENTS)
    shop.flush()
    worker = sabotaged(shop, "applied_apart", CHAOS_POINT="between")
    assert worker.process.wait(REACHED_S) == -signal.SIGKILL, worker.tail()
    let_work(shop, shop.worker())
    assert set(check(shop).faults) == {"torn_batches", "doubled_events", "wrong_states"}


@pytest.mark.parametrize(
    ("mistake", "faults"),
    [("slow_lists", set()), ("commit_first", {"unreflected_events", "missing_dead_letters"})],
)
def test_a_commit_before_the_acknowledgement(shop: Shop, mistake: str, faults: set[str]) -> None:
    """The worker dies when states are stored and lists are not: both are slow with lists."""
    worker = sabotaged(shop, mistake)
    worker.wait_until_ready()
    shop.produce(EVENTS)
    shop.flush()
    time.sleep(COMMITTED_S)
    committed = sum(shop.committed())
    worker.kill()
    assert (committed > 0) == bool(faults), worker.tail()
    let_work(shop, shop.worker())
    verdict = check(shop)
    assert set(verdict.faults) == faults, verdict.table()
    assert verdict.unreflected_events <= committed, "only what was committed can be lost"


def test_a_fence_left_out(shop: Shop) -> None:
    """A sleeper's batch is taken although another one owns the partition."""
    with shoppers(shop):
        sleeper = sabotaged(
            shop, "no_fence", CHAOS_POINT="turn", CHAOS_AFTER="20", CHAOS_SIGNAL="SIGSTOP"
        )
        wait_for(lambda: "SIGSTOP at turn" in sleeper.tail(), REACHED_S, sleeper)
        heir = sabotaged(shop, "no_fence")
        heir.wait_until_ready()
        wait_for(lambda: heir.owned() == PARTITIONS, REACHED_S, heir)
        time.sleep(1)  # it takes over what the sleeper has in hand
        sleeper.send(signal.SIGCONT)
        wait_for(lambda: sleeper.ready, AWAKE_S, sleeper)
        time.sleep(1)
        sleeper.kill()
    shop.wait_until_done(heir)
    found = set(check(shop).faults)
    assert {"wrong_states", "doubled_events"} <= found
