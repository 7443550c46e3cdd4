"""What came of lists, counted by an engine: with its states, over replays, among workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import item_hash
from stream.core.bundle import Bundle
from stream.core.keys import of_segments
from stream.core.policy.payoffs import Payoffs
from stream.core.state import UserShard
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import Merged
from stream.core.statistics.segments import (
    Row,
)
from stream.placements import Explore
from tests.support.bundles import counts_key_in, random_decay_bundle
from tests.support.engine import NOW_MS, Shop
from tests.support.parts import Part

HOME = Placement(k=5, explore=Explore(temperature=0.5))
SEEN = {"item_id": "i3", "type": "impression", "placement": "home"}
CLICKED = {**SEEN, "type": "click"}


class Worker(Shop):
    """A shop with what it wrote to the changelog, and what it knows of others."""

    def __init__(self, bundle: Bundle, partition: int = 0) -> None:
        self.merged = Merged(Fading())
        super().__init__(bundle, counts=self.merged, home=HOME)
        self.partition = partition
        self.shard.counts = Counts(tell_every_ms=0)
        self.log: dict[bytes, bytes | None] = {}
        self.clock_ms = NOW_MS
        self.key = counts_key_in(bundle.manifest, "home", HOME.explore)

    def did(self, *events: dict[str, Any], applied: int = 0) -> None:
        self.log.update(zip(*self.step(*events, applied=applied).changelog, strict=True))

    def take_over(self) -> None:
        """A worker that has the changelog alone."""
        self.shard = self.engine.new_shard(self.partition, 1)
        self.shard.counts = Counts(tell_every_ms=0)
        self.shard.load(list(self.log), list(self.log.values()))

    def tell(self, *others: Worker) -> None:
        self.clock_ms += 1_000_000
        told = self.shard.untold(self.clock_ms)
        if told is not None:
            for other in (self, *others):
                other.merged.load(self.partition, *told)

    @property
    def row(self) -> Row:
        return self.shard.segments.rows[self.key]

    @property
    def payoffs(self) -> Payoffs:
        explorer = self.engine.answers.lists._explorers["home"]
        explorer._follow_payoffs()
        return explorer.payoffs


@pytest.fixture
def worker(decay_bundle: Bundle) -> Worker:
    return Worker(decay_bundle)


def test_what_came_of_lists_stands_in_the_changelog_with_the_states(worker: Worker) -> None:
    worker.did(*[{**SEEN, "user_id": f"u{n}"} for n in range(20)], {**CLICKED, "user_id": "u3"})
    assert Row.of(worker.log[worker.key] or b"").counts.sum(axis=(1, 2)).tolist() == [20, 1]
    worker.did({"item_id": "i3"}, {**CLICKED, "placement": "mail"}, {**SEEN, "type": "like"})
    worker.did({**SEEN, "type": "purchase"})
    assert worker.row.counts.sum() == 21
    before = worker.row.value
    worker.take_over()
    assert worker.row.value == before
    worker.did({**CLICKED, "user_id": "u5"})
    assert worker.row.counts.sum(axis=(1, 2)).tolist() == [20, 2]


def test_neither_a_replay_nor_a_repeat_counts_twice(worker: Worker) -> None:
    first = worker.offset
    once = [{**SEEN, "user_id": f"u{n}", "event_id": f"e{n}"} for n in range(5)]
    clicked = {**CLICKED, "event_id": "c"}
    worker.did(*once, clicked)
    before, log = worker.row.value, dict(worker.log)
    worker.take_over()
    worker.offset = first
    worker.did(*once, clicked, applied=first + 6)
    assert worker.row.value == before
    assert worker.log[worker.key] == log[worker.key]
    worker.did(clicked)  # sent twice by the shop
    assert worker.row.value == before
    worker.offset = first + 6
    worker.did(clicked, {**CLICKED, "user_id": "u2"}, applied=first + 7)
    assert worker.row.counts[1].sum() == 2, "and what was not applied yet counts"


def test_partitions_of_a_step_count_apart(worker: Worker) -> None:
    shards = [worker.engine.new_shard(number, 2) for number in range(2)]
    batches = [
        worker.batch(*[{**SEEN, "user_id": f"{n} {m}"} for m in range(n + 2)]) for n in range(2)
    ]
    parts = [Part(shard, batch) for shard, batch in zip(shards, batches, strict=True)]
    worker.engine.step(parts, NOW_MS)
    found = [shard.segments.rows[worker.key].counts.sum() for shard in shards]
    assert found == [2, 3]


def test_an_event_that_is_dated_ahead_fades_nothing_before_it_is_due(worker: Worker) -> None:
    worker.did(SEEN, {**SEEN, "event_time_ms": NOW_MS + 3_600_000})
    assert (worker.row.time_ms, worker.row.counts.sum()) == (NOW_MS, 2)


def test_users_are_shared_out_by_what_all_workers_counted(decay_bundle: Bundle) -> None:
    """Clicks of one partition's users change what users of the other get; a restart loses none."""
    here, there = Worker(decay_bundle, 0), Worker(decay_bundle, 1)
    before = there.payoffs.shares.copy()
    users = [f"u{number}" for number in range(200)]
    here.did(*[{**SEEN, "user_id": user} for user in users for _ in range(10)])
    here.did(*[{**CLICKED, "user_id": user} for user in users if item_hash(user) % 3 == 0])
    there.did({**SEEN, "user_id": "v"})
    assert not there.payoffs.impressions.any(), "nobody told"
    here.tell(there)
    there.tell(here)
    assert there.payoffs.impressions.sum() == here.payoffs.impressions.sum() == 2001
    np.testing.assert_array_equal(there.payoffs.shares, here.payoffs.shares)
    assert np.abs(there.payoffs.shares - before).max() > 0.05
    again = Worker(decay_bundle, 0)
    again.log = here.log
    again.take_over()
    again.tell(there)
    assert again.payoffs.impressions.sum() == 2000
    assert there.payoffs.impressions.sum() == 2001, "told a second time, and counted once"


def test_a_changelog_from_before_has_no_counts_of_lists(worker: Worker) -> None:
    worker.did(SEEN)
    old = {key: value for key, value in worker.log.items() if not of_segments(key)}
    shard = UserShard(worker.engine.layout)
    shard.load(list(old), list(old.values()))
    assert (len(shard), len(shard.counts), len(shard.segments)) == (1, 1, 0)


def test_who_does_not_learn_writes_nothing(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(explore=Explore(temperature=0.5, learn=False)))
    assert not any(map(of_segments, shop.step(SEEN, CLICKED).changelog[0]))


@pytest.mark.parametrize("now", [Placement(explore=Explore(0.5, learn=False)), Placement()])
def test_what_was_learnt_goes_once_nobody_learns(worker: Worker, now: Placement) -> None:
    half_life_ms = round(1000 * HOME.explore.half_life_s)
    first_ms = NOW_MS - 5 * half_life_ms
    worker.did({**SEEN, "event_time_ms": first_ms})
    worker.tell()
    lists = worker.engine.answers.lists
    lists.adopt(lists.change_to({"home": now}))
    worker.did({"item_id": "i3", "event_time_ms": first_ms + 3 * half_life_ms})
    assert worker.log[worker.key] is not None
    worker.did({"item_id": "i3"})
    assert worker.log[worker.key] is None
    worker.tell()
    assert not worker.merged.segments.version(worker.key)
    worker.take_over()
    assert not worker.shard.segments.rows


def test_items_and_lists_are_told_together(worker: Worker) -> None:
    worker.did(SEEN)
    told = worker.shard.untold(NOW_MS)
    assert told is not None
    assert sorted(map(len, told[0])) == [8, 10]
    assert worker.shard.untold(NOW_MS + 1) is None


def test_a_model_trained_anew_goes_on_with_what_the_one_before_it_learned(
    decay_bundle: Bundle, tmp_path: Path
) -> None:
    again = random_decay_bundle(tmp_path / "bundle", 200, dim=16, seed=1)
    assert again.bundle_id != decay_bundle.bundle_id
    assert Worker(again).key == Worker(decay_bundle).key
