"""Carts, bids, price bands and what comes back after a while: each acts, and not when it is off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from export.calibration import Calibration
from stream.config import Placement
from stream.contracts import Item
from stream.core.attributes import Attributes
from stream.core.bundle import Bundle
from stream.core.policy.bids import Bids, Found
from stream.placements import Caps, PriceBand
from tests.support.bundles import random_decay_bundle
from tests.support.engine import NOW_MS, Shop, items, lists

DAY_S = 86_400.0
OPEN: dict[str, Any] = {"k": 200, "exclude_seen": False, "exclude_bought": False}


def home(bundle: Bundle, *catalogue: Item, **rules: Any) -> Shop:
    shop = Shop(bundle, 20, home=Placement(**{**OPEN, **rules}))
    for item in catalogue:
        shop.catalogue.put(item)
    return shop


def did(kind: str, item: str, days_ago: float = 0.0) -> dict[str, Any]:
    return {"item_id": item, "type": kind, "event_time_ms": NOW_MS - int(days_ago * DAY_S * 1000)}


# -- what was bought comes back ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "fields", "days", "listed"),
    [
        ({}, {}, 30, False),
        ({"exclude_bought": False}, {}, 0, True),
        ({"bought_window_s": 10 * DAY_S}, {}, 9, False),
        ({"bought_window_s": 10 * DAY_S}, {}, 11, True),
        ({}, {"repurchase_s": 20 * DAY_S}, 19, False),
        ({}, {"repurchase_s": 20 * DAY_S}, 21, True),
        ({"bought_window_s": 10 * DAY_S}, {"repurchase_s": 20 * DAY_S}, 11, False),
    ],
)
def test_what_was_bought_comes_back_after_its_time(
    decay_bundle: Bundle, rules: Any, fields: Any, days: float, listed: bool
) -> None:
    catalogue = [Item(f"i{row}", **(fields if row == 9 else {})) for row in range(1, 201)]
    shop = home(decay_bundle, *catalogue, **{"exclude_bought": True, **rules})
    shop.step(did("purchase", "i9", days))
    assert ("i9" in items(shop.step(did("click", "i7")))) is listed


# -- carts -------------------------------------------------------------------------------------


CARTS: dict[str, tuple[list[tuple[str, str]], set[str]]] = {
    "nothing": ([("click", "i9")], set()),
    "put in": ([("add_to_cart", "i9"), ("add_to_cart", "i10"), ("click", "i9")], {"i9", "i10"}),
    "taken out": ([("add_to_cart", "i9"), ("remove_from_cart", "i9")], set()),
    "put in again": (
        [("add_to_cart", "i9"), ("remove_from_cart", "i9"), ("add_to_cart", "i9")],
        {"i9"},
    ),
    "bought": ([("add_to_cart", "i9"), ("add_to_cart", "i10"), ("purchase", "i9")], {"i10"}),
}


@pytest.mark.parametrize("case", CARTS)
def test_what_is_in_the_cart_is_left_out(decay_bundle: Bundle, case: str) -> None:
    events, inside = CARTS[case]
    for rule in (True, False):
        shop = home(decay_bundle, exclude_in_cart=rule)
        for kind, item in events:
            result = shop.step(did(kind, item))
        everything = {f"i{row}" for row in range(1, 201)}
        assert everything - set(items(result)) == (inside if rule else set())


@pytest.mark.parametrize("case", CARTS)
def test_a_cart_is_what_a_list_is_based_on(tmp_path: Path, case: str) -> None:
    """As that of somebody who only put these items in; with an empty cart it is as usual."""
    # Stored states are not rounded here, as that of a cart never is.
    bundle = random_decay_bundle(tmp_path / "bundle", 200, dim=16, storage="float32")
    events, inside = CARTS[case]
    history = [("view", "i50"), ("purchase", "i60"), *events, ("click", "i70")]
    by_cart = home(bundle, based_on="cart", exclude_in_cart=True)
    plain = home(bundle)
    for kind, item in history:
        (found,) = lists(by_cart.step(did(kind, item)))
        usual = items(plain.step(did(kind, item)))
    other = home(bundle)
    wanted = usual
    for item in sorted(inside, key=[item for _, item in events].index):
        wanted = items(other.step(did("add_to_cart", item)))
    listed = [item.item_id for item in found.lists["home"].items]
    assert listed == [item for item in wanted if item not in inside]
    assert (listed == usual) is (not inside)
    if inside:
        reasons = {item.reason.item_id for item in found.lists["home"].items}
        assert reasons <= {*inside, None}


# -- bids --------------------------------------------------------------------------------------


def ads(seed: int = 0) -> list[Item]:
    bids = np.exp(np.random.default_rng(seed).normal(0, 2, 200)).round(4).tolist()
    return [
        Item(
            f"i{row}",
            kind="ad",
            bid=None if row % 10 == 0 else bids[row - 1],
            category=f"{row % 3}",
        )
        for row in range(1, 201)
    ]


ADS: dict[str, Any] = {"kinds": ("ad",), "by_bid": True, "k": 6}
# Steep, level and steep again, where logits and logits with bids lie.
MAPS = {
    "none": None,
    "flatter": Calibration.of([-9, 1], [-6, -1]),
    "bent": Calibration.of([-900, -14, -8, -6, -5, -3, -1], [-15, -11.5, -11.4, -5, -4.9, 0, 0.01]),
}


@pytest.fixture(scope="module", params=MAPS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("ads") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, calibration=MAPS[request.param])


@pytest.mark.parametrize("pool", [3, 20, 400])
def test_ads_stand_by_bid_times_probability(bundle: Bundle, pool: int) -> None:
    catalogue = ads()
    bid = {item.item_id: item.bid for item in catalogue if item.bid}
    plain = home(bundle, *catalogue, kinds=("ad",))
    (everything,) = lists(plain.step(did("click", "i7")))
    score = {item.item_id: item.score for item in everything.lists["home"].items}
    for theta in (0.0, 0.02):
        wanted = sorted(
            (item for item in bid if score[item] >= theta),
            key=lambda item: -bid[item] * score[item],
        )
        shop = home(bundle, *catalogue, kinds=("ad",), by_bid=True, k=6, pool=pool, theta=theta)
        (found,) = lists(shop.step(did("click", "i7")))
        shown = found.lists["home"].items
        assert [item.item_id for item in shown] == wanted[:6]
        for item in shown:  # the probability itself, without the bid
            assert item.score == pytest.approx(score[item.item_id], abs=2e-6)
    assert list(score)[:6] != wanted[:6]


def test_ads_are_exact_with_caps_as_well_and_follow_their_bids(bundle: Bundle) -> None:
    catalogue = ads(1)
    bid = {item.item_id: item.bid for item in catalogue if item.bid}
    plain = home(bundle, *catalogue, kinds=("ad",))
    (everything,) = lists(plain.step(did("click", "i7")))
    score = {item.item_id: item.score for item in everything.lists["home"].items}
    shop = home(bundle, *catalogue, kinds=("ad",), by_bid=True, k=6, pool=7, caps=Caps(category=2))
    wanted: list[str] = []
    for item in sorted(bid, key=lambda item: -bid[item] * score[item]):
        if sum(int(other[1:]) % 3 == int(item[1:]) % 3 for other in wanted) < 2:
            wanted.append(item)
    assert items(shop.step(did("click", "i7"))) == wanted[:6]
    last = max(score, key=lambda item: -score[item])
    shop.catalogue.put(Item(last, kind="ad", bid=1e9))
    assert items(shop.step(did("click", "i7")))[0] == last


@pytest.mark.parametrize("odd", [1e-9, 1e9])
@pytest.mark.parametrize("kind", ["ad", "product"])
def test_one_odd_bid_changes_nothing_for_the_others(bundle: Bundle, odd: float, kind: str) -> None:
    catalogue = ads(2)
    usual = home(bundle, *catalogue, kinds=("ad",), by_bid=True, k=6)
    wanted = items(usual.step(did("click", "i7")))
    one = Item("i10", kind=kind, bid=odd)  # it had none
    shop = home(bundle, *[one if ad.item_id == "i10" else ad for ad in catalogue], **ADS)
    found = items(shop.step(did("click", "i7")))
    assert [item for item in found if item != "i10"][:5] == wanted[:5]
    assert ("i10" in found) is (odd > 1 and kind == "ad")


class Looked:
    """Bids and scores of some ads, and which levels were asked for."""

    def __init__(self, bids: list[float], scores: list[float]) -> None:
        attributes = Attributes(len(bids) + 1)
        for row, bid in enumerate(bids, 1):
            attributes.put(row, Item(f"i{row}", kind="ad", bid=bid))
        self.bids, self.asked = Bids(attributes), list[tuple[int | None, int]]()
        self._scores = np.array([0, *scores], np.float32)

    def __call__(self, level: int | None, who: NDArray[np.int64], k: int) -> Found:
        self.asked.append((level, k))
        on = np.flatnonzero(self.bids.on(np.arange(len(self._scores)), level))
        best = on[np.argsort(-self._scores[on], kind="stable")][:k]
        rows = np.zeros((len(who), k), np.int64)
        rows[:, : len(best)] = best
        return rows, self._scores[rows]


def test_ads_are_looked_at_no_further_than_bids_can_outdo_scores() -> None:
    looked = Looked([2.0 ** -(row // 10) for row in range(200)], [0.3] * 200)
    rows, scores = looked.bids.best(2, 4, looked)
    assert rows.tolist() == [[1, 2, 3, 4]] * 2
    assert (scores == np.float32(0.3)).all()
    assert [level for level, _ in looked.asked] == [None, 0]


def test_a_level_is_looked_at_until_none_of_it_can_be_worth_more() -> None:
    looked = Looked([1.01, 1.0, 1.39, 0.2], [0.3, 0.295, 0.29, 0.9])
    rows, scores = looked.bids.best(1, 1, looked)
    assert (rows.tolist(), scores.tolist()) == ([[3]], [[np.float32(0.29)]])
    assert looked.asked == [(None, 1), (0, 1), (0, 2), (0, 4)]


# -- price bands -------------------------------------------------------------------------------


def priced() -> list[Item]:
    return [Item(f"i{row}", price=None if row % 50 == 0 else float(row)) for row in range(1, 201)]


@pytest.mark.parametrize(
    ("band", "low", "high"),
    [
        (PriceBand(low=0.5), 50.0, 200.0),
        (PriceBand(high=1.1), 0.0, 110.0),
        (PriceBand(low=0.9, high=1.1), 90.0, 110.0),
        (PriceBand(), 0.0, 200.0),
    ],
)
def test_prices_keep_to_the_users_own_level(
    decay_bundle: Bundle, band: PriceBand, low: float, high: float
) -> None:
    """The median of 99, 99, 101 and 180 is 100; items without a price stay."""
    events = [did("purchase", item) for item in ("i99", "i180", "i101", "i99")]
    shops = [
        home(decay_bundle, *priced(), k=8, pool=9, price_band=band),
        home(decay_bundle, *priced()),
    ]
    for event in [*events, did("click", "i7")]:
        found, best = (items(shop.step(event)) for shop in shops)
    wanted = [item for item in best if int(item[1:]) % 50 == 0 or low <= int(item[1:]) <= high]
    assert found == wanted[:8]


def test_who_bought_nothing_has_the_level_of_what_was_looked_at(decay_bundle: Bundle) -> None:
    band = PriceBand(low=0.9, high=1.1)
    shop = home(decay_bundle, *priced(), price_band=band)
    assert len(items(shop.step(did("click", "i50")))) == 200  # of which no price is known
    found = items(shop.step(did("click", "i120")))
    assert {int(item[1:]) for item in found} == {*range(108, 133), 50, 100, 150, 200}
