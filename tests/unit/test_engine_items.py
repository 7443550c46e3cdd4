"""Which items a step lists: what is left out, what is new, what is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import Item
from stream.core.bundle import Bundle
from tests.support.bundles import random_decay_bundle
from tests.support.engine import NOW_MS, Shop, items, lists


@pytest.fixture
def shop(decay_bundle: Bundle) -> Shop:
    return Shop(decay_bundle)


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


def test_a_tombstone_takes_out_the_only_item_of_a_catalogue(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    shop.catalogue.remove("i5")
    assert "i5" not in items(shop.step({"item_id": "i4"}))
    shop.catalogue.put(Item("i6"))
    shop.catalogue.remove("i6")
    assert items(shop.step({"item_id": "i4"})) == []


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


def test_a_score_that_is_written_as_nought_is_not_listed(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, home=Placement(k=10, beta=1000.0))
    (record,) = lists(shop.step({"item_id": "i1"}))
    assert all(item.score > 0 for item in record.lists["home"].items)
