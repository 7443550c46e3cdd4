"""What a list's scores owe to their reasons: without the named event they are lower by so much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET, structs

from export.bundle import write_bundle
from export.calibration import Calibration
from stream.config import Placement
from stream.contracts import EVENT_TYPES, AnsweredItem, RankedList, decode_answer
from stream.core.bundle import Bundle
from stream.placements import Explore, Items, Rule, Shoppers
from stream.settings.weights import Weights
from tests.support.adopting import adopt
from tests.support.bundles import random_decay_bundle, recent_model, with_last_items
from tests.support.desk import Desk
from tests.support.engine import NOW_MS, Shop, lists

HOUR_MS = 3_600_000
KINDS = ["click", "add_to_cart", "view", "add_to_cart", "dislike", "add_to_cart", "like"]
NEWEST_IN_CART = "i101"  # without it, a cart is as of the one before
HISTORY = [
    {"item_id": f"i{20 * at + 1}", "type": kind, "event_time_ms": NOW_MS - (9 - at) * HOUR_MS}
    for at, kind in enumerate([*KINDS, "view"])
]
# What nobody knows tells what time it is, and so how old all others are.
NOW = {"item_id": "unknown", "type": "view"}
SOME = Rule(
    do="boost", items=Items(ids=("i5", "i77", "i120")), users=Shoppers(events_from=2), add=1
)
OUT = Rule(do="leave_out", items=Items(ids=("i6",)))
PLACEMENTS = {
    "plain": Placement(k=20, reason_shares=True, exclude_seen=False),
    "rules": Placement(k=20, reason_shares=True, rules=(SOME, OUT), beta=3.0),
    "diverse": Placement(k=10, reason_shares=True, diversity=2.0),
    "cart": Placement(k=10, reason_shares=True, based_on="cart", exclude_in_cart=True),
}
EVERYTHING = {"k": 200, "exclude_seen": False, "exclude_bought": False, "diversity": 0.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Calibrated, and with states as they are: nothing is rounded."""
    folder: Path = tmp_path_factory.mktemp("shares") / "bundle"
    calibration = Calibration.of([-8, -4, -2, 1], [-7, -5, -2, 0.5])
    return random_decay_bundle(folder, 200, dim=16, storage="float32", calibration=calibration)


def listed(shop: Shop, *history: dict[str, Any]) -> dict[str, RankedList]:
    """A user's lists after these events, as of now; a user beside does other things."""
    shop.step({"user_id": "beside", "item_id": "i9"}, {"user_id": "beside", "item_id": "i50"})
    shop.step(*history)
    beside = {"user_id": "beside", "item_id": "i33", "type": "like"}
    records = {record.user_id: record for record in lists(shop.step(NOW, beside))}
    return records["u"].lists


@pytest.mark.parametrize("name", PLACEMENTS)
def test_without_the_named_event_the_score_falls_by_the_stated_share(
    bundle: Bundle, name: str
) -> None:
    placement = PLACEMENTS[name]
    whole = listed(Shop(bundle, home=placement), *HISTORY)["home"].items
    shown = structs.replace(placement, **EVERYTHING)  # to find every item's score
    scores = {}
    for number in range(len(HISTORY)):
        rest = [event for at, event in enumerate(HISTORY) if at != number]
        lacking = listed(Shop(bundle, home=shown), *rest)["home"].items
        scores[HISTORY[number]["item_id"]] = {item.item_id: item.score for item in lacking}
    told = [item for item in whole if item.reason.code in EVENT_TYPES]
    assert len(told) > 3
    for item in told:
        assert isinstance(item.reason.share, float)
        fell = item.score - scores[item.reason.item_id][item.item_id]
        if name != "cart" or item.reason.item_id != NEWEST_IN_CART:
            assert item.reason.share == pytest.approx(fell, abs=3e-6)
        assert item.reason.share > 1e-4
    assert len({item.reason.item_id for item in told} - {NEWEST_IN_CART}) > 1
    assert all(item.reason.share is UNSET for item in whole if item not in told)


def test_only_placements_that_want_them_have_shares(bundle: Bundle) -> None:
    both = {"home": Placement(k=5), "told": Placement(k=5, reason_shares=True)}
    record = listed(Shop(bundle, **both), *HISTORY)
    assert all(item.reason.share is UNSET for item in record["home"].items)
    assert all(item.reason.share is not UNSET for item in record["told"].items)
    without = [structs.replace(i.reason, share=UNSET) for i in record["told"].items]
    assert without == [item.reason for item in record["home"].items]


def desk_of(bundle: Bundle, *history: dict[str, Any], **placements: Placement) -> Desk:
    """A user did all of it before now, and something that nobody knows now."""
    desk = Desk(bundle, placements=placements)
    for event in [*history, NOW]:
        at_ms = event.get("event_time_ms", NOW_MS)
        desk.did(event["item_id"], kind=event["type"], at_ms=at_ms)
    return desk


DISLIKED = "i81"
CANDIDATES = [*(f"i{number}" for number in range(2, 22)), "nobody", DISLIKED, "i5", "i5"]


@pytest.mark.parametrize("name", ["rules", "cart"])
def test_candidates_lose_the_stated_share_without_the_named_event(
    bundle: Bundle, name: str
) -> None:
    """Also those that the placement would not list."""

    def ranked(*history: dict[str, Any]) -> dict[str, AnsweredItem]:
        desk = desk_of(bundle, *history, home=PLACEMENTS[name])
        items = desk.ask("rank", candidates=CANDIDATES).items
        return {item.item_id: item for item in items}

    whole = ranked(*HISTORY)
    told = [item for item in whole.values() if item.reason.code in EVENT_TYPES]
    lacking = {
        named: ranked(*(event for event in HISTORY if event["item_id"] != named))
        for named in {item.reason.item_id for item in told} - {NEWEST_IN_CART}
    }
    assert len(lacking) > 1
    for item in told:
        assert isinstance(item.reason.share, float)
        if item.reason.item_id in lacking:
            fell = item.score - lacking[item.reason.item_id][item.item_id].score
            assert item.reason.share == pytest.approx(fell, abs=3e-6)
    assert all(item.reason.share is UNSET for item in whole.values() if item not in told)
    assert whole[DISLIKED].mark == "excluded"
    assert isinstance(whole[DISLIKED].reason.share, float)
    assert whole["i6"].mark == ("ineligible" if name == "rules" else UNSET)


def test_answered_lists_have_the_shares_of_published_ones(bundle: Bundle) -> None:
    homes = {**PLACEMENTS, "without": Placement(k=5)}
    desk = desk_of(bundle, *HISTORY, **homes)
    published = desk.did(NOW["item_id"], kind=NOW["type"])
    for name, placement in homes.items():
        items = desk.ask("list", placement=name).items
        assert list(msgspec.to_builtins(items)) == published[name]["items"]
        told = {item.reason.share is not UNSET for item in items}
        assert told == {placement.reason_shares}


@pytest.mark.parametrize("kind", ["list", "rank"])
def test_the_first_fifty_of_an_answer_have_shares(bundle: Bundle, kind: str) -> None:
    desk = desk_of(bundle, *HISTORY, home=PLACEMENTS["plain"])
    asked: dict[str, Any] = {"k": 80}
    if kind == "rank":
        asked["candidates"] = [f"i{number}" for number in range(200, 0, -1)]
        asked["relevance"] = [float(number % 7) for number in range(200)]
    items = desk.ask(kind, **asked).items
    named = [item.rank for item in items if item.reason.code in EVENT_TYPES]
    assert max(named) > 50
    shares = {item.rank: item.reason.share for item in items if item.reason.share is not UNSET}
    assert list(shares) == [rank for rank in named if rank <= 50]
    by_id = {item.item_id: item for item in desk.ask("list", k=50).items}
    for item in items:
        if item.rank in shares and item.item_id in by_id:
            assert shares[item.rank] == by_id[item.item_id].reason.share


def test_candidates_of_several_users_have_the_shares_that_each_has_alone(bundle: Bundle) -> None:
    desk = desk_of(bundle, *HISTORY, home=PLACEMENTS["rules"])
    desk.did("i33", "i34", user="v", kind="like")
    requests = [
        {"type": "rank", "user_id": "v", "candidates": ["i2", "i3", "i4"]},
        {"type": "rank", "user_id": "u", "candidates": ["i9", "i8", "i7", "i6", "i5"], "k": 4},
        {"type": "rank", "user_id": "guest", "candidates": ["i9"]},
    ]
    together = [decode_answer(value) for value in desk.asked(*requests).answer_values]
    for number, request in enumerate(requests):
        (alone,) = desk.asked({"request_id": f"r{number}", **request}).answer_values
        assert decode_answer(alone) == together[number]
    told = [[item.reason.share is not UNSET for item in answer.items] for answer in together]
    assert any(told[0])
    assert any(told[1])
    assert told[2] == [False]


def test_what_is_no_interaction_has_none(bundle: Bundle) -> None:
    always = Placement(k=10, reason_shares=True, explore=Explore(temperature=3.0, adapt=False))
    items = listed(Shop(bundle, home=always), *HISTORY)["home"].items
    assert any(item.explored for item in items)
    assert all((item.reason.code in EVENT_TYPES) == (item.reason.share != UNSET) for item in items)
    guest = lists(Shop(bundle, home=always).step({"item_id": "i7", "type": "dislike"}))
    assert all(item.reason.share is UNSET for item in guest[0].lists["home"].items)


def test_shares_go_by_the_weights_in_force(bundle: Bundle) -> None:
    shop = Shop(bundle, home=PLACEMENTS["plain"])
    weights = Weights(click=1.0, half_lives_s=(7200.0, 60.0))
    adopt(shop.engine, {"home": PLACEMENTS["plain"]}, weights, NOW_MS)
    (record,) = lists(shop.step({"item_id": "i7"}))
    (nothing,) = lists(Shop(bundle, home=structs.replace(PLACEMENTS["plain"], k=200)).step(NOW))
    scores = {item.item_id: item.score for item in nothing.lists["home"].items}
    told = [item for item in record.lists["home"].items if item.reason.code == "click"]
    assert told
    for item in told:
        assert item.reason.share == pytest.approx(item.score - scores[item.item_id], abs=2e-6)


def test_a_model_that_is_no_sum_tells_none(tmp_path: Path) -> None:
    shop = Shop(
        write_bundle(recent_model(50, 4), tmp_path / "b"), home=Placement(reason_shares=True)
    )
    (record,) = lists(shop.step({"item_id": "i7"}))
    assert {item.reason.code for item in record.lists["home"].items} == {"click"}
    assert all(item.reason.share is UNSET for item in record.lists["home"].items)


def test_a_sum_that_is_scored_with_the_last_items_beside_it_tells_none(tmp_path: Path) -> None:
    """The score owes them more than what goes with their part of the sum."""
    home = Placement(k=10, reason_shares=True, exclude_seen=False)
    shop = Shop(with_last_items(tmp_path, 200), home=home)
    (record,) = lists(shop.step({"item_id": "i7", "type": "like"}))
    told = [item for item in record.lists["home"].items if item.reason.code == "like"]
    assert told[0].item_id == "i7"
    assert all(item.reason.share is UNSET for item in told)


def test_users_of_one_batch_have_the_shares_that_they_have_alone(bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    rules = {"home": PLACEMENTS["rules"]}
    events = [
        {"user_id": f"u{rng.integers(0, 150)}", "item_id": f"i{rng.integers(1, 200)}"}
        for _ in range(400)
    ]
    together = {r.user_id: r.lists["home"] for r in lists(Shop(bundle, **rules).step(*events))}
    for user in ("u0", "u77", "u149"):
        mine = [event for event in events if event["user_id"] == user]
        (alone,) = lists(Shop(bundle, **rules).step(*mine))
        for one, other in zip(alone.lists["home"].items, together[user].items, strict=True):
            assert (one.item_id, one.reason.item_id) == (other.item_id, other.reason.item_id)
            assert one.reason.share == pytest.approx(other.reason.share, abs=2e-6)
