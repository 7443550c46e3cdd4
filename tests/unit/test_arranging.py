"""Lists are arranged as their placement says: each rule acts, and does not when it is off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import Item, ListedItem
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.policy.arranging import Arranging, Wishes
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.pins import PinBoard
from stream.core.policy.placement import Placement as Ranking
from stream.core.policy.ring import Ring
from stream.core.users import Users
from stream.placements import Caps, Pin
from tests.support.bundles import random_decay_bundle
from tests.support.engine import NOW_MS, Shop, items, lists

EVERYTHING = {"exclude_seen": False, "exclude_bought": False}
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("arranging") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, clusters=12)


def home(bundle: Bundle, *catalogue: Item, ring: int = 10, **rules: object) -> Shop:
    shop = Shop(bundle, ring, home=Placement(**{**EVERYTHING, **rules}))  # type: ignore[arg-type]
    for item in catalogue:
        shop.catalogue.put(item)
    return shop


def by_number(number: int, **fields: object) -> list[Item]:
    """All 200 items; those that divide by `number` have these fields."""
    return [
        Item(f"i{row}", **({} if row % number else fields))  # type: ignore[arg-type]
        for row in range(1, 201)
    ]


def listed(shop: Shop) -> list[ListedItem]:
    (record,) = lists(shop.step({"item_id": "i7"}))
    return record.lists["home"].items


def test_without_rules_a_list_is_the_best_items_in_their_order(bundle: Bundle) -> None:
    shop = home(bundle, k=20)
    scores = [item.score for item in listed(shop)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("attribute", ["category", "brand", "shop"])
def test_a_cap_holds_and_costs_nothing_else(bundle: Bundle, attribute: str) -> None:
    """All but three in a hundred items are of one sort: the pool has to grow to fill a list."""
    catalogue = [
        Item(f"i{row}", **{attribute: None if row % 33 == 0 else "common"})  # type: ignore[arg-type]
        for row in range(1, 201)
    ]
    best = items(home(bundle, *catalogue, k=200).step({"item_id": "i7"}))
    capped = home(bundle, *catalogue, k=8, caps=Caps(**{attribute: 3}), pool=9)
    common = [item for item in best if int(item[1:]) % 33]
    wanted = [item for item in best if int(item[1:]) % 33 == 0 or item in common[:3]][:8]
    assert items(capped.step({"item_id": "i7"})) == wanted
    assert items(home(bundle, *catalogue, k=8).step({"item_id": "i7"})) != wanted


def test_a_list_stays_short_where_caps_leave_too_little(bundle: Bundle) -> None:
    catalogue = by_number(1, category="all")
    assert len(listed(home(bundle, *catalogue, k=8, caps=Caps(category=3)))) == 3


def test_pins_stand_at_their_places(bundle: Bundle) -> None:
    best = items(home(bundle, k=200).step({"item_id": "i7"}))
    pins = (Pin(best[150], 1), Pin(best[0], 4), Pin("nobody knows it", 2))
    shown = listed(home(bundle, k=5, pins=pins))
    wanted = [best[150], best[1], best[2], best[0], best[3]]
    assert [item.item_id for item in shown] == wanted
    assert [item.reason.code for item in shown] == ["pinned", "click", "click", "pinned", "click"]
    assert shown[0].score < shown[1].score  # its own, although it stands above


def test_a_pin_is_there_from_its_start_to_its_end(bundle: Bundle) -> None:
    hour = timedelta(hours=1)
    best = items(home(bundle, k=200).step({"item_id": "i7"}))
    for start, end, there in (
        (None, None, True),
        (NOW, None, True),
        (NOW + hour, None, False),
        (None, NOW, False),
        (NOW - hour, NOW + hour, True),
    ):
        shown = items(
            home(bundle, k=5, pins=(Pin(best[9], 2, start, end),)).step({"item_id": "i7"})
        )
        assert (shown[1] == best[9]) is there


def test_a_shorter_list_has_the_pins_of_its_places(bundle: Bundle) -> None:
    board = PinBoard((Pin("i9", 2), Pin("i8", 5)), 3, Catalogue(bundle.item_ids))
    assert board.rows(NOW_MS).tolist() == [0, 9, 0]


def test_a_pin_yields_to_what_the_user_is_not_to_see(bundle: Bundle) -> None:
    shop = home(bundle, *by_number(9, available=False), k=5, pins=(Pin("i8", 1), Pin("i9", 2)))
    shop.step({"item_id": "i8", "type": "dislike"})
    assert not {"i8", "i9"} & {item.item_id for item in listed(shop)}


def test_a_pin_may_be_of_another_kind(bundle: Bundle) -> None:
    shop = home(bundle, *by_number(50, kind="coupon"), k=5, pins=(Pin("i50", 1),))
    assert [item.item_id == "i50" for item in listed(shop)] == [True, *[False] * 4]


def likeness(shop: Shop, shown: list[str]) -> float:
    """Mean cosine of the items of a list."""
    vectors = shop.engine.model.embeddings[shop.catalogue.rows(shown)]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    return float(alike[~np.eye(len(shown), dtype=bool)].mean())


def test_diversity_lists_what_is_less_alike_the_more_the_stronger(bundle: Bundle) -> None:
    event = {"item_id": "i7"}
    shops = [home(bundle, k=10, pool=60, diversity=strength) for strength in (0.0, 8.0, 40.0)]
    shown = [items(shop.step(event)) for shop in shops]
    found = [likeness(shop, one) for shop, one in zip(shops, shown, strict=True)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2] + 0.2
    assert [one[0] for one in shown] == [shown[0][0]] * 3  # the best comes first in any case


class Warm:
    """Explores as much as it is told."""

    def __init__(self, temperature: float, bonus: float = 0.0, favourite: int = 0) -> None:
        self._temperature, self._bonus, self._favourite = temperature, bonus, favourite

    def wishes(self, rows: np.ndarray, scores: np.ndarray, audience: Audience) -> Wishes:
        bonus = np.where(rows == self._favourite, np.float32(self._bonus), np.float32(0))
        return Wishes(np.full(len(rows), self._temperature, np.float32), bonus)

    def new(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros(rows.shape, np.bool_)


def explored(bundle: Bundle, warm: Warm, user: str = "u", offset: int = 100) -> ListedItems:
    shop = home(bundle, k=8)
    shop.offset = offset
    shop.step({"item_id": "i7", "user_id": user})
    rules = Placement(k=8, exclude_seen=False)
    model, catalogue = shop.engine.model, shop.catalogue
    ranking = Ranking("home", rules, model, catalogue, bundle.biases, 40)
    arranging = Arranging(rules, ranking, model, catalogue, warm)
    users = Users.of(shop.shard, [user.encode()])
    ring = Ring.of(model, catalogue, users)
    cause = lists(shop.step({"item_id": "i8", "user_id": user}))[0].cause
    audience = Audience(users, slice(0, 1), users.vectors, ring, [cause], NOW_MS)
    picked = arranging.arrange(*ranking.rank(Basis(users.vectors, ring)), audience)
    assert picked.codes is not None
    assert picked.explored is not None
    assert picked.propensities is not None
    return picked.rows[0], picked.explored[0], picked.propensities[0], picked.codes[0]


ListedItems = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def test_without_a_temperature_nothing_is_explored(bundle: Bundle) -> None:
    rows, others, propensities, codes = explored(bundle, Warm(0.0))
    assert not others.any()
    assert (propensities == 1).all()
    assert (codes == 0).all()
    again, *_ = explored(bundle, Warm(0.0, 9.0, favourite=int(rows[5])))
    assert again[0] == rows[5]  # a bonus in logits


def test_a_replay_draws_the_same_list_and_another_event_or_user_another(bundle: Bundle) -> None:
    first = explored(bundle, Warm(2.0))
    assert first[1].any()
    assert (first[2][first[1]] < 1).all()
    assert (first[3][first[1]] > 0).all()
    again = explored(bundle, Warm(2.0))
    for column, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(column, same)
    assert (explored(bundle, Warm(2.0), offset=101)[0] != first[0]).any()
    assert (explored(bundle, Warm(2.0), user="v")[0] != first[0]).any()
