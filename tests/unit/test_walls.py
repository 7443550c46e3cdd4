"""Carts, bids, price bands and what comes back after a while: each acts, and not when it is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import write_files
from stream.config import Placement
from stream.contracts import Item
from stream.core.bundle import Bundle, manifest_id
from stream.core.calibration import Calibration
from stream.errors import SettingsError
from stream.placements import Caps, PriceBand
from tests.support.bundles import random_decay_bundle
from tests.unit.test_engine import NOW_MS, Shop, items, lists

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


def test_ads_by_scores_that_are_calibrated_nobody_knows_how_are_refused(tmp_path: Path) -> None:
    new = random_decay_bundle(tmp_path / "new", 50, dim=8, calibration=MAPS["bent"])
    files = {file.name: file.read_bytes() for file in new.path.iterdir()}
    fields = {**json.loads(files["manifest.json"]), "calibration": None}
    fields["id"] = manifest_id(fields)
    old = write_files(files | {"manifest.json": json.dumps(fields).encode()}, tmp_path / "old")
    home(old)
    with pytest.raises(SettingsError, match=r"by_bid: .* train it again, or leave by_bid out"):
        home(old, by_bid=True)


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
