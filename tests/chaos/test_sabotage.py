"""The checker is tested too: what each mistake in the engine must look like to it, and no more."""

from __future__ import annotations

import signal
import time

import pytest

from tests.chaos.check import check
from tests.chaos.faulty import wait_for
from tests.chaos.shop import PARTITIONS, Shop, Worker
from tests.chaos.test_points import AWAKE_S, REACHED_S, shoppers

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

EVENTS = 600
ERASED = 20
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
    # Purchases may have come first, of which no list's counts hear.
    assert set(check(shop).faults) - {"wrong_segments"} == {
        "torn_batches",
        "doubled_events",
        "wrong_states",
        "wrong_counts",
    }


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


def erase_some(shop: Shop) -> int:
    """Events of everybody, and erasures of a few users; answers up to which time."""
    until_ms = int(time.time() * 1000)
    shop.produce(EVENTS)
    for number in range(ERASED):
        shop.traffic.view(f"e{number}", until_ms - 2_000)
        shop.traffic.erase(f"e{number}", until_ms, times=1 + number % 2)
    shop.flush()
    return until_ms


@pytest.mark.parametrize(
    ("mistake", "faults"),
    [
        ("slow_lists", set()),
        ("dropped_user", {"dropped_users"}),
        ("kept_list", {"kept_lists"}),
        ("no_receipt", {"missing_receipts", "kept_erasures"}),
    ],
)
def test_a_mistake_with_erasures(shop: Shop, mistake: str, faults: set[str]) -> None:
    erase_some(shop)
    let_work(shop, sabotaged(shop, mistake))
    verdict = check(shop)
    assert set(verdict.faults) == faults, verdict.table()
    assert verdict.erasures == ERASED + ERASED // 2


@pytest.mark.parametrize(
    ("mistake", "faults"),
    [
        ("slow_lists", set()),
        (
            "lost_mark",
            {"wrong_marks", "wrong_states", "wrong_counts", "doubled_events", "kept_lists"},
        ),
    ],
)
def test_an_old_event_after_a_restart(shop: Shop, mistake: str, faults: set[str]) -> None:
    """It brings nobody back, unless the mark was lost."""
    until_ms = erase_some(shop)
    let_work(shop, sabotaged(shop, mistake))
    for number in range(ERASED):
        shop.traffic.view(f"e{number}", until_ms)
    shop.flush()
    let_work(shop, shop.worker())
    verdict = check(shop)
    assert set(verdict.faults) == faults, verdict.table()


def test_a_receipt_before_the_erasure_is_acknowledged(shop: Shop) -> None:
    """The worker dies between the two: another one has to erase, and sends its own.

    The first one's hashes are by a salt that nobody else ever saw.
    """
    erase_some(shop)
    worker = sabotaged(shop, "early_receipt", CHAOS_POINT="between")
    assert worker.process.wait(REACHED_S) == -signal.SIGKILL, worker.tail()
    let_work(shop, shop.worker())
    verdict = check(shop)
    assert set(verdict.faults) == {"early_receipts", "false_receipts"}, verdict.table()


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
    # What the sleeper wrote over is wrong until its users' next events are folded by the heir.
    assert "doubled_events" in check(shop).faults
