"""Answers to requests, from bytes to bytes: each type, and that none of them changes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from export.bundle import write_bundle
from stream.config import Placement
from stream.contracts import Answer, AnsweredItem, Item, Request, decode_answer, item_hash
from stream.core.answers.candidates import mixed
from stream.core.answers.neighbours import BoughtTogether
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.micro_batch import PartResult
from stream.core.model import Model
from stream.core.pseudonyms import Pseudonyms
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import RING_ENTRY
from stream.kafka.batches import RecordBatch
from stream.placements import Items, Rule, Shoppers
from tests.support.bundles import random_decay_bundle, recent_model
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
PLACEMENTS = {
    "home": Placement(k=10, exclude_seen=True),
    "again": Placement(k=5, exclude_seen=False, exclude_bought=False),
    "coupons": Placement(k=3, kinds=("coupon",)),
}


OFTEN = Shoppers(events_from=2)
RULED = {
    "ruled": Placement(
        k=10,
        rules=(
            Rule(do="boost", items=Items(ids=("i5",)), users=OFTEN, add=3.0),
            Rule(do="leave_out", items=Items(ids=("i6",)), users=OFTEN),
        ),
    ),
    "basket": Placement(k=5, based_on="cart", exclude_in_cart=True),
    "varied": Placement(k=6, diversity=5.0),
    "ads": Placement(k=3, by_bid=True),
}


class Desk:
    """An engine with one shard, sent events and asked requests."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        ring: int = 10,
        secret: bytes | None = None,
        placements: dict[str, Placement] = PLACEMENTS,
    ) -> None:
        self.catalogue = Catalogue(bundle.item_ids)
        self.engine = Engine(
            Model(bundle, "cpu"),
            self.catalogue,
            kinds={"clicks": "clicks", "purchases": "purchases", "requests": "requests"},
            placements=placements,
            ring=ring,
            pseudonyms=Pseudonyms(secret),
        )
        self.shard: UserShard = self.engine.new_shard(0, 1)
        self.offset = 0

    def batch(self, topic: str, records: list[dict[str, Any]]) -> RecordBatch:
        first, self.offset = self.offset, self.offset + len(records)
        return RecordBatch(
            topic,
            0,
            first,
            self.offset,
            [str(record["user_id"]).encode() for record in records],
            [msgspec.json.encode(record) for record in records],
            list(range(first, self.offset)),
            [NOW_MS] * len(records),
        )

    def did(self, *items: str, user: str = "u", kind: str = "click", at_ms: int = NOW_MS) -> Any:
        """Events of a user, one after the other; answers the user's last list."""
        topic = "purchases" if kind == "purchase" else "clicks"
        records = [
            {"user_id": user, "item_id": item, "type": kind, "event_time_ms": at_ms}
            for item in items
        ]
        (result,) = self.engine.step([Part(self.shard, self.batch(topic, records))], NOW_MS).parts
        return msgspec.json.decode(result.list_values[-1])["lists"]

    def asked(self, *requests: dict[str, Any], now_ms: int = NOW_MS) -> PartResult:
        records = [
            {"request_id": f"r{number}", "user_id": "u", **request}
            for number, request in enumerate(requests)
        ]
        batch = self.batch("requests", records)
        (result,) = self.engine.step([Part(self.shard, batch)], now_ms).parts
        return result

    def ask(self, kind: str, /, **request: Any) -> Answer:
        result = self.asked({"type": kind, **request})
        assert result.dead_values == []
        (value,) = result.answer_values
        return decode_answer(value)


def ids(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def scores(answer: Answer) -> list[float]:
    return [item.score for item in answer.items]


@pytest.fixture
def desk(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle)


@pytest.fixture(scope="module")
def float_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """States as they are: no rounding between a history and the same without an event."""
    folder: Path = tmp_path_factory.mktemp("float") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, storage="float32")


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
    assert desk.shard.keys == [b"somebody"]
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
    assert desk.shard.keys != [b"u"]
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


# -- candidates ----------------------------------------------------------------------------


def test_candidates_have_the_scores_of_lists(desk: Desk) -> None:
    desk.did("i7", "i9", "i11")
    everything = desk.ask("list", placement="again", k=1000)
    answer = desk.ask("rank", placement="again", candidates=ids(everything)[::-1])
    assert ids(answer) == ids(everything)
    assert scores(answer) == scores(everything)
    assert [item.reason for item in answer.items] == [item.reason for item in everything.items]
    assert all(item.mark is msgspec.UNSET for item in answer.items)


def test_candidates_of_others_do_not_matter(desk: Desk) -> None:
    """They are scored together, each user's for that user alone."""
    desk.did("i7")
    alone = desk.ask("rank", candidates=["i1", "i2", "i3"])
    rank = {"type": "rank", "candidates": ["i1", "i2", "i3"], "request_id": "r0"}
    crowd = [{"type": "rank", "user_id": f"v{n}", "candidates": [f"i{n + 1}"]} for n in range(150)]
    result = desk.asked(rank, *crowd)
    assert decode_answer(result.answer_values[0]) == alone
    assert [ids(decode_answer(v)) for v in result.answer_values[1:]] == [
        [f"i{n + 1}"] for n in range(150)
    ]


def test_candidates_of_an_earlier_request_do_not_come_back(desk: Desk) -> None:
    desk.did("i7")
    listed = desk.ask("list", placement="again", k=1000)
    for some in (slice(0, 5), slice(-5, None)):  # the best first
        answer = desk.ask("rank", placement="again", candidates=ids(listed)[some])
        assert (ids(answer), scores(answer)) == (ids(listed)[some], scores(listed)[some])


def test_no_candidate_is_dropped_and_each_says_what_is_wrong_with_it(desk: Desk) -> None:
    desk.did("i7", kind="purchase")
    desk.did("i8", kind="dislike")
    desk.catalogue.put(Item("c1", kind="coupon"))
    for row in range(1, 201):
        if row != 50:
            desk.catalogue.put(Item(f"i{row}", available=row != 51, price=row))
    candidates = ["i1", "i7", "i8", "c1", "i50", "i51", "who", "i1"]
    answer = desk.ask("rank", candidates=candidates)
    assert sorted(ids(answer)) == sorted(candidates)
    marks = [(item.item_id, item.mark) for item in answer.items]
    assert {mark for mark in marks if mark[0] != "i1"} == {
        ("i7", "excluded"),
        ("i8", "excluded"),
        ("c1", "ineligible"),
        ("i50", "ineligible"),
        ("i51", "ineligible"),
        ("who", "unknown"),
    }
    assert [mark for name, mark in marks if name == "i1"] == [msgspec.UNSET, "repeated"]
    unknown = next(item for item in answer.items if item.mark == "unknown")
    assert (unknown.score, unknown.rank, unknown.reason.code) == (0.0, 8, "unknown")
    assert all(item.score > 0 for item in answer.items if item.mark != "unknown")
    assert {item.price for item in answer.items if item.item_id == "i1"} == {1}


def test_relevance_and_interest_are_mixed(desk: Desk) -> None:
    desk.did("i7")
    candidates = ["i1", "i2", "i3", "i4"]
    by_interest = ids(desk.ask("rank", candidates=candidates))
    relevance = {item: 10.0 + 5 * n for n, item in enumerate(by_interest)}  # the other way round
    given = [relevance[item] for item in candidates]
    for weight, wanted in ((0, by_interest), (1, by_interest[::-1])):
        answer = desk.ask("rank", candidates=candidates, relevance=given, weight=weight)
        assert ids(answer) == wanted
        assert [item.relevance for item in answer.items] == [relevance[i] for i in wanted]
        values = [item.value for item in answer.items]
        assert (values[0], values[-1]) == (1.0, 0.0)
    half = desk.ask("rank", candidates=candidates, relevance=given)
    for item in half.items:
        spread = [x.score for x in half.items]
        interest = (item.score - min(spread)) / (max(spread) - min(spread))
        wanted_value = 0.5 * interest + 0.5 * (item.relevance - 10) / 15  # type: ignore[operator]
        assert item.value == pytest.approx(wanted_value, abs=1e-3)
    assert len(desk.ask("rank", candidates=candidates, k=2).items) == 2


def test_unknown_candidates_keep_the_callers_order_with_its_full_weight(desk: Desk) -> None:
    answer = desk.ask("rank", candidates=["x", "i1", "y"], relevance=[3, 2, 1], weight=1)
    assert ids(answer) == ["x", "i1", "y"]
    assert ids(desk.ask("rank", candidates=["x", "y"])) == ["x", "y"]


def test_no_scale_of_relevance_overflows() -> None:
    some, known = np.array([0.1, 0.2, 0.3], np.float32), np.array([True, True, False])
    values = mixed(some, known, [-1.7e308, 1.7e308, 0.0], 1.0)
    assert values.tolist() == [0.0, 1.0, 0.5]
    assert mixed(some, known, [7.0, 7.0, 7.0], 1.0).tolist() == [1.0, 1.0, 1.0]
    assert mixed(some, known, [0.0, 0.0, 0.0], 0.0).tolist() == [0.0, 1.0, 0.0]


# -- beside an item ------------------------------------------------------------------------


def test_similar_items_are_those_with_the_nearest_vectors(desk: Desk) -> None:
    table = desk.engine.model.bundle.embeddings.astype(np.float64)
    cosines = table @ table[7] / np.maximum(np.linalg.norm(table, axis=1), 1e-9)
    cosines /= np.linalg.norm(table[7])
    cosines[7] = -1
    answer = desk.ask("similar", item_id="i7", k=8)
    assert ids(answer) == [f"i{row}" for row in np.argsort(-cosines)[:8]]
    assert scores(answer) == pytest.approx(np.sort(cosines)[::-1][:8].tolist(), abs=2e-6)
    assert {(i.reason.code, i.reason.item_id) for i in answer.items} == {("similar", "i7")}


def test_similar_items_obey_the_placement(desk: Desk) -> None:
    nearest = ids(desk.ask("similar", item_id="i7", placement="again", k=3))
    desk.did(nearest[0])
    assert nearest[0] not in ids(desk.ask("similar", item_id="i7"))  # seen
    assert ids(desk.ask("similar", item_id="i7", placement="again", k=3)) == nearest
    assert desk.ask("similar", item_id="i7", placement="coupons").items == ()
    for row in range(1, 201):
        desk.catalogue.put(Item(f"i{row}", available=f"i{row}" != nearest[1]))
    again = ids(desk.ask("similar", item_id="i7", placement="again", k=3))
    assert again[:2] == [nearest[0], nearest[2]]


def test_all_items_are_looked_at_however_many_blocks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = desk.ask("similar", item_id="i7", k=30)
    monkeypatch.setattr("stream.core.answers.neighbours._ROWS_AT_ONCE", 20)
    assert desk.ask("similar", item_id="i7", k=30) == whole


def test_an_item_that_nobody_knows_is_said_to_be_unknown(desk: Desk) -> None:
    for kind in ("similar", "together"):
        answer = desk.ask(kind, item_id="who")
        assert (answer.status, answer.items) == ("unknown_item", ())


def test_bought_together_is_counted_among_the_buyers(desk: Desk) -> None:
    for number in range(6):
        desk.did("i1", "i2", user=f"a{number}", kind="purchase")
    for number in range(3):
        desk.did("i3", "i1", "i1", user=f"b{number}", kind="purchase")
    for number in range(2):
        desk.did("i1", "i4", user=f"c{number}", kind="purchase")  # too few to say
    desk.did("i2", "i5", "i5", "i5", user="d", kind="purchase")
    desk.did("i1", user="a0")
    answer = desk.ask("together", item_id="i1", user_id="guest")
    assert answer.basis == "users"
    assert [(i.item_id, i.score) for i in answer.items] == [
        ("i2", pytest.approx(6 / 11, abs=1e-6)),
        ("i3", pytest.approx(3 / 11, abs=1e-6)),
    ]
    assert {(i.reason.code, i.reason.item_id) for i in answer.items} == {("bought_together", "i1")}
    assert ids(desk.ask("together", item_id="i1", k=1, user_id="guest")) == ["i2"]
    assert ids(desk.ask("together", item_id="i1", user_id="a1")) == ["i3"]  # has bought i2


def test_a_buyer_counts_once_and_rings_as_they_are() -> None:
    rings = np.zeros((3, 4), RING_ENTRY)
    rings["item"] = [[5, 6, 6, 7], [5, 5, 8, 0], [6, 7, 8, 9]]
    rings["type"] = [[8, 8, 8, 2], [2, 8, 8, 0], [8, 8, 8, 8]]
    found = BoughtTogether.of(rings, np.uint64(5))
    assert found.buyers == 2
    assert dict(zip(found.items.tolist(), found.counts.tolist(), strict=True)) == {6: 1, 8: 1}


def test_more_pairs_than_there_is_room_for_at_first() -> None:
    rings = np.zeros((100, 50), RING_ENTRY)
    rings["item"] = np.arange(1, 51)
    rings["type"] = 8
    found = BoughtTogether.of(rings, np.uint64(50))
    assert (found.buyers, found.counts.tolist()) == (100, [100] * 49)


def test_without_buyers_the_model_says_what_goes_together(desk: Desk) -> None:
    answer = desk.ask("together", item_id="i7", user_id="guest")
    assert answer.basis == "model"
    desk.did("i7", user="buyer", kind="purchase")
    assert ids(answer) == ids(desk.ask("list", user_id="buyer"))
    assert "i7" not in ids(answer)


def test_trending_waits_for_somebody_who_counts(desk: Desk) -> None:
    answer = desk.ask("trending", kind="product")
    assert (answer.status, answer.items) == ("unavailable", ())

    class Counts:
        def top(self, request: Request, allowed: Any, k: int, now_ms: int) -> Any:
            assert (request.kind, k, now_ms) == ("product", 10, NOW_MS)
            rows = np.flatnonzero(allowed)[:2]
            return rows, np.array([0.9, 0.8], np.float32)

    desk.engine.answers.trending = Counts()
    answer = desk.ask("trending", kind="product")
    assert [(i.item_id, i.score, i.reason.code) for i in answer.items] == [
        ("i1", 0.9, "trending"),
        ("i2", 0.8, "trending"),
    ]


# -- explanations --------------------------------------------------------------------------


def test_a_named_event_was_worth_its_share(float_bundle: Bundle) -> None:
    """Without it in the history the score is lower by as much."""
    history = [("i7", "click"), ("i20", "purchase"), ("i33", "dislike"), ("i41", "view")]
    hour_ms = 3_600_000

    def after(left_out: int | None) -> Answer:
        desk = Desk(float_bundle)
        for number, (item, kind) in enumerate(history):
            if number != left_out:
                at_ms = NOW_MS - (4 - number) * hour_ms
                desk.did(item, kind=kind, at_ms=at_ms)
        return desk.ask("explain", candidates=["i1", "i2", "i3"])

    whole = after(None)
    assert ids(whole) == ["i1", "i2", "i3"]
    named = 0
    for number, (item, kind) in enumerate(history):
        for explained, lacking in zip(whole.items, after(number).items, strict=True):
            assert explained.because is not msgspec.UNSET
            shares = [b.share for b in explained.because if b.item_id == item]
            fell = explained.score - lacking.score
            assert sum(shares) == pytest.approx(fell, abs=3e-6), (item, explained.item_id)
            named += len(shares)
        told = {
            (b.type, b.event_time_ms) for i in whole.items for b in i.because if b.item_id == item
        }  # type: ignore[union-attr]
        assert told <= {(kind, NOW_MS - (4 - number) * hour_ms)}
    assert named > 8


def test_the_largest_shares_are_named_first(float_bundle: Bundle) -> None:
    desk = Desk(float_bundle, ring=30)
    desk.did(*(f"i{row}" for row in range(1, 26)))
    answer = desk.ask("explain", candidates=["i100", "who"])
    known, unknown = answer.items
    shares = [abs(because.share) for because in known.because]  # type: ignore[union-attr]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert (unknown.mark, unknown.because) == ("unknown", ())


def test_a_full_ring_is_explained_too(float_bundle: Bundle) -> None:
    desk = Desk(float_bundle, ring=3)
    desk.did("i1", "i2", "i3", "i4", "i5", kind="like")
    answer = desk.ask("explain", candidates=["i100"])
    assert {b.item_id for b in answer.items[0].because} <= {"i3", "i4", "i5"}  # type: ignore[union-attr]
    assert answer.items[0].because


def test_a_guest_has_nothing_to_explain(desk: Desk) -> None:
    answer = desk.ask("explain", candidates=["i1"], user_id="guest")
    assert answer.items[0].because == ()
    assert answer.items[0].score > 0


def test_models_of_the_last_interactions_are_explained_and_scored(tmp_path: Path) -> None:
    desk = Desk(write_bundle(recent_model(200, 4), tmp_path / "bundle", "recent"))
    desk.did("i1", "i2", "i3")
    everything = desk.ask("list", placement="again", k=1000)
    answer = desk.ask("rank", placement="again", candidates=["i1", "i2", "i3", "i4"])
    by_id = dict(zip(ids(everything), scores(everything), strict=True))
    assert {i.item_id: i.score for i in answer.items} == {
        item: by_id[item] for item in ("i1", "i2", "i3", "i4")
    }
    explained = desk.ask("explain", candidates=["i3"])
    assert explained.items[0].because[0].item_id == "i3"  # type: ignore[index,union-attr]
    assert desk.ask("similar", item_id="i1").items == ()  # its items have no vectors


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
