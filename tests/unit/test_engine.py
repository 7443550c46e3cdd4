"""The micro-batch step, from bytes to lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.models.decay import Parameters
from stream.config import Placement
from stream.contracts import EventType, Item, Recommendation, decode_recommendation
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.micro_batch import PartResult
from stream.core.model import Model
from stream.core.state import UserShard
from stream.core.statistics.merged import Merged
from stream.core.users import EVERYONE, Users
from stream.core.weighing import Weighing
from stream.core.wire import join, split
from stream.kafka.batches import RecordBatch
from stream.settings.weights import UNSET, Weights
from tests.support.bundles import random_decay_bundle
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
CONSTANTS = Parameters()


class Shop:
    """An engine with one shard, fed with plain events."""

    def __init__(
        self,
        bundle: Bundle,
        ring: int = 10,
        counts: Merged | None = None,
        resend_after_s: float = 0.0,
        impressions: int = 0,
        weights: Weights = UNSET,
        **placements: Placement,
    ) -> None:
        self.catalogue = Catalogue(bundle.item_ids, bundle.repurchase_s)
        model = Model(bundle, "cpu")
        model.weigh(Weighing.of(bundle.manifest, weights))
        self.engine = Engine(
            model,
            self.catalogue,
            kinds={"clicks": "clicks", "purchases": "purchases"},
            placements=placements or {"home": Placement(k=10, exclude_seen=True)},
            ring=ring,
            counts=counts,
            resend_after_s=resend_after_s,
            impressions=impressions,
        )
        self.shard: UserShard = self.engine.new_shard(0, 1)
        self.offset = 100  # so that an offset is no position in a batch

    def step(
        self, *events: dict[str, Any] | bytes, applied: int = 0, now_ms: int = NOW_MS
    ) -> PartResult:
        batch = self.batch(*events)
        (result,) = self.engine.step([Part(self.shard, batch, applied)], now_ms).parts
        return result

    def batch(self, *events: dict[str, Any] | bytes) -> RecordBatch:
        kind = "clicks"
        values, keys = [], []
        for event in events:
            if isinstance(event, bytes):
                values.append(event)
                keys.append(b"u")
                continue
            full = {"user_id": "u", "type": "click", "event_time_ms": NOW_MS, **event}
            kind = "purchases" if full["type"] in ("purchase", "cancel") else "clicks"
            values.append(msgspec.json.encode(full))
            keys.append(str(full["user_id"]).encode())
        first, self.offset = self.offset, self.offset + len(values)
        offsets = list(range(first, self.offset))
        return RecordBatch(
            kind, 0, first, self.offset, keys, values, offsets, [NOW_MS] * len(values)
        )


def lists(result: PartResult) -> list[Recommendation]:
    return [decode_recommendation(value) for value in result.list_values]


def items(result: PartResult, placement: str = "home") -> list[str]:
    (record,) = lists(result)
    return [listed.item_id for listed in record.lists[placement].items]


@pytest.fixture
def shop(decay_bundle: Bundle) -> Shop:
    return Shop(decay_bundle)


def test_an_event_changes_the_state_and_makes_a_list(shop: Shop) -> None:
    result = shop.step({"item_id": "i7", "event_id": "e"})
    assert (result.folded, result.state_keys, result.list_keys) == (1, [b"u"], [b"u"])
    (record,) = lists(result)
    assert record.user_id == "u"
    assert record.model == shop.engine.model.bundle.bundle_id
    assert msgspec.structs.asdict(record.cause) == {
        "topic": "clicks",
        "partition": 0,
        "offset": 100,
        "event_time_ms": NOW_MS,
    }
    listed = record.lists["home"].items
    assert [item.rank for item in listed] == list(range(1, 11))
    scores = [item.score for item in listed]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    assert {item.reason.item_id for item in listed} <= {"i7", None}


def test_the_record_has_the_contracts_fields(shop: Shop) -> None:
    record = json.loads(shop.step({"item_id": "i7"}).list_values[0])
    fields = {"user_id", "lists", "model", "variant", "cause", "generated_ms", "settings"}
    assert set(record) == fields
    item = record["lists"]["home"]["items"][0]
    assert set(item) == {"item_id", "score", "rank", "reason", "explored", "propensity"}


def test_scores_are_sigmoid_of_the_interest_and_the_bias(shop: Shop) -> None:
    result = shop.step({"item_id": "i7", "type": "purchase"})
    model = shop.engine.model
    sums = Users.of(shop.shard, [b"u"]).vectors.astype(np.float64).reshape(2, -1)
    lengths = np.sqrt((sums**2).sum(axis=1, keepdims=True) + CONSTANTS.strength**2)
    interest = [[1, CONSTANTS.mood_share]] @ (sums / lengths)
    table, bias = model.bundle.embeddings, model.bundle.biases
    logits = model.bundle.manifest.beta * (interest @ table.T)[0] + bias
    wanted = 1 / (1 + np.exp(-np.maximum(logits, -500)))
    (record,) = lists(result)
    for item in record.lists["home"].items:
        row = shop.catalogue.rows([item.item_id])[0]
        assert item.score == pytest.approx(wanted[row], abs=2e-6)
    best = [model.bundle.item_ids[row] for row in np.argsort(-wanted) if row != 7][:10]
    assert items(result) == best


def test_a_users_events_in_one_batch_make_one_list_for_the_last(shop: Shop) -> None:
    result = shop.step({"item_id": "i1"}, {"item_id": "i2", "user_id": "v"}, {"item_id": "i3"})
    causes = {record.user_id: record.cause.offset for record in lists(result)}
    assert causes == {"u": 102, "v": 101}
    assert sorted(result.state_keys) == [b"u", b"v"]


def test_applied_events_get_their_list_again_and_change_nothing(shop: Shop) -> None:
    shop.step({"item_id": "i1"}, {"item_id": "i2"})
    before = Users.of(shop.shard, [b"u"]).store()
    shop.offset = 100
    result = shop.step({"item_id": "i1"}, {"item_id": "i2"}, applied=102)
    assert (result.folded, result.skipped, result.state_keys) == (0, 2, [])
    assert Users.of(shop.shard, [b"u"]).store() == before
    assert lists(result)[0].cause.offset == 101
    result = shop.step({"item_id": "i3"}, {"item_id": "i4"}, applied=103)
    assert (result.folded, result.skipped) == (1, 1)


def test_a_bad_record_is_a_dead_letter_and_its_neighbours_are_not(shop: Shop) -> None:
    result = shop.step({"item_id": "i1"}, b"\xff not json", {"item_id": "i2"})
    assert (result.folded, result.dead_values, result.dead_keys) == (2, [b"\xff not json"], [b"u"])
    assert dict(result.dead_headers[0]) == {
        "freshet-reason": b"not_utf8",
        "freshet-field": b"",
        "freshet-topic": b"clicks",
        "freshet-partition": b"0",
        "freshet-offset": b"101",
        "freshet-headers": b"0",
    }


def test_a_dead_letter_keeps_the_headers_of_its_record(shop: Shop) -> None:
    batch = shop.batch({"item_id": "i1"}, b"{", b"[]", {"item_id": "i2"})
    sent = [("b", b"\xff"), ("freshet-reason", b"forged"), ("b", None)]
    batch.headers = {0: [("good", b"")], 2: sent}
    (result,) = shop.engine.step([Part(shop.shard, batch, 0)], NOW_MS).parts
    assert [headers[-1] for headers in result.dead_headers] == [
        ("freshet-headers", b"0"),
        ("freshet-headers", b"3"),
    ]
    assert result.dead_headers[1][:3] == sent
    assert dict(result.dead_headers[1])["freshet-reason"] == b"not_object"


def test_a_batch_of_garbage_alone_still_has_a_result(shop: Shop) -> None:
    result = shop.step(b"{}", b"")
    assert (result.folded, len(result.dead_values), result.list_values) == (0, 2, [])


def test_seen_items_are_left_out_and_the_list_stays_full(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    first = items(shop.step({"item_id": "i1"}))
    again = items(shop.step({"item_id": first[0]}))
    assert first[0] not in again
    assert "i1" not in again
    assert len(again) == 10


def test_a_shop_may_want_seen_items_back_but_not_bought_ones(decay_bundle: Bundle) -> None:
    rules = {
        "again": Placement(k=200, exclude_seen=False),
        "fresh": Placement(k=200, exclude_seen=True),
        "all": Placement(k=200, exclude_seen=False, exclude_bought=False),
    }
    shop = Shop(decay_bundle, **rules)
    shop.step({"item_id": "i1"})
    result = shop.step({"item_id": "i2", "type": "purchase"})
    assert len(items(result, "all")) == 200
    assert set(items(result, "all")) - set(items(result, "again")) == {"i2"}
    assert set(items(result, "all")) - set(items(result, "fresh")) == {"i1", "i2"}


def test_what_placements_leave_open_the_bundle_decides(tmp_path: Path) -> None:
    bundle = random_decay_bundle(tmp_path / "bundle", 50, dim=8, exclude_bought=False)
    rules = {"open": Placement(k=50), "fresh": Placement(k=50, exclude_bought=True)}
    shop = Shop(bundle, **rules)
    result = shop.step({"item_id": "i2", "type": "purchase"})
    assert len(items(result, "open")) == 50
    assert set(items(result, "open")) - set(items(result, "fresh")) == {"i2"}


def test_a_disliked_item_never_comes_back(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=200, exclude_seen=False, exclude_bought=False))
    assert "i3" not in items(shop.step({"item_id": "i3", "type": "dislike"}))


def test_seen_means_lately(decay_bundle: Bundle) -> None:
    rules = Placement(k=200, exclude_seen=True, seen_window_s=3600.0)
    shop = Shop(decay_bundle, home=rules)
    shop.step({"item_id": "i1"})
    soon = items(shop.step({"item_id": "i2", "event_time_ms": NOW_MS + 3_000_000}))
    later = items(shop.step({"item_id": "i2", "event_time_ms": NOW_MS + 4_000_000}))
    assert ("i1" in soon, "i1" in later) == (False, True)


def test_items_below_the_threshold_are_left_out(decay_bundle: Bundle) -> None:
    everything = Shop(decay_bundle, home=Placement(k=200))
    some = Shop(decay_bundle, home=Placement(k=200, theta=0.02))
    (all_scores,) = lists(everything.step({"item_id": "i1"}))
    (kept,) = lists(some.step({"item_id": "i1"}))
    wanted = [item for item in all_scores.lists["home"].items if item.score >= 0.02]
    assert 0 < len(wanted) < 200
    assert [item.item_id for item in kept.lists["home"].items] == [item.item_id for item in wanted]


def test_an_item_that_is_sold_out_leaves_the_next_list(shop: Shop) -> None:
    for n in range(1, 201):
        shop.catalogue.put(Item(f"i{n}"))
    shown = {"item_id": "i9", "type": "impression"}  # moves no interest
    best, second = items(shop.step({"item_id": "i1"}, shown))[:2]
    shop.catalogue.put(Item(best, available=False))
    assert items(shop.step(shown))[0] == second
    shop.catalogue.remove(second)
    shop.catalogue.put(Item(best))
    again = items(shop.step(shown))
    assert (again[0], second in again) == (best, False)


def test_a_new_item_with_an_embedding_is_listed_to_who_likes_it(shop: Shop) -> None:
    for n in range(1, 201):
        shop.catalogue.put(Item(f"i{n}"))
    like = shop.engine.model.embeddings[5].tolist()
    shop.catalogue.put(Item("new", embedding=tuple(like)))
    assert items(shop.step({"item_id": "i5", "type": "purchase"}))[0] == "new"


def test_a_new_item_without_an_embedding_waits_with_a_neutral_prior(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=300))
    for n in range(1, 201):
        shop.catalogue.put(Item(f"i{n}"))
    shop.catalogue.put(Item("new"))
    (record,) = lists(shop.step({"item_id": "i1"}))
    scores = {item.item_id: item.score for item in record.lists["home"].items}
    prior = 1 / (1 + np.exp(-np.median(decay_bundle.biases[1:])))
    assert scores["new"] == pytest.approx(prior, abs=1e-5)


def test_more_new_items_than_spare_rows(shop: Shop) -> None:
    before = shop.engine.model.rows
    for n in range(before + 10):
        shop.catalogue.put(Item(f"new {n}"))
    result = shop.step({"item_id": f"new {before + 5}"}, {"item_id": "i1"})
    assert shop.engine.model.rows > before
    assert (result.unknown_items, len(items(result))) == (0, 10)


def test_an_event_for_an_unknown_item_yields_a_list(shop: Shop) -> None:
    result = shop.step({"item_id": "never heard of"})
    assert (result.unknown_items, len(items(result))) == (1, 10)
    assert {item.reason.code for item in lists(result)[0].lists["home"].items} == {"popular"}


def test_placements_list_their_kinds(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(), offers=Placement(kinds=("coupon",)))
    shop.catalogue.put(Item("i1"))
    shop.catalogue.put(Item("ten off", kind="coupon"))
    result = shop.step({"item_id": "i2"})
    assert (items(result, "home"), items(result, "offers")) == (["i1"], ["ten off"])
    assert result.lists_by_arm == {"home": 1, "offers": 1}


def test_the_reason_is_the_interaction_that_speaks_for_the_item_most(shop: Shop) -> None:
    early = {"item_id": "i1", "type": "view", "event_time_ms": NOW_MS - 10_000}
    shop.step(early, {"item_id": "i2"})
    (record,) = lists(shop.step({"item_id": "i3"}))
    table = shop.engine.model.embeddings.astype(np.float64)
    weights = shop.engine.model.bundle.manifest.event_weights
    shares = {"i1": weights["view"], "i2": weights["click"], "i3": weights["click"]}
    kinds = {"i1": "view", "i2": "click", "i3": "click"}
    reasons = set()
    for item in record.lists["home"].items:
        row = shop.catalogue.rows([item.item_id])[0]
        said = {of: w * (table[int(of[1:])] @ table[row]) for of, w in shares.items()}
        because = max(said, key=lambda of: said[of])
        if said[because] > 0:
            assert (item.reason.item_id, item.reason.code) == (because, kinds[because])
        else:
            assert (item.reason.item_id, item.reason.code) == (None, "popular")
        reasons.add(item.reason.item_id)
    assert len(reasons) > 1


@pytest.mark.parametrize("users", [1, 127, 128, 129, 300])
def test_a_batch_of_many_users_ranks_each_as_if_alone(decay_bundle: Bundle, users: int) -> None:
    together, alone = Shop(decay_bundle), Shop(decay_bundle)
    events = [{"user_id": f"u{n}", "item_id": f"i{n % 200 + 1}"} for n in range(users)]
    in_one = {record.user_id: record for record in lists(together.step(*events))}
    for event in events[:: max(1, users // 20)]:
        (record,) = lists(alone.step(event))
        one, many = record.lists["home"].items, in_one[record.user_id].lists["home"].items
        assert [item.item_id for item in one] == [item.item_id for item in many]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parts_of_a_micro_batch_change_what_they_change_alone(
    decay_bundle: Bundle, data: st.DataObject
) -> None:
    event = st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["u", "v", "w"]),
            "item_id": st.sampled_from(["i1", "i2", "i3", "unknown"]),
            "event_id": st.integers(1, 4),
            "event_time_ms": st.integers(NOW_MS - 10**7, NOW_MS),
        }
    )
    together, alone = Shop(decay_bundle), Shop(decay_bundle)
    shards = [together.engine.new_shard(n, 3) for n in range(3)]
    single = [alone.engine.new_shard(n, 3) for n in range(3)]
    for _ in range(2):
        batches = [
            together.batch(*data.draw(st.lists(event | st.just(b"bad"), max_size=6)))
            for _ in shards
        ]
        applied = [b.base + data.draw(st.integers(0, max(0, len(b) - 1))) for b in batches]
        parts = [
            Part(shard, batch, at)
            for shard, batch, at in zip(shards, batches, applied, strict=True)
            if len(batch)
        ]
        made = iter(together.engine.step(parts, NOW_MS).parts)
        for shard, batch, at in zip(single, batches, applied, strict=True):
            if not len(batch):
                continue
            (lonely,) = alone.engine.step([Part(shard, batch, at)], NOW_MS).parts
            joint = next(made)
            assert lists_of(joint) == lists_of(lonely, about=True)
            assert sum(joint.lists_by_arm.values()) == len(lists(joint))
            for result in (joint, lonely):
                result.list_values, result.lists_by_arm = [], {}
            assert joint == lonely


def lists_of(result: PartResult, about: bool = False) -> list[Any]:
    """Its lists; `about` the same scores, since a product's last bits depend on how many it is."""

    def score(value: float) -> Any:
        return pytest.approx(value, abs=2e-6) if about else value

    return [
        (
            record.user_id,
            record.cause,
            [(i.item_id, i.rank, i.reason, score(i.score)) for i in record.lists["home"].items],
        )
        for record in lists(result)
    ]


def test_misrouted_records_are_counted(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    shop.shard = shop.engine.new_shard(1, 6)
    users = [{"user_id": f"user-{n}", "item_id": "i1"} for n in range(60)]
    result = shop.step(*users, *users)
    assert result.misrouted == 2 * int(Users.of(shop.shard, shop.shard.keys).misrouted.sum()) > 0


def test_event_types_of_the_bundle_are_the_contracts(decay_bundle: Bundle) -> None:
    wanted = {kind.name.lower(): int(kind) for kind in EventType}
    assert decay_bundle.manifest.event_types == wanted


def test_a_batch_replayed_after_a_change_of_model_is_listed_by_the_new_one(
    decay_bundle: Bundle,
) -> None:
    events = [{"item_id": "i1"}, {"item_id": "i2", "type": "purchase"}]
    before, after = Shop(decay_bundle), Shop(decay_bundle)
    wanted = items(before.step(events[0])) and items(before.step(events[1]))
    after.step(events[0])
    after.step(events[1])
    user = Users.of(after.shard, [b"u"])
    user.model[0] = 1  # as if another bundle had made the state
    user.set_vectors(EVERYONE, np.full((1, after.engine.model.state_size), 9.0, "f4"))
    user.store()
    after.offset = 101
    assert items(after.step(events[1], applied=102)) == wanted


def test_a_tombstone_takes_out_the_only_item_of_a_catalogue(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    shop.catalogue.remove("i5")
    assert "i5" not in items(shop.step({"item_id": "i4"}))
    shop.catalogue.put(Item("i6"))
    shop.catalogue.remove("i6")
    assert items(shop.step({"item_id": "i4"})) == []


@pytest.mark.parametrize("unknown_type", [10, 12, 15])
def test_a_remembered_type_of_a_later_version_is_nobodys_reason(
    shop: Shop, unknown_type: int
) -> None:
    for number in range(1, 6):
        shop.step({"item_id": f"i{number}"})
    user = Users.of(shop.shard, [b"u"])
    user.ring["item_and_type"] = join(split(user.ring)[0], np.uint8(unknown_type))
    user.store()
    (record,) = lists(shop.step({"item_id": "i7"}))
    reasons = {item.reason.item_id for item in record.lists["home"].items}
    assert reasons <= {"i7", None}


def test_a_window_ends_after_its_last_second_and_for_what_was_seen_alone(
    decay_bundle: Bundle,
) -> None:
    def listed(age_s: int) -> set[str]:
        rules = Placement(k=200, exclude_seen=True, seen_window_s=3600.0)
        shop = Shop(decay_bundle, home=rules)
        then = {"event_time_ms": NOW_MS - 1000 * age_s}
        shop.step({"item_id": "i1", **then})
        shop.step({"item_id": "i2", "type": "purchase", **then})
        shop.step({"item_id": "i3", "type": "dislike", **then})
        return set(items(shop.step({"item_id": "i4"})))

    assert not listed(3600) & {"i1", "i2", "i3"}
    assert listed(3601) & {"i1", "i2", "i3"} == {"i1"}


def test_a_new_price_shows_in_the_next_list(shop: Shop) -> None:
    def prices() -> list[Any]:
        (record,) = lists(shop.step({"item_id": "i1"}))
        listed = {item.item_id: item.price for item in record.lists["home"].items}
        return [listed["i5"], listed["i6"]]

    shop.catalogue.put(Item("i5"))
    shop.catalogue.put(Item("i6", price=2.55))
    assert prices() == [msgspec.UNSET, 2.55]
    shop.catalogue.put(Item("i5", price=7))
    shop.catalogue.put(Item("i6", price=0.1))
    assert prices() == [7, 0.1]
    shop.catalogue.put(Item("i6"))
    assert prices() == [7, msgspec.UNSET]


def test_an_item_that_comes_after_the_first_list_is_named(shop: Shop) -> None:
    shop.step({"item_id": "i1"})
    table = shop.engine.model.embeddings
    for number in range(3):
        shop.catalogue.put(Item(f"new {number}", embedding=tuple(table[5 + number].tolist())))
        for row in range(1, 40):
            shop.catalogue.put(Item(f"i{row}"))
    found = {
        item
        for number in range(3)
        for item in items(shop.step({"item_id": f"i{5 + number}", "user_id": f"u{number}"}))
    }
    assert {"new 0", "new 1", "new 2"} <= found
    assert found <= {f"i{row}" for row in range(1, 40)} | {"new 0", "new 1", "new 2"}


def test_a_step_tells_its_records_and_refused_states(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = shop.batch({"item_id": "i1"}, b"bad", {"item_id": "i2", "user_id": "v"})
    nothing = np.full((2, shop.engine.model.state_size), np.nan, np.float32)
    monkeypatch.setattr(shop.engine.model, "update", lambda *inputs: nothing)
    result = shop.engine.step([Part(shop.shard, batch)], NOW_MS)
    assert (result.records, result.refused_states) == (3, 2)


def test_a_score_that_is_written_as_nought_is_not_listed(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=10, beta=1000.0))
    (record,) = lists(shop.step({"item_id": "i1"}))
    assert all(item.score > 0 for item in record.lists["home"].items)
