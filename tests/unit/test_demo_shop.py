"""The demo's assortment and placements: each rule of its settings is seen to act, in process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from msgspec.structs import asdict, replace

from stream.config import Placement, load_settings
from stream.contracts import ITEM_KINDS, ListedItem, Recommendation, decode_item
from stream.core.bundle import Bundle
from stream.demo import sample, shop
from stream.placements import Caps, Explore, Frequency, PriceBand
from tests.support.engine import NOW_MS, Shop, lists

BUNDLE = Bundle.load(sample.BUNDLE)
ITEMS = {item.item_id: item for item in shop.assortment(BUNDLE)}
PRODUCTS = [item for item in ITEMS.values() if item.kind == "product"]
SETTINGS = load_settings(shop.SETTINGS, environ={})
PLACEMENTS = SETTINGS.placements

LUNCH_BAG, NOTEBOOK, CAKESTAND, NAPKINS = "20727", "20685", "22423", "21080"
PEGS = "22558"  # bought with the notebook


class Did(NamedTuple):
    """What a visitor did; `s` seconds ago."""

    type: str
    item_id: str
    s: float = 0.0

    def event(self, user_id: str) -> dict[str, Any]:
        at_ms = NOW_MS - int(self.s * 1000)
        did = {"user_id": user_id, "item_id": self.item_id, "type": self.type}
        price = {"quantity": 1, "unit_price": ITEMS[self.item_id].price or 0}
        return did | {"event_time_ms": at_ms} | (price if self.type == "purchase" else {})


def ids(found: Sequence[ListedItem]) -> list[str]:
    return [one.item_id for one in found]


def most_of(attribute: str, found: Sequence[ListedItem]) -> int:
    values = (getattr(ITEMS[one.item_id], attribute) for one in found)
    return max(Counter(value for value in values if value).values(), default=0)


def in_category(category: str, count: int) -> list[str]:
    return [item.item_id for item in PRODUCTS if item.category == category][:count]


class Case(NamedTuple):
    """A rule of a placement: what switches it off, and how its work is seen.

    `after` is what the visitor did, `seen` whether the list shows that the rule acts.
    """

    placement: str
    off: Callable[[Placement], Placement]
    after: list[Did]
    seen: Callable[[list[ListedItem]], bool]


def without_rule(number: int) -> Callable[[Placement], Placement]:
    def off(placement: Placement) -> Placement:
        kept = [rule for at, rule in enumerate(placement.rules) if at != number]
        return replace(placement, rules=tuple(kept))

    return off


def having(**fields: Any) -> Callable[[Placement], Placement]:
    return lambda placement: replace(placement, **fields)


LOOKED = [Did("click", LUNCH_BAG)]
BAGS = [Did("click", item_id) for item_id in in_category("Bags", 8)]
SPACEBOY = [Did("click", i.item_id) for i in PRODUCTS if i.brand == "SPACEBOY"][:6]
BOUGHT_BAGS = [Did("purchase", item_id) for item_id in in_category("Bags", 3)]
CHRISTMAS = [Did("purchase", item_id) for item_id in in_category("Christmas", 2)]
DEAR = [Did("purchase", i.item_id) for i in PRODUCTS if (i.price or 0) > 8][:3]
TEA_AD = "ad-loose-leaf-tea-by-post"
LIGHTS_AD = "ad-starlight-chains-ten-metres"
LIGHTS = [Did("click", item_id) for item_id in in_category("Candles & lights", 3)]
BAKING = [Did("click", item_id) for item_id in in_category("Baking", 3)]
TEA = [Did("click", item_id) for item_id in in_category("Tea & mugs", 3)]
ARTICLE = "read-what-your-mug-says-about-you"
SHED = [Did("click", item_id) for item_id in in_category("Garden", 3)]
PARTY = [Did("click", item_id) for item_id in in_category("Party", 3)]
CHEAP = [Did("click", i.item_id) for i in PRODUCTS if (i.price or 9) <= 0.4][:3]


def share_on_sale(found: Sequence[ListedItem]) -> float:
    return sum("sale" in ITEMS[one.item_id].tags for one in found) / len(found)


CASES: dict[str, Case] = {
    "home: the pin": Case(
        "home-steady", having(pins=()), LOOKED, lambda found: found[5].item_id == "23084"
    ),
    "home: a category's cap": Case(
        "home-steady",
        having(caps=Caps(brand=3), diversity=0.0),
        BAGS,
        lambda found: most_of("category", found) <= 4,
    ),
    "home: a brand's cap": Case(
        "home-steady",
        having(caps=Caps(category=4)),
        SPACEBOY,
        lambda found: most_of("brand", found) <= 3,
    ),
    "home: diversity": Case(
        "home-steady", having(diversity=0.0), LOOKED, lambda found: likeness(found) < 0.2
    ),
    "home: the sale": Case(
        "home-steady", without_rule(0), LOOKED, lambda found: share_on_sale(found) > 0.2
    ),
    "home: bought is bought": Case(
        "home-steady",
        having(exclude_bought=False, diversity=0.0),
        [Did("purchase", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
    "home: not what is in the cart": Case(
        "home-steady",
        having(exclude_in_cart=False, diversity=0.0),
        [Did("add_to_cart", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
    "home: exploring": Case(
        "home-curious",
        having(explore=Explore()),
        LOOKED,
        lambda found: any(one.explored for one in found),
    ),
    "home: exploring a little": Case(
        "home",
        having(explore=Explore()),
        LOOKED,
        lambda found: any(one.propensity < 1 for one in found),
    ),
    "product: bought is bought": Case(
        "product",
        having(exclude_bought=False),
        [Did("purchase", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
    "product: not what is in the cart": Case(
        "product",
        having(exclude_in_cart=False),
        [Did("add_to_cart", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
    "product: no giveaways": Case(
        "product",
        without_rule(0),
        CHEAP,
        lambda found: all((ITEMS[one.item_id].price or 0) > 0.4 for one in found),
    ),
    "cart: by the cart alone": Case(
        "cart",
        having(based_on="history"),
        [*BOUGHT_BAGS, Did("add_to_cart", NOTEBOOK)],
        lambda found: {one.reason.item_id for one in found} == {NOTEBOOK},
    ),
    "cart: bought is bought": Case(
        "cart",
        having(exclude_bought=False),
        [Did("purchase", PEGS), Did("add_to_cart", NOTEBOOK)],
        lambda found: PEGS not in ids(found),
    ),
    "cart: not what is in it": Case(
        "cart",
        having(exclude_in_cart=False),
        [Did("add_to_cart", PEGS)],
        lambda found: PEGS not in ids(found),
    ),
    "cart: small things": Case(
        "cart",
        without_rule(0),
        [Did("add_to_cart", CAKESTAND)],
        lambda found: all((ITEMS[one.item_id].price or 0) <= 5 for one in found),
    ),
    "coupons: the welcome is not for customers": Case(
        "coupons",
        without_rule(0),
        [Did("purchase", LUNCH_BAG)],
        lambda found: "coupon-welcome" not in ids(found),
    ),
    "coupons: the regulars' is not for others": Case(
        "coupons", without_rule(1), LOOKED, lambda found: "coupon-regular" not in ids(found)
    ),
    "coupons: the special ones stand first": Case(
        "coupons", without_rule(2), BAGS, lambda found: found[0].item_id == "coupon-welcome"
    ),
    "coupons: not for who buys anyway": Case(
        "coupons",
        without_rule(3),
        CHRISTMAS,
        lambda found: "coupon-christmas" not in ids(found),
    ),
    "coupons: one ended": Case(
        "coupons", without_rule(4), PARTY, lambda found: "coupon-party" not in ids(found)
    ),
    "ads: by bid": Case(
        "ads",
        having(by_bid=False),
        [Did("click", item_id) for item_id in in_category("Stationery", 2)],
        lambda found: found[0].item_id == "ad-christmas-hampers-from-the-dale",
    ),
    "ads: one a shop": Case(
        "ads", having(caps=Caps()), [*BAKING, *TEA], lambda found: most_of("shop", found) == 1
    ),
    "ads: a clicked one rests": Case(
        "ads",
        having(exclude_seen=False),
        [Did("click", TEA_AD)],
        lambda found: TEA_AD not in ids(found),
    ),
    "ads: and comes back": Case(
        "ads",
        having(seen_window_s=None),
        [Did("click", TEA_AD, s=90), Did("click", in_category("Tea & mugs", 1)[0])],
        lambda found: TEA_AD in ids(found),
    ),
    "ads: not a fourth time": Case(
        "ads",
        having(frequency=Frequency()),
        [*[Did("impression", TEA_AD)] * 3, *TEA],
        lambda found: TEA_AD not in ids(found),
    ),
    "ads: until two minutes have passed": Case(
        "ads",
        having(frequency=Frequency(most=3)),
        [*[Did("impression", TEA_AD, s=150)] * 3, *TEA],
        lambda found: TEA_AD in ids(found),
    ),
    "content: read is read": Case(
        "content",
        having(exclude_seen=False),
        [*TEA, Did("click", ARTICLE)],
        lambda found: ARTICLE not in ids(found),
    ),
    "content: and comes back": Case(
        "content",
        having(seen_window_s=None),
        [Did("click", ARTICLE, s=2 * 3600), *TEA],
        lambda found: ARTICLE in ids(found),
    ),
    "shops: ratings": Case(
        "shops", having(rating_weight=0.0), SHED, lambda found: found[0].item_id != "potting-shed"
    ),
    "mail: nothing too cheap": Case(
        "mail",
        having(price_band=PriceBand(high=2.5)),
        DEAR,
        lambda found: all((ITEMS[one.item_id].price or 0) >= 0.4 * 8 for one in found),
    ),
    "mail: nothing too dear": Case(
        "mail",
        having(price_band=PriceBand(low=0.4)),
        CHEAP,
        lambda found: all((ITEMS[one.item_id].price or 0) <= 2.5 * 0.4 for one in found),
    ),
    "mail: diversity": Case(
        "mail", having(diversity=0.0), LOOKED, lambda found: likeness(found) < 0.2
    ),
    "mail: bought is bought": Case(
        "mail",
        having(exclude_bought=False),
        [Did("purchase", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
    "mail: nothing that was seen": Case(
        "mail",
        having(exclude_seen=False),
        [Did("click", CAKESTAND)],
        lambda found: CAKESTAND not in ids(found),
    ),
}


def likeness(found: Sequence[ListedItem]) -> float:
    """Mean cosine of any two."""
    rows = [BUNDLE.item_ids.index(one.item_id) for one in found]
    cosines = BUNDLE.embeddings[rows] @ BUNDLE.embeddings[rows].T
    return float(cosines[np.triu_indices(len(rows), 1)].mean())


@pytest.fixture(scope="module")
def shown() -> dict[str, Recommendation]:
    """Lists of a visitor for each case, with every placement as it is and without each rule."""
    variants = {
        f"off-{at}": case.off(PLACEMENTS[case.placement]) for at, case in enumerate(CASES.values())
    }
    impressions = SETTINGS.state.impressions
    demo = Shop(BUNDLE, 50, impressions=impressions, **PLACEMENTS, **variants)
    for item in ITEMS.values():
        demo.catalogue.put(item)
    did = [(name, done) for name, case in CASES.items() for done in case.after]
    found = {}
    for buys in (True, False):
        events = [done.event(name) for name, done in did if (done.type == "purchase") is buys]
        found |= {record.user_id: record for record in lists(demo.step(*events))}
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_rule_of_the_demo_is_seen_to_act(shown: dict[str, Recommendation], name: str) -> None:
    case = CASES[name]
    off = f"off-{list(CASES).index(name)}"
    assert case.seen(shown[name].lists[case.placement].items)
    assert not case.seen(shown[name].lists[off].items)


def parts(placement: Placement) -> dict[str, Any]:
    """What is set of a placement, by names: of what has settings of its own, each of these."""
    told: dict[str, Any] = {}
    for name, value in asdict(placement).items():
        if name in ("caps", "price_band"):
            told |= {f"{name}.{part}": of for part, of in asdict(value).items()}
        else:
            told[name] = value
    return told


def test_every_rule_of_the_demo_has_a_case() -> None:
    usual, steady = parts(Placement()), PLACEMENTS["home-steady"]
    for name, placement in PLACEMENTS.items():
        told = parts(placement)
        ruled = {part for part in told if told[part] != usual[part]} - {"k", "kinds"}
        if name in ("home", "home-curious"):  # what they have in common is seen of the steady one
            assert replace(placement, explore=steady.explore) == steady
            ruled = {"explore"}
        off = [case.off(placement) for case in CASES.values() if case.placement == name]
        changed = {part for one in off for part, of in parts(one).items() if of != told[part]}
        assert ruled <= changed, f"{name}: {ruled - changed}"
        without = {one.rules for one in off} - {placement.rules}
        assert "rules" not in ruled or len(without) == len(placement.rules), name


def test_no_visitor_sees_an_ad_a_fourth_time_within_its_window() -> None:
    """However often they come: a look each three seconds, at every ad that there is."""
    demo = Shop(BUNDLE, 50, impressions=SETTINGS.state.impressions, ads=PLACEMENTS["ads"])
    for item in ITEMS.values():
        demo.catalogue.put(item)
    most, window_s = PLACEMENTS["ads"].frequency.most, PLACEMENTS["ads"].frequency.window_s
    shown_at: dict[str, list[int]] = {}
    for look in range(45):
        now_ms = NOW_MS + 3_000 * look
        view = {"user_id": "v", "item_id": LUNCH_BAG, "type": "view", "event_time_ms": now_ms}
        (record,) = lists(demo.step(view, now_ms=now_ms))
        seen = ids(record.lists["ads"].items)
        for ad in seen:
            before = shown_at.setdefault(ad, [])
            assert sum(now_ms - at_ms < window_s * 1000 for at_ms in before) < most, (look, ad)
            before.append(now_ms)
        done = [view | {"item_id": ad, "type": "impression"} for ad in seen]
        demo.step(*done, now_ms=now_ms)
    assert max(map(len, shown_at.values())) > most, "and comes back"


@pytest.mark.parametrize("budget", [ITEMS[LIGHTS_AD].budget, None])
def test_an_ad_leaves_the_lists_once_its_budget_is_spent(budget: float | None) -> None:
    demo = Shop(BUNDLE, 50, ads=PLACEMENTS["ads"])
    for item in ITEMS.values():
        if item.kind == "ad" or item.category == "Candles & lights":
            demo.catalogue.put(replace(item, budget=budget if item.item_id == LIGHTS_AD else None))
    shown = []
    for clicks in range(4):
        looked = [done.event(f"visitor {clicks}") for done in LIGHTS]
        (record,) = lists(demo.step(*looked, now_ms=NOW_MS + 2000 * clicks))
        shown.append(LIGHTS_AD in ids(record.lists["ads"].items))
        demo.step(Did("click", LIGHTS_AD).event(f"visitor {clicks}"), now_ms=NOW_MS + 2000 * clicks)
    assert shown == [True, True, True, budget is None]


def test_products_are_real_and_the_rest_is_of_every_kind() -> None:
    real = [decode_item(key, value) for key, value in sample.catalogue()]
    told = [(item.item_id, item.title, item.price) for item in real if item is not None]
    assert [(item.item_id, item.title, item.price) for item in PRODUCTS] == told
    assert {item.kind for item in ITEMS.values()} == set(ITEM_KINDS)
    assert {kind for of in PLACEMENTS.values() for kind in of.kinds} == set(ITEM_KINDS)
    categories = {item.category for item in PRODUCTS}
    shops = {item.item_id for item in ITEMS.values() if item.kind == "shop"}
    assert {item.shop for item in PRODUCTS} == shops
    assert {shop.coupon_of(category) for category in categories if category} <= set(ITEMS)
    assert None not in categories
    assert any(item.repurchase_s for item in PRODUCTS)


@pytest.mark.parametrize(
    ("title", "category", "brand"),
    [
        ("LUNCH BAG RED RETROSPOT", "Bags", "RETROSPOT"),
        ("60 CAKE CASES VINTAGE CHRISTMAS", "Christmas", None),
        ("REGENCY CAKESTAND 3 TIER", "Baking", "REGENCY"),
        ("T-LIGHT HOLDER HANGING LOVE BIRD", "Candles & lights", None),
        ("COCKTAIL SWORDS 50 PIECES", "Home", None),
    ],
)
def test_category_and_brand_are_those_of_the_title(
    title: str, category: str, brand: str | None
) -> None:
    (item,) = (item for item in PRODUCTS if item.title == title)
    assert (item.category, item.brand) == (category, brand)


def test_what_the_model_does_not_know_points_where_its_category_does() -> None:
    table = BUNDLE.embeddings / np.linalg.norm(BUNDLE.embeddings, axis=1, keepdims=True).clip(1e-9)
    of_row = [(ITEMS[item_id].category if item_id else None) for item_id in BUNDLE.item_ids]
    for item in ITEMS.values():
        if item.embedding is not None:
            cosines = table @ np.array(item.embedding)
            of_its = np.array([category == item.category for category in of_row])
            assert cosines[of_its].mean() > 2 * cosines[~of_its].mean(), item.item_id
    assert not any(item.embedding for item in shop.assortment(None))


def test_records_are_what_a_worker_takes() -> None:
    for (key, value), item in zip(shop.records(ITEMS.values()), ITEMS.values(), strict=True):
        assert decode_item(key, value) == item


def test_what_is_used_up_comes_back_after_two_minutes() -> None:
    bought = ITEMS[NAPKINS]
    assert bought.repurchase_s == 120
    home = replace(PLACEMENTS["home-steady"], k=1000, diversity=0.0, caps=Caps())
    demo = Shop(BUNDLE, 50, home=home)
    for item in ITEMS.values():
        demo.catalogue.put(item)
    for age_s, back in ((90, False), (150, True)):
        user = f"after {age_s}"
        demo.step(Did("purchase", NAPKINS, age_s).event(user))
        (record,) = lists(demo.step(Did("click", LUNCH_BAG).event(user)))
        assert (NAPKINS in ids(record.lists["home"].items)) is back
