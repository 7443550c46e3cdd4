"""Answers to requests, from bytes to bytes: lists, rules, deadlines, states; nothing is changed."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from stream.contracts import AnsweredItem, Item, decode_answer, item_hash
from stream.core.bundle import Bundle
from stream.core.users import Users
from tests.support.desk import NOW_MS, RULED, Desk, ids, scores
from tests.support.parts import Part


@pytest.fixture
def desk(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle)


# -- lists ---------------------------------------------------------------------------------


def test_a_list_on_request_is_the_list_of_the_last_event(desk: Desk) -> None:
    last = desk.did("i7", "i9", "i7")
    for placement in ("home", "again"):
        answer = desk.ask("list", placement=placement)
        told = list(msgspec.to_builtins(answer.items))
        assert told == last[placement]["items"], placement
        assert (answer.status, answer.placement, answer.known_user) == ("answered", placement, True)
    assert desk.ask("list").placement == "home"  # the first of the settings


def test_k_of_a_request_may_be_less_or_more_than_the_placements(desk: Desk) -> None:
    desk.did("i7")
    usual = ids(desk.ask("list"))
    assert len(usual) == 10
    assert ids(desk.ask("list", k=4)) == usual[:4]
    longer = desk.ask("list", k=50)
    assert ids(longer)[:10] == usual
    assert [item.rank for item in longer.items] == list(range(1, 51))
    assert len(ids(desk.ask("list", k=1000))) == 199  # all but the one that was seen


def test_a_guest_gets_the_popular_list_and_stays_a_guest(desk: Desk) -> None:
    desk.did("i7", user="somebody")
    answer = desk.ask("list", user_id="guest")
    bias = desk.engine.model.bundle.biases
    best = [f"i{row}" for row in np.argsort(-bias[1:], kind="stable")[:10] + 1]
    assert ids(answer) == best
    assert {item.reason.code for item in answer.items} == {"popular"}
    assert not answer.known_user
    assert list(desk.shard.keys) == [b"somebody"]
    desk.did("i7", user="guest")
    after = desk.ask("list", user_id="guest")
    assert after.known_user
    assert ids(after) != best
    assert "i7" in {item.reason.item_id for item in after.items}


def test_nothing_to_list_is_an_empty_answer(desk: Desk) -> None:
    answer = desk.ask("list", placement="coupons")
    assert (answer.status, answer.items) == ("answered", ())


def test_requests_change_no_state(desk: Desk) -> None:
    desk.did("i7", "i9")
    before = (list(desk.shard.keys), Users.of(desk.shard, [b"u"]).store(), desk.shard.newest_ms)
    kinds: list[dict[str, Any]] = [
        {"type": "list", "k": 30},
        {"type": "rank", "candidates": ["i1", "i2", "nobody"]},
        {"type": "explain", "candidates": ["i1"]},
        {"type": "similar", "item_id": "i3"},
        {"type": "together", "item_id": "i3"},
        {"type": "trending"},
        {"type": "state"},
    ]
    everybody = [{**kind, "user_id": user} for kind in kinds for user in ("u", "guest")]
    result = desk.asked(*everybody)
    assert len(result.answer_values) == len(everybody)
    assert (result.state_keys, result.list_keys, result.folded) == ([], [], 0)
    now = (list(desk.shard.keys), Users.of(desk.shard, [b"u"]).store(), desk.shard.newest_ms)
    assert now == before
    answers = list(map(decode_answer, result.answer_values))
    assert [answer.request_id for answer in answers] == [f"r{n}" for n in range(14)]
    assert [answer.user_id for answer in answers] == ["u", "guest"] * 7
    assert result.answer_keys == [b"u", b"guest"] * 7
    # The same requests once more, as after a crash: all are answered again.
    assert desk.asked(*everybody).answer_values == result.answer_values


def test_requests_of_one_step_are_answered_like_each_alone(desk: Desk) -> None:
    desk.did("i7", "i9")
    desk.did("i20", user="v")
    mixed_up = [
        {"type": "rank", "candidates": ["i1", "i2"], "user_id": "v"},
        {"type": "list", "k": 3},
        {"type": "rank", "candidates": ["i150", "i2", "i40"]},
        {"type": "list", "k": 4, "user_id": "v"},
        {"type": "similar", "item_id": "i9"},
        {"type": "similar", "item_id": "i10", "user_id": "v", "k": 50},
    ]
    together = list(map(decode_answer, desk.asked(*mixed_up).answer_values))
    for number, request in enumerate(mixed_up):
        (alone,) = desk.asked({"request_id": f"r{number}", **request}).answer_values
        assert decode_answer(alone) == together[number]


def test_events_and_requests_of_different_partitions_share_a_step(desk: Desk) -> None:
    other = desk.engine.new_shard(0, 1)
    event = {"user_id": "u", "item_id": "i7", "type": "click", "event_time_ms": NOW_MS}
    clicks = Part(other, desk.batch("clicks", [event]))
    request = {"request_id": "r", "user_id": "u", "type": "state"}
    requests = Part(desk.shard, desk.batch("requests", [request]))
    result = desk.engine.step([clicks, requests], NOW_MS)
    events, asked = result.parts
    assert (events.folded, events.answer_values, len(events.list_values)) == (1, [], 1)
    assert (asked.folded, len(asked.answer_values), asked.list_values) == (0, 1, [])
    assert not decode_answer(asked.answer_values[0]).known_user  # of its own partition
    assert set(result.stage_s) == {"decode", "fold", "score", "policy", "answer"}


def test_a_secret_keeps_ids_out_of_states_and_finds_their_users(decay_bundle: Bundle) -> None:
    desk = Desk(decay_bundle, secret=b"s" * 32)
    desk.did("i7")
    assert list(desk.shard.keys) != [b"u"]
    answer = desk.ask("state")
    assert answer.known_user
    assert answer.user_id == "u"


def test_a_bad_request_is_a_dead_letter_and_its_neighbours_are_answered(desk: Desk) -> None:
    result = desk.asked({"type": "list"}, {"type": "rank"}, {"type": "state"})
    assert [decode_answer(value).type for value in result.answer_values] == ["list", "state"]
    assert [tuple(rejection) for rejection in result.rejections] == [
        (1, "missing_field", "candidates")
    ]
    assert dict(result.dead_headers[0])["freshet-offset"] == b"1"
    assert result.answered == [("list", "answered"), ("state", "answered")]


def test_requests_of_another_partitions_users_are_counted(decay_bundle: Bundle) -> None:
    desk = Desk(decay_bundle)
    desk.shard = desk.engine.new_shard(0, 64)
    users = [f"user-{number}" for number in range(200)]
    result = desk.asked(*({"type": "state", "user_id": user} for user in users))
    assert result.misrouted == int(desk.shard.astray([user.encode() for user in users]).sum()) > 150


# -- rules ---------------------------------------------------------------------------------


@pytest.fixture
def ruled(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle, placements=RULED)


def test_a_list_on_request_keeps_to_the_rules_of_its_placement(ruled: Desk) -> None:
    for number in (3, 4, 5, 6):
        ruled.catalogue.put(Item(f"i{number}", bid=number / 2))
    last = ruled.did("i7", "i9", kind="add_to_cart")
    assert last["ads"]["items"]
    for placement in RULED:
        answer = ruled.ask("list", placement=placement)
        assert list(msgspec.to_builtins(answer.items)) == last[placement]["items"], placement
    assert len(ids(ruled.ask("list", placement="varied", k=2))) == 2


def test_rules_that_are_about_some_users_alone_are_about_their_candidates_alone(
    ruled: Desk,
) -> None:
    ruled.did("i7", "i9")
    ruled.did("i7", user="v")
    rank = {"type": "rank", "candidates": ["i4", "i5", "i6"], "placement": "ruled"}
    result = ruled.asked(rank, {**rank, "user_id": "v"})
    mine, theirs = map(decode_answer, result.answer_values)
    listed = {
        item.item_id: item.score for item in ruled.ask("list", placement="ruled", k=200).items
    }
    scored = {item.item_id: (item.score, item.mark) for item in mine.items}
    assert scored["i5"] == (listed["i5"], msgspec.UNSET)  # boosted
    assert scored["i6"][1] == "ineligible"
    other = {item.item_id: (item.score, item.mark) for item in theirs.items}
    assert 5 * other["i5"][0] < scored["i5"][0]
    assert [mark for _, mark in other.values()] == [msgspec.UNSET] * 3
    near = {"type": "similar", "item_id": "i100", "placement": "ruled", "k": 200}
    result = ruled.asked(near, {**near, "user_id": "v"})
    mine, theirs = map(decode_answer, result.answer_values)
    assert set(ids(theirs)) - set(ids(mine)) <= {"i6", "i9"}
    assert "i6" not in ids(mine)


def test_a_placement_of_the_cart_ranks_and_explains_by_the_cart(ruled: Desk) -> None:
    ruled.did("i7")
    ruled.did("i9", kind="add_to_cart")
    listed = ruled.ask("list", placement="basket", k=150)
    answer = ruled.ask("rank", placement="basket", candidates=[*ids(listed), "i9", "i7"])
    by_id = {item.item_id: item for item in answer.items}
    assert [by_id[item.item_id].score for item in listed.items] == scores(listed)
    assert by_id["i9"].mark == "excluded"
    explained = ruled.ask("explain", placement="basket", candidates=["i100"])
    assert {b.item_id for b in explained.items[0].because} == {"i9"}  # type: ignore[union-attr]


# -- deadlines -----------------------------------------------------------------------------


def test_what_comes_too_late_says_so(desk: Desk) -> None:
    result = desk.asked(
        {"type": "list", "deadline_ms": NOW_MS - 1},
        {"type": "list", "deadline_ms": NOW_MS + 60_000},
        {"type": "rank", "candidates": ["i1"], "deadline_ms": NOW_MS - 1},
    )
    answers = list(map(decode_answer, result.answer_values))
    assert [answer.status for answer in answers] == ["late", "answered", "late"]
    assert [len(answer.items) for answer in answers] == [0, 10, 0]
    assert ("rank", "late") in result.answered


def test_the_time_that_answering_takes_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(np.arange(0, 1000, 0.5).tolist())  # half a second at each look
    monkeypatch.setattr("stream.core.answers.answering.perf_counter", lambda: next(ticks))
    deadline = {"deadline_ms": NOW_MS + 900}
    result = desk.asked(
        {"type": "list", **deadline}, {"type": "state", **deadline}, {"type": "trending"}
    )
    statuses = [decode_answer(value).status for value in result.answer_values]
    assert statuses == ["answered", "late", "unavailable"]


# -- states --------------------------------------------------------------------------------


def test_a_state_says_what_is_kept_of_a_user(desk: Desk) -> None:
    desk.did("i7", at_ms=NOW_MS - 5000)
    desk.did("strange", kind="view", at_ms=NOW_MS - 3000)
    desk.did("i9", kind="impression", at_ms=NOW_MS - 2000)
    desk.did("i8", kind="purchase", at_ms=NOW_MS - 1000)
    state = desk.ask("state").state
    assert state is not msgspec.UNSET
    assert (state.events, state.newest_event_ms) == (4, NOW_MS - 1000)
    assert [(done.type, done.item_id, done.event_time_ms) for done in state.interactions] == [
        ("purchase", "i8", NOW_MS - 1000),
        ("view", None, NOW_MS - 3000),
        ("click", "i7", NOW_MS - 5000),
    ]
    (stored,) = Users.of(desk.shard, [b"u"]).store()
    assert state.state_bytes == len(stored)
    assert (state.purchases, state.spent) == (1, 0.0)
    assert state.newest_purchase_ms == (NOW_MS - 1000) // 1000 * 1000


def test_a_guests_state_says_nothing(desk: Desk) -> None:
    answer = desk.ask("state", user_id="guest")
    state = answer.state
    assert state is not msgspec.UNSET
    assert (state.events, state.newest_event_ms, state.interactions, state.state_bytes) == (
        0,
        0,
        (),
        0,
    )
    assert not answer.known_user


def test_a_state_of_another_model_is_rebuilt_to_answer_and_not_kept(desk: Desk) -> None:
    desk.did("i7", "i9")
    usual = desk.ask("list")
    slot = desk.shard.find(b"u")
    assert slot is not None
    header = desk.shard._headers(slice(slot, slot + 1))
    header["model"] = 0
    vector = desk.shard._rows.bytes[slot : slot + 1].view(desk.shard.layout.full)[0, 0]["vector"]
    vector[:] = 0
    assert ids(desk.ask("list")) == ids(usual)
    assert header["model"].tolist() == [0]


def test_catalogue_changes_count_at_once(desk: Desk) -> None:
    desk.did("i7")
    first = ids(desk.ask("list"))[0]
    for row in range(1, 201):
        desk.catalogue.put(Item(f"i{row}", available=f"i{row}" != first))
    assert first not in ids(desk.ask("list"))
    size = desk.engine.model.rows
    for number in range(size):  # more than the table has room for
        desk.catalogue.put(Item(f"new{number}"))
    answer = desk.ask("rank", candidates=["new3", "i1"])
    assert {item.item_id: item.mark for item in answer.items} == {
        "new3": msgspec.UNSET,
        "i1": msgspec.UNSET,
    }
    assert all(item.score > 0 for item in answer.items)
    assert isinstance(answer.items[0], AnsweredItem)
    assert item_hash("new3") == int(desk.catalogue.hashes[desk.catalogue.rows(["new3"])[0]])
