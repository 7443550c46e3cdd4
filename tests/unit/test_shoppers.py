"""The sample, and simulated shoppers on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.cli.shoppers import (
    LOOKED_AT,
    MISLED,
    TEMPTED,
    Shop,
    Tally,
    category_of,
    is_simulated,
    to_choose_from,
)
from stream.cli.simulate import event_record
from stream.contracts import EVENT_TYPES, Item, Kind, decode_events, event_hash
from stream.demo import sample
from stream.errors import FreshetError


def test_sample_has_a_catalogue_and_baskets_worth_watching() -> None:
    catalogue = dict(sample.catalogue())
    baskets = sample.read_baskets()
    steps = list(sample.visits(baskets, shoppers=3))
    assert len(catalogue) > 1000
    assert len({user_id for user_id, _, _ in steps}) == 3
    assert {event_type for _, event_type, _ in steps} == {"click", "purchase"}
    assert len({user_id for user_id, _, _ in steps[:3]}) == 3
    assert all(item_id.encode() in catalogue for item_id in sample.favourite_items(baskets, 2))


def test_missing_sample_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "EVENTS", tmp_path / "gone.gz")
    with pytest.raises(FreshetError, match=r"gone\.gz"):
        sample.read_baskets()


def test_shoppers_of_one_seed_are_the_same_and_click_within_their_tastes() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}") for n in range(400)}
    shops = [Shop(items, 50, seed=7) for _ in range(2)]
    assert [s.tastes for s in shops[0].shoppers] == [s.tastes for s in shops[1].shoppers]
    assert [s.tastes for s in shops[0].shoppers] != [s.tastes for s in Shop(items, 50, 8).shoppers]

    shop, liked, random_lists = shops[0], Tally(), Tally()
    for shopper in shop.shoppers * 40:
        for tally, shown in (
            (liked, [n for n in items if category_of(items[n]) in shopper.tastes][:8]),
            (random_lists, list(items)[: 20 * 8 : 19]),
        ):
            shopper.shown, shopper.wants = shown, None
            shop.act(shopper, tally)
    assert liked.clicks / liked.looks > 0.8
    assert abs(random_lists.clicks / random_lists.looks - shop.chance_of_random_list()) < 0.1


def test_what_shoppers_send_can_be_used() -> None:
    shop = Shop({"i1": Item("i1", title="RED BAG"), "i2": Item("i2", title="BLUE BAG")}, 3, seed=1)
    assert category_of(Item("i1", title="red bag")) == "BAG"
    now_ms, tally, did = 1_700_000_000_000, Tally(), set()
    for number in range(500):
        shopper = shop.next_shopper()
        shopper.shown, shopper.shown_name = ["i2", "i1"], f"list-{number}"
        done, item_id, listed = shop.act(shopper, tally)
        did.add((done, listed))
        value = event_record(
            shopper.user_id,
            done,
            item_id,
            event_id=f"e{number}",
            time_ms=now_ms,
            on={"placement": "home", "list_name": shopper.list_name or ""} if listed else {},
        )
        kind: Kind = "purchases" if done == "purchase" else "clicks"
        events, rejections = decode_events(kind, [shopper.user_id.encode()], [value], [0], now_ms)
        assert not rejections
        assert (events.items, events.types.tolist()) == ([item_id], [EVENT_TYPES[done]])
        assert events.event_hashes.tolist() == [event_hash(f"e{number}")]
        assert (b'"placement":"home"' in value) == listed
        assert events.list_names == [f"list-{number}" if listed else None]
    assert did == {("view", False), ("click", True), ("purchase", False)}


def test_regret_is_what_the_best_list_for_these_tastes_has_more() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}") for n in range(400)}
    shop = Shop(items, 30, seed=3)
    for shopper in shop.shoppers:
        liked = [n for n in items if category_of(items[n]) in shopper.tastes]
        other = [n for n in items if n not in liked]
        for shown in (liked, liked[:3] + other, other):
            tally = Tally()
            while not tally.looks:
                shopper.shown, shopper.wants = shown, None
                shop.act(shopper, tally)
            fits = sum(n in liked for n in shown[:LOOKED_AT])
            stays = (1 - TEMPTED) ** fits * (1 - MISLED) ** (LOOKED_AT - fits)
            regret = stays - (1 - TEMPTED) ** LOOKED_AT
            assert tally.report()["regret"] == pytest.approx(regret, abs=1e-4)
            assert shopper.saw == shown[: len(shopper.saw)]


def test_tastes_drift_and_new_items_arrive() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}", price=n) for n in range(400)}
    still, shop = Shop(items, 5, seed=4), Shop(items, 5, seed=4, drift=0.5)
    before = [shopper.tastes for shopper in shop.shoppers]
    for one in (still, shop):
        for _ in range(200):
            one.act(one.next_shopper(), Tally())
    assert [shopper.tastes for shopper in still.shoppers] == before
    assert all(now.tastes != then for now, then in zip(shop.shoppers, before, strict=True))
    new = [shop.arrive() for _ in range(3)]
    assert [item.item_id for item in new] == ["new-4-0", "new-4-1", "new-4-2"]
    (old,) = {old for old in items.values() if old.price == new[0].price}
    assert new[0].category == old.category
    tally, shopper = Tally(), shop.shoppers[0]
    while not tally.looks:
        shopper.shown, shopper.wants = ["new-4-1", "i1", "i2", "i3"], None
        shop.act(shopper, tally)
    assert tally.report()["new_items"] == 0.25
    assert shop.shown_new == {"new-4-1"}
    total = Tally(sent=1, delays_ms=[5])
    total.add(Tally(sent=2, best=0.5, delays_ms=[7]))
    assert total == Tally(sent=3, best=0.5, delays_ms=[5, 7])


def test_shoppers_choose_among_products() -> None:
    items = {"p": Item("p"), "c": Item("c", kind="coupon"), "a": Item("a", kind="ad")}
    assert set(to_choose_from(items)) == {"p"}
    del items["p"]
    assert set(to_choose_from(items)) == {"c", "a"}


def test_simulated_shoppers_are_known_by_their_names() -> None:
    shop = Shop({"i1": Item("i1", title="RED BAG")}, 3, seed=1)
    assert all(is_simulated(shopper.user_id.encode()) for shopper in shop.shoppers)
    assert not is_simulated(b"you-1a2b3c")
    assert not is_simulated(None)
