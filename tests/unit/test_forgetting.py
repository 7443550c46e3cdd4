"""Erasures, pseudonyms and users that leave, through the whole step."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Placement
from stream.contracts import decode_recommendation
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.keys import Kind, kind_of
from stream.core.lifecycle import Limits
from stream.core.micro_batch import PartResult
from stream.core.model import Model
from stream.core.pseudonyms import Pseudonyms
from stream.core.state import UserShard
from stream.kafka.batches import RecordBatch
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000


class Shop:
    """An engine with a shard, and the changelog that its steps write."""

    def __init__(self, bundle: Bundle, limits: Limits | None = None, secret: bytes | None = None):
        self.engine = Engine(
            Model(bundle, "cpu"),
            Catalogue(bundle.item_ids),
            kinds={"clicks": "clicks", "erasures": "erasures"},
            placements={"home": Placement(k=3)},
            ring=10,
            limits=limits,
            pseudonyms=Pseudonyms(secret),
        )
        self.shard: UserShard = self.engine.new_shard(0, 1)
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self._offset = 0

    def step(self, topic: str, *records: Any, applied: int = 0) -> PartResult:
        first, self._offset = self._offset, self._offset + len(records)
        keys = [str(record.get("user_id", "")).encode() or b"u" for record in records]
        values = [msgspec.json.encode(record) if record else None for record in records]
        offsets = list(range(first, self._offset))
        batch = RecordBatch(topic, 0, first, self._offset, keys, values, offsets, [0] * len(values))
        (part,) = self.engine.step([Part(self.shard, batch, applied)], NOW_MS).parts
        assert len(set(part.state_keys)) == len(part.state_keys), "each key once a batch"
        self.changelog += zip(*part.changelog, strict=True)
        return part

    def click(self, *users: str, at_ms: int = NOW_MS, **options: Any) -> PartResult:
        events = [
            {"user_id": user, "item_id": "i1", "type": "click", "event_time_ms": at_ms}
            for user in users
        ]
        return self.step("clicks", *events, **options)

    def erase(self, *users: str, at_ms: int = NOW_MS, **options: Any) -> PartResult:
        erasures = [{"user_id": user, "event_time_ms": at_ms} for user in users]
        return self.step("erasures", *erasures, **options)

    def restart(self) -> None:
        """A new shard, from what compaction leaves of the changelog."""
        newest = dict(self.changelog)
        self.shard = self.engine.new_shard(0, 1)
        self.shard.load(list(newest), list(newest.values()))

    def compacted(self) -> bytes:
        """All bytes that stay once tombstones have done their work."""
        newest = dict(self.changelog)
        return b"".join(k + v for k, v in newest.items() if v is not None)


@pytest.fixture
def shop(decay_bundle: Bundle) -> Shop:
    return Shop(decay_bundle)


def test_an_erasure_leaves_a_hash_and_nothing_else(shop: Shop) -> None:
    shop.click("somebody", "else")
    part = shop.erase("somebody")
    (gone,) = part.erased
    assert (gone.user_id, gone.offset) == (b"somebody", 2)
    assert (part.list_keys, part.list_values) == ([b"somebody"], [None])
    assert b"somebody" not in shop.compacted()
    assert gone.user_hash in shop.compacted()
    assert b"somebody" not in gone.user_hash
    assert list(shop.shard.keys) == [b"else"]


@pytest.mark.parametrize("restarted", [False, True])
def test_older_events_do_not_bring_an_erased_user_back(shop: Shop, restarted: bool) -> None:
    shop.click("a", "b")
    shop.erase("a", at_ms=NOW_MS)
    if restarted:
        shop.restart()
    part = shop.click("a", "b", "a", at_ms=NOW_MS)
    assert (part.forgotten, part.folded) == (2, 1)
    assert part.list_keys == part.state_keys == [b"b"]
    assert shop.shard.find(b"a") is None


@pytest.mark.parametrize("restarted", [False, True])
def test_newer_events_begin_anew_and_older_ones_stay_out(shop: Shop, restarted: bool) -> None:
    shop.click("a", "a")
    shop.erase("a", at_ms=NOW_MS)
    part = shop.click("a", at_ms=NOW_MS + 1)
    assert (part.folded, part.list_keys) == (1, [b"a"])
    if restarted:
        shop.restart()
    part = shop.click("a", at_ms=NOW_MS)
    assert (part.folded, part.forgotten) == (0, 1)
    part = shop.click("a", at_ms=NOW_MS + 2)
    assert part.folded == 1
    slot = shop.shard.find(b"a")
    assert slot is not None
    header = shop.shard.gather(shop.shard.slots([b"a"])).view(shop.engine.layout.full)["header"]
    assert header["events"].tolist() == [[2]]


def test_an_old_and_a_new_event_of_one_batch_are_told_apart(shop: Shop) -> None:
    shop.erase("a", at_ms=NOW_MS)
    old = {"user_id": "a", "item_id": "i1", "type": "click", "event_time_ms": NOW_MS - 5}
    new = {**old, "event_time_ms": NOW_MS + 5}
    part = shop.step("clicks", old, new, old)
    assert (part.folded, part.forgotten) == (1, 2)
    (value,) = part.list_values
    assert decode_recommendation(value).cause.offset == 2


def test_an_erasure_from_before_a_crash_changes_no_state_but_is_receipted(shop: Shop) -> None:
    shop.click("a", "b")
    shop.erase("a", "b", at_ms=NOW_MS)
    shop.click("a", at_ms=NOW_MS + 1)  # a is back
    before = dict(shop.changelog)
    shop._offset = 2
    part = shop.erase("a", "b", at_ms=NOW_MS, applied=4)
    assert dict(shop.changelog) == before
    assert [gone.user_id for gone in part.erased] == [b"a", b"b"]
    assert part.list_keys == [b"b"], "the list of a, who is back, stays"


def test_an_erasure_removes_a_user_who_had_a_state_and_no_other(shop: Shop) -> None:
    shop.click("a", "b", "c")
    assert shop.erase("a", "never seen", "a", "b").removed == 2
    assert shop.erase("a").removed == 0
    shop.click("a", at_ms=NOW_MS + 1)  # a is back
    shop._offset = 3
    again = shop.erase("a", "never seen", "a", "b", applied=8)
    assert (again.removed, len(again.erased)) == (0, 4), "a receipt for each, nobody who left"


def test_events_from_before_a_crash_publish_nothing_of_an_erased_user(shop: Shop) -> None:
    shop.click("a")
    shop.erase("a", at_ms=NOW_MS)
    shop.restart()
    shop._offset = 0
    part = shop.click("a", at_ms=NOW_MS, applied=1)
    assert (part.list_keys, part.state_keys, part.skipped) == ([], [], 1)


def test_events_of_an_erased_user_are_not_published_again_whatever_their_time(shop: Shop) -> None:
    shop.click("a", at_ms=NOW_MS + 60_000)  # a clock that is ahead
    shop.erase("a", at_ms=NOW_MS)
    shop.restart()
    shop._offset = 0
    part = shop.click("a", at_ms=NOW_MS + 60_000, applied=1)
    assert (part.list_keys, part.state_keys) == ([], [])
    assert shop.shard.find(b"a") is None
    assert shop.erase("a", at_ms=NOW_MS, applied=2).list_keys == [b"a"]


def test_an_erasure_that_was_refused_is_refused_again_after_a_crash(shop: Shop) -> None:
    shop.click("a")
    part = shop.erase("a", at_ms=NOW_MS + 5, applied=2)  # ahead when it was read first
    assert [rejection.reason for rejection in part.rejections] == ["event_time_ahead"]
    assert (part.erased, part.list_keys, part.state_keys) == ([], [], [])
    assert shop.shard.find(b"a") is not None
    shop.erase("b", at_ms=NOW_MS)  # with a salt there is a hash, and still no mark
    shop._offset = 1
    assert len(shop.erase("a", at_ms=NOW_MS + 5, applied=2).rejections) == 1


def test_events_of_a_user_who_left_are_not_published_again(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Limits(max_users=1))
    shop.click("a", at_ms=NOW_MS)
    shop.click("b", at_ms=NOW_MS + 1)
    shop._offset = 0
    part = shop.click("a", at_ms=NOW_MS, applied=2)
    assert (part.list_keys, part.skipped) == ([], 1)
    assert list(shop.shard.keys) == [b"b"]


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["click", "click", "click", "erase", "restart", "replay"]),
            st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4),
            st.integers(0, 40),
        ),
        max_size=25,
    ),
    limits=st.sampled_from([Limits(), Limits(10, 0), Limits(0, 2), Limits(10, 2)]),
    ahead_ms=st.sampled_from([-40, 0]),
    secret=st.sampled_from([None, b"swordfish"]),
)
def test_memory_is_what_the_changelog_says(
    decay_bundle: Bundle, steps: list[Any], limits: Limits, ahead_ms: int, secret: bytes | None
) -> None:
    shop = Shop(decay_bundle, limits, secret)
    since_ms = NOW_MS + ahead_ms
    done: list[tuple[str, list[str], int, int]] = []
    for what, users, at_ms in steps:
        if what == "restart":
            shop.restart()
        elif what == "replay":
            shop.restart()
            end = shop._offset
            for kind, whom, when_ms, offset in done[-4:]:
                shop._offset = offset
                getattr(shop, kind)(*whom, at_ms=since_ms + when_ms, applied=end)
            shop._offset = end
        else:
            done.append((what, users, at_ms, shop._offset))
            getattr(shop, what)(*users, at_ms=since_ms + at_ms)
        live = shop.shard
        shop.restart()
        again, shop.shard = shop.shard, live
        assert sorted(again.keys) == sorted(live.keys)
        for shard in (live, again):
            assert shard.marks._times_ms == live.marks._times_ms
        states = [
            shard.gather(shard.slots(sorted(shard.keys))).tobytes() for shard in (live, again)
        ]
        assert states[0] == states[1]


def test_a_null_erasure_is_one_that_is_done(shop: Shop) -> None:
    shop.click("u")
    part = shop.step("erasures", {})
    assert (part.erased, part.rejections, part.state_keys) == ([], [], [])
    assert shop.shard.find(b"u") is not None


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"user_id": "a"}, "missing_field"),
        ({"user_id": "", "event_time_ms": NOW_MS}, "empty_id"),
        ({"user_id": "a", "event_time_ms": NOW_MS * 2}, "event_time_ahead"),
        ({"user_id": "a", "event_time_ms": 5}, "event_time_too_old"),
        ({"event_time_ms": NOW_MS}, "missing_field"),
    ],
)
def test_a_bad_erasure_is_a_dead_letter(shop: Shop, record: dict[str, Any], reason: str) -> None:
    part = shop.step("erasures", record)
    assert [rejection.reason for rejection in part.rejections] == [reason]
    assert len(part.dead_keys) == 1
    assert part.erased == []


def test_a_user_with_a_number_as_id_is_erased_by_it(shop: Shop) -> None:
    shop.click("17")
    part = shop.step("erasures", {"user_id": 17, "event_time_ms": NOW_MS})
    assert [gone.user_id for gone in part.erased] == [b"17"]
    assert shop.shard.find(b"17") is None


def test_the_inactive_leave_with_the_batch_of_others(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Limits(expire_after_ms=1000))
    shop.click("old", at_ms=NOW_MS - 5000)
    part = shop.click("new", at_ms=NOW_MS)
    assert (part.expired, part.evicted) == (1, 0)
    assert dict(zip(part.state_keys, part.state_values, strict=True))[b"old"] is None
    assert part.list_keys == [b"new"], "nothing is published of who leaves"
    shop.restart()
    assert list(shop.shard.keys) == [b"new"]
    assert shop.shard.newest_ms == NOW_MS


def test_a_strangers_event_from_the_future_expires_nobody(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Limits(expire_after_ms=12 * HOUR_MS))
    users = [f"u{number}" for number in range(20)]
    shop.click(*users, at_ms=NOW_MS - HOUR_MS)
    part = shop.click("stranger", at_ms=NOW_MS + 23 * HOUR_MS)
    for _ in range(5):
        assert (part.folded, part.expired) == (1, 0)
        part = shop.click("other")
    shop.restart()
    assert set(shop.shard.keys) == {user.encode() for user in [*users, "stranger", "other"]}


def test_an_old_log_expires_by_its_own_time(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Limits(expire_after_ms=12 * HOUR_MS))
    long_ago_ms = NOW_MS - 400 * 24 * HOUR_MS
    shop.click("a", "b", at_ms=long_ago_ms)
    assert shop.click("b", at_ms=long_ago_ms + 11 * HOUR_MS).expired == 0
    assert shop.click("c", at_ms=long_ago_ms + 13 * HOUR_MS).expired == 1
    assert set(shop.shard.keys) == {b"b", b"c"}


def test_the_least_active_leave_beyond_the_limit(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Limits(max_users=2))
    for number, user in enumerate("abcd"):
        part = shop.click(user, at_ms=NOW_MS + number)
    assert part.evicted == 1
    assert set(shop.shard.keys) == {b"c", b"d"}
    shop.restart()
    assert set(shop.shard.keys) == {b"c", b"d"}


def test_pseudonyms_keep_ids_out_of_states_and_put_them_on_lists(decay_bundle: Bundle) -> None:
    plain, hidden = Shop(decay_bundle), Shop(decay_bundle, secret=b"swordfish")
    for shop in (plain, hidden):
        shop.click("somebody", "else", "somebody")
    part = hidden.click("somebody")
    assert part.list_keys == [b"somebody"]
    assert json.loads(part.list_values[0] or b"")["user_id"] == "somebody"
    assert b"somebody" in plain.compacted()
    assert b"somebody" not in hidden.compacted()
    users = [key for key, _ in hidden.changelog if key[:1] != b"\xff"]
    assert all(len(key) == 32 and key.isalnum() for key in users)
    states = [[k for k in dict(shop.changelog) if k[:1] != b"\xff"] for shop in (plain, hidden)]
    assert len(states[0]) == len(states[1]) == 2


def test_pseudonyms_last_and_differ_by_secret() -> None:
    ours, again, theirs = Pseudonyms(b"one"), Pseudonyms(b"one"), Pseudonyms(b"two")
    assert ours.keys_of([b"a", b"b"]) == again.keys_of([b"a", b"b"])
    assert ours.key_of(b"a") == ours.keys_of([b"a"])[0] != theirs.key_of(b"a")
    assert len({Pseudonyms().fingerprint, ours.fingerprint, theirs.fingerprint}) == 3
    assert Pseudonyms(b"x" * 1000).key_of(b"a") != Pseudonyms(b"x" * 999).key_of(b"a")


def test_an_erasure_finds_the_pseudonym(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, secret=b"swordfish")
    shop.click("somebody")
    part = shop.erase("somebody", at_ms=NOW_MS)
    assert len(shop.shard) == 0
    assert part.list_keys == [b"somebody"]
    shop.restart()
    assert shop.click("somebody", at_ms=NOW_MS).forgotten == 1
    assert all(
        kind_of(key) is not Kind.USER or value is None
        for key, value in dict(shop.changelog).items()
    )


def test_misrouted_users_are_known_by_their_ids(decay_bundle: Bundle) -> None:
    counts = []
    for secret in (None, b"swordfish"):
        shop = Shop(decay_bundle, secret=secret)
        shop.shard = shop.engine.new_shard(2, 6)
        counts.append(shop.click(*[f"u{number}" for number in range(60)]).misrouted)
    assert counts[0] == counts[1] > 0


def test_counts_of_items_stay_and_name_nobody(shop: Shop) -> None:
    shop.click("somebody", "else", at_ms=NOW_MS - 1)
    before = shop.shard.counts.rows.copy()
    assert before["clicks"].tolist() == [2.0]
    part = shop.erase("somebody", at_ms=NOW_MS)
    assert (part.count_keys, part.count_values) == ([], [])
    shop.click("somebody", at_ms=NOW_MS - 2)  # forgotten
    assert (shop.shard.counts.rows == before).all()
    shop.restart()
    assert (shop.shard.counts.rows == before).all()
    assert b"somebody" not in shop.compacted()
