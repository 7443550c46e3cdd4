"""Weights change while events flow and workers die: states and lists go by the right ones.

A state comes of the weights that were in force when each of its events was folded, so what a worker
does after a take-over hangs on the changelog for what was folded, and on its file for the rest.
"""

from __future__ import annotations

import random
import time

import pytest

from stream.config import load_settings
from stream.revision import revision_of
from stream.settings.weights import Weights
from tests.chaos.check import check
from tests.chaos.faulty import wait_for
from tests.chaos.shop import PARTITIONS, Shop, Shoppers, Worker
from tests.chaos.weighed import InForce
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

RATE = 150
TAKEN_S = 20.0
WEIGHTS = (
    Weights(click=0.9, view=-0.3, half_lives_s=(86_400.0, 60.0)),
    Weights(dislike=0.7, purchase=0.2),
    Weights(like=-2.0, half_lives_s=(3_600.0, 5.0)),
)


class File:
    """The settings file of a shop's workers."""

    def __init__(self, shop: Shop) -> None:
        self._path, self._text = shop.config, shop.config.read_text()

    def put(self, weights: Weights) -> InForce:
        """Have it hold these weights; what is in force then."""
        lines = [f"{name} = {value}" for name, value in weights.event_weights().items()]
        if weights.half_lives_s is not None:
            lines.append(f"half_lives_s = {list(weights.half_lives_s)}")
        new = self._path.with_suffix(".new")
        new.write_text("\n".join([self._text, "[weights]", *lines, ""]))
        new.replace(self._path)
        settings = load_settings(self._path)
        assert settings.weights == weights
        return InForce(revision_of(settings.placements, weights), weights)


def serve(shop: Shop, by: InForce) -> Worker:
    """A new worker, once a list that names these settings was seen."""
    worker = shop.worker()
    worker.wait_until_ready()
    wait_for_lists(shop, by, worker)
    return worker


def wait_for_lists(shop: Shop, by: InForce, worker: Worker) -> None:
    """Wait until a list was seen that names these settings."""
    lists = shop.subscriber.seen.lists
    wait_for(
        lambda: any(
            seen.settings == by.revision for of in list(lists.values()) for seen in list(of)
        ),
        TAKEN_S,
        worker,
    )


def ends(shop: Shop) -> list[int]:
    """Where the lists of each partition end now."""
    topic = shop.settings.topics.recommendations
    return [len(shop.read(topic, partition)) for partition in range(PARTITIONS)]


def named(shop: Shop, since: list[int], until: list[int]) -> set[str | None]:
    """The revisions that lists name between two ends."""
    lists = shop.subscriber.seen.lists
    return {
        seen.settings
        for partition in range(PARTITIONS)
        for seen in lists[partition]
        if since[partition] <= seen.offset < until[partition] and seen.cause is not None
    }


def test_kills_around_changes_of_weights_leave_each_event_the_weights_of_its_moment(
    shop: Shop,
) -> None:
    chance, file = random.Random(SEED), File(shop)
    start = InForce(revision_of(shop.settings.placements), Weights())
    shop.subscribe()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    worker = serve(shop, start)

    live = file.put(WEIGHTS[0])
    wait_for(lambda: f"live settings {live.revision} instead of" in worker.tail(), TAKEN_S, worker)
    wait_for_lists(shop, live, worker)
    worker.kill()
    first_end = ends(shop)

    unseen = file.put(WEIGHTS[1])  # while nobody follows the file
    worker = serve(shop, unseen)
    last = file.put(WEIGHTS[2])
    time.sleep(chance.uniform(0, 1))  # before, while or after it is taken over
    worker.kill()
    second_end = ends(shop)

    worker = serve(shop, last)
    shoppers.finish()
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()

    verdict = check(shop, [start, live, unseen, last])
    print(verdict.table())
    assert verdict.right, verdict.table()
    assert verdict.owners == 3
    assert verdict.repeats > 0
    assert verdict.weighings == 3 * PARTITIONS
    third_end = ends(shop)
    assert named(shop, [0] * PARTITIONS, first_end) == {start.revision, live.revision}
    assert named(shop, first_end, second_end) - {last.revision} == {unseen.revision}
    assert named(shop, second_end, third_end) == {last.revision}
