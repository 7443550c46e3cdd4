"""kill -9 at the worst points of a worker's life, and sleepers that wake at the worst moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream.errors import EXIT_FATAL
from stream.kafka.broker import BrokerProcess
from stream.kafka.specs import changelog_topic
from tests.chaos.check import check
from tests.chaos.faulty import wait_for
from tests.chaos.points import POINTS
from tests.chaos.schedule import MORTAL
from tests.chaos.shop import PARTITIONS, Shop, Shoppers, Worker
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

RATE = 300
REACHED_S = 60.0
AWAKE_S = 20.0


def mortal(shop: Shop, point: str, after: int = 0, number: str = "SIGKILL") -> Worker:
    """A worker that sends itself a signal at a point."""
    return shop.worker(
        "tests.chaos.points", CHAOS_POINT=point, CHAOS_AFTER=str(after), CHAOS_SIGNAL=number
    )


@contextmanager
def shoppers(shop: Shop) -> Iterator[None]:
    """Events all the while."""
    sending = Shoppers(shop, RATE)
    sending.start()
    try:
        yield
    finally:
        sending.finish()


class House:
    """A shop with a worker who outlives the others."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        shop.traffic.fill_catalogue()
        shop.traffic.erases = True
        self.heir = shop.worker()
        self.heir.wait_until_ready()


@pytest.fixture(scope="module")
def house(broker: BrokerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    shop = Shop(broker.bootstrap, "points", tmp_path_factory.mktemp("points"), SEED)
    yield House(shop)
    shop.close()


def test_every_point_is_tried() -> None:
    assert set(POINTS) == {*MORTAL, "turn"}


@pytest.mark.long
@pytest.mark.xdist_group("points")  # one house for all of them
@pytest.mark.parametrize("point", MORTAL)
def test_a_kill_at_the_worst_point_changes_nothing(house: House, point: str) -> None:
    shop, heir = house.shop, house.heir
    with shoppers(shop):
        victim = mortal(shop, point, after=5 if point in ("sent", "acknowledged") else 0)
        if point == "rebalance":
            victim.wait_until_ready()
            guest = shop.worker()
        assert victim.process.wait(REACHED_S) == -signal.SIGKILL, victim.tail()
        if point == "rebalance":
            guest.wait_until_ready()
            assert guest.stop() == 0, guest.tail()
        wait_for(lambda: heir.owned() == PARTITIONS, REACHED_S, heir)
    shop.wait_until_done(heir)
    verdict = check(shop)
    print(verdict.table())
    assert verdict.right, verdict.table()


def test_a_sleeper_with_a_batch_in_hand_is_refused_when_it_wakes(shop: Shop) -> None:
    """The zombie: it was taken for dead, and another one owns its partitions."""
    with shoppers(shop):
        sleeper = mortal(shop, "turn", after=20, number="SIGSTOP")
        wait_for(lambda: "SIGSTOP at turn" in sleeper.tail(), REACHED_S, sleeper)
        heir = shop.worker()
        heir.wait_until_ready()
        wait_for(lambda: heir.owned() == PARTITIONS, REACHED_S, heir)
        time.sleep(0.5)  # it writes under its new epoch
        sleeper.send(signal.SIGCONT)
        assert sleeper.process.wait(AWAKE_S) == EXIT_FATAL, sleeper.tail()
        assert "another worker took the partition over" in sleeper.tail()
    shop.wait_until_done(heir)
    verdict = check(shop)
    assert verdict.right, verdict.table()
    assert verdict.owners > 1


def test_a_sleeper_that_writes_between_its_heirs_replay_and_fence_is_heeded(shop: Shop) -> None:
    """What an older owner writes before the fence is valid; the heir goes on from there."""

    def written() -> int:
        shop.logs.find()
        topic = changelog_topic(shop.settings)
        return sum(len(list(shop.logs.batches(topic, at))) for at in range(PARTITIONS))

    with shoppers(shop):
        sleeper = mortal(shop, "turn", after=20, number="SIGSTOP")
        wait_for(lambda: "SIGSTOP at turn" in sleeper.tail(), REACHED_S, sleeper)
    before = written()
    heir = mortal(shop, "claim", number="SIGSTOP")
    wait_for(lambda: "SIGSTOP at claim" in heir.tail(), REACHED_S, heir)
    sleeper.send(signal.SIGCONT)
    wait_for(lambda: written() > before, AWAKE_S, sleeper)
    sleeper.kill()
    heir.send(signal.SIGCONT)
    shop.wait_until_done(heir)
    verdict = check(shop)
    assert verdict.right, verdict.table()
