"""Shops are listed by what they sell, and by their ratings where a placement says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import Item
from stream.core.bundle import Bundle
from tests.support.engine import Shop, items, lists

SELLS = {"near": ("i7", "i8", "i9"), "far": ("i50", "i51"), "empty": ()}


def market(bundle: Bundle, ratings: dict[str, float] | None = None, **rules: Any) -> Shop:
    """Three shops; those that sell something sell two items or more."""
    shop = Shop(bundle, 10, home=Placement(k=5, kinds=("shop",), **rules))
    for name, sold in SELLS.items():
        for item in sold:
            shop.catalogue.put(Item(item, shop=name))
        shop.catalogue.put(Item(name, kind="shop", rating=(ratings or {}).get(name)))
    return shop


def vector(shop: Shop, name: str) -> np.ndarray:
    found: np.ndarray = shop.engine.model.embeddings[shop.catalogue.rows([name])[0]].copy()
    return found


def mean_of(shop: Shop, *sold: str) -> np.ndarray:
    mean = shop.engine.model.embeddings[shop.catalogue.rows(sold)].sum(axis=0)
    unit: np.ndarray = mean / np.linalg.norm(mean)
    return unit


def test_a_shop_is_as_near_as_what_it_sells(decay_bundle: Bundle) -> None:
    shop = market(decay_bundle)
    assert items(shop.step({"item_id": "i8"}))[0] == "near"
    assert items(shop.step({"item_id": "i50", "user_id": "v"}))[0] == "far"
    np.testing.assert_allclose(vector(shop, "near"), mean_of(shop, "i7", "i8", "i9"), atol=1e-6)
    assert not vector(shop, "empty").any()


def test_a_shop_follows_what_it_sells(decay_bundle: Bundle) -> None:
    shop = market(decay_bundle)
    shop.step({"item_id": "i8"})
    shop.catalogue.put(Item("i9", shop="far"))
    shop.catalogue.put(Item("i8", shop="near", available=False))
    shop.catalogue.remove("i51")
    shop.step({"item_id": "i8"})
    np.testing.assert_allclose(vector(shop, "near"), mean_of(shop, "i7"), atol=1e-6)
    np.testing.assert_allclose(vector(shop, "far"), mean_of(shop, "i9", "i50"), atol=1e-6)


def test_a_shop_that_brings_a_vector_keeps_it(decay_bundle: Bundle) -> None:
    shop = market(decay_bundle)
    own = np.eye(16)[3]
    shop.catalogue.put(Item("near", kind="shop", embedding=tuple(own.tolist())))
    shop.step({"item_id": "i8"})
    np.testing.assert_allclose(vector(shop, "near"), own, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.5, -1.0])
def test_ratings_count_as_much_as_a_placement_says(decay_bundle: Bundle, weight: float) -> None:
    def logits(shop: Shop) -> dict[str, float]:
        (record,) = lists(shop.step({"item_id": "i8"}))
        listed = record.lists["home"].items
        return {item.item_id: np.log(item.score / (1 - item.score)) for item in listed}

    plain = logits(market(decay_bundle))
    rated = logits(market(decay_bundle, {"near": 0.5, "far": 5}, rating_weight=weight))
    assert rated["near"] - plain["near"] == pytest.approx(-2.0 * weight, abs=0.02)
    assert rated["far"] - plain["far"] == pytest.approx(2.5 * weight, abs=0.02)
    assert rated["empty"] == pytest.approx(plain["empty"], abs=0.02)
