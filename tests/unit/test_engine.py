"""The micro-batch step, from bytes to lists."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.models.decay import Parameters
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.core.micro_batch import PartResult
from stream.core.users import EVERYONE, Users
from stream.core.wire import join, split
from tests.support.engine import NOW_MS, Shop, items, lists
from tests.support.parts import Part

CONSTANTS = Parameters()


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


def test_a_step_tells_its_records_and_refused_states(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = shop.batch({"item_id": "i1"}, b"bad", {"item_id": "i2", "user_id": "v"})
    nothing = np.full((2, shop.engine.model.state_size), np.nan, np.float32)
    monkeypatch.setattr(shop.engine.model, "update", lambda *inputs: nothing)
    result = shop.engine.step([Part(shop.shard, batch)], NOW_MS)
    assert (result.records, result.refused_states) == (3, 2)
