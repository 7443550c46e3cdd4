"""Rules of a placement: what each does to whose lists, and that it does nothing when it is off."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stream.config import Placement, load_settings
from stream.contracts import Item
from stream.core.bundle import Bundle
from stream.errors import SettingsError
from stream.placements import Items, Rule, Shoppers
from tests.support.engine import NOW_MS, Shop, items, lists

NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC)
HOUR = timedelta(hours=1)
DAY_MS = 86_400_000
ALL = [f"i{row}" for row in range(1, 201)]
Meets = Callable[[Item], bool]


def catalogue() -> list[Item]:
    """Two hundred items, some of which have each attribute."""
    found = []
    for row in range(1, 201):
        found.append(
            Item(
                f"i{row}",
                kind="coupon" if row % 20 == 0 else "product",
                category=("shoes", "hats", None)[row % 3],
                brand=f"b{row % 5}",
                shop=None if row % 7 else "corner",
                price=None if row % 11 == 0 else row / 2,
                tags=("sale", "new") if row % 4 == 0 else (("new",) if row % 6 == 0 else ()),
            )
        )
    return found


def shop_with(bundle: Bundle, *rules: Rule, k: int = 200, ring: int = 10) -> Shop:
    home = Placement(
        k=k, kinds=("product", "coupon"), exclude_seen=False, exclude_bought=False, rules=rules
    )
    shop = Shop(bundle, ring, home=home)
    for item in catalogue():
        shop.catalogue.put(item)
    return shop


def listed(bundle: Bundle, *rules: Rule) -> list[str]:
    return items(shop_with(bundle, *rules).step({"item_id": "i7"}))


CONDITIONS: dict[str, tuple[Items, Meets]] = {
    "ids": (Items(ids=("i3", "i77", "nobody's")), lambda i: i.item_id in ("i3", "i77")),
    "kinds": (Items(kinds=("coupon",)), lambda i: i.kind == "coupon"),
    "categories": (Items(categories=("hats", "coats")), lambda i: i.category == "hats"),
    "brands": (Items(brands=("b1", "b4")), lambda i: i.brand in ("b1", "b4")),
    "shops": (Items(shops=("corner",)), lambda i: i.shop == "corner"),
    "tags": (Items(tags=("sale", "new")), lambda i: bool(i.tags)),
    "one tag": (Items(tags=("sale",)), lambda i: "sale" in i.tags),
    "price_from": (Items(price_from=40), lambda i: i.price is not None and i.price >= 40),
    "price_to": (Items(price_to=5.5), lambda i: i.price is not None and i.price <= 5.5),
    "both": (
        Items(categories=("shoes",), price_to=20.0),
        lambda i: i.category == "shoes" and i.price is not None and i.price <= 20,
    ),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_what_meets_a_condition_is_left_out_kept_or_boosted(bundle: Bundle, condition: str) -> None:
    """All in the exact best k: what is left stands in the order that it had."""
    about, meets = CONDITIONS[condition]
    met = {item.item_id for item in catalogue() if meets(item)}
    assert 0 < len(met) < 200
    best = listed(bundle)
    assert sorted(best) == sorted(ALL)
    assert listed(bundle, Rule("leave_out", about)) == [item for item in best if item not in met]
    assert listed(bundle, Rule("keep", about)) == [item for item in best if item in met]
    (before,) = lists(shop_with(bundle).step({"item_id": "i7"}))
    (after,) = lists(shop_with(bundle, Rule("boost", about, add=0.5)).step({"item_id": "i7"}))
    scores = {item.item_id: item.score for item in before.lists["home"].items}
    for item in after.lists["home"].items:
        odds = scores[item.item_id] / (1 - scores[item.item_id])
        raised = odds * (2.718281828**0.5 if item.item_id in met else 1.0)
        assert item.score == pytest.approx(raised / (1 + raised), abs=2e-6)


def test_a_short_list_is_filled_with_the_best_that_a_rule_leaves(bundle: Bundle) -> None:
    rule = Rule("keep", Items(brands=("b2",)))
    best = [item for item in listed(bundle) if int(item[1:]) % 5 == 2]
    assert items(shop_with(bundle, rule, k=6).step({"item_id": "i7"})) == best[:6]


def test_rules_add_up(bundle: Bundle) -> None:
    both = listed(
        bundle,
        Rule("keep", Items(categories=("hats",))),
        Rule("keep", Items(tags=("sale",))),
        Rule("leave_out", Items(ids=("i4",))),
        Rule("boost", Items(ids=("i4",)), add=50.0),
    )
    wanted = {i.item_id for i in catalogue() if i.category == "hats" and "sale" in i.tags} - {"i4"}
    assert set(both) == wanted


@pytest.mark.parametrize(
    ("start", "end", "on"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + HOUR, None, False),
        (None, NOW, False),
        (NOW - HOUR, NOW + HOUR, True),
    ],
)
def test_a_rule_is_in_force_from_its_start_to_its_end(
    bundle: Bundle, start: datetime | None, end: datetime | None, on: bool
) -> None:
    rule = Rule("leave_out", Items(brands=("b2",)), start=start, end=end)
    assert (len(listed(bundle, rule)) == 160) is on


def test_rules_follow_the_catalogue(bundle: Bundle) -> None:
    shop = shop_with(bundle, Rule("keep", Items(tags=("sale",))))
    assert "i5" not in items(shop.step({"item_id": "i7"}))
    shop.catalogue.put(Item("i5", tags=("sale",)))
    shop.catalogue.put(Item("i4"))
    shown = items(shop.step({"item_id": "i7"}))
    assert "i5" in shown
    assert "i4" not in shown


def history(user: str, *bought: tuple[str, float], kind: str = "purchase") -> list[dict[str, Any]]:
    """Purchases of (item, days ago)."""
    return [
        {
            "user_id": user,
            "item_id": item,
            "type": kind,
            "event_time_ms": NOW_MS - int(days * DAY_MS),
            "unit_price": 40.0 if item == "i80" else 25.25,
            "quantity": 1 if item == "i80" else 2,
        }
        for item, days in bought
    ]


# i1, i2, ... cost 0.5, 1, ...; i1 is a hat, i3 shoes, i11 has no price.
USERS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "one": history("one", ("i80", 2.0)),  # no category, 40.0
    "two": [
        *history("two", ("i101", 30.0)),
        *history("two", ("i3", 20.0)),
    ],  # 50.5 each; shoes 1.5 by the catalogue
    "sorry": [*history("sorry", ("i101", 3.0)), *history("sorry", ("i101", 2.0), kind="cancel")],
}
AUDIENCES: dict[str, tuple[Shoppers, set[str]]] = {
    "purchases_from": (Shoppers(purchases_from=1), {"one", "two"}),
    "purchases_to": (Shoppers(purchases_to=1), {"none", "one", "sorry"}),
    "spent_from": (Shoppers(spent_from=50), {"two"}),
    "spent_to": (Shoppers(spent_to=40.0), {"none", "one", "sorry"}),
    "bought_within_s": (Shoppers(bought_within_s=10 * 86_400.0), {"one", "sorry"}),
    "bought_before_s": (Shoppers(bought_before_s=10 * 86_400.0), {"none", "two"}),
    "categories": (Shoppers(spent_from=1.5, categories=("shoes",)), {"two"}),
    "spent in categories": (Shoppers(spent_from=2.0, categories=("shoes",)), set()),
    "events_from": (Shoppers(events_from=3), {"two", "sorry"}),
    "events_to": (Shoppers(events_to=1), {"none"}),
    "both": (Shoppers(purchases_from=1, bought_within_s=10 * 86_400.0), {"one"}),
}


@pytest.mark.parametrize("do", ["reserve", "leave_out", "boost"])
@pytest.mark.parametrize("audience", AUDIENCES)
def test_a_rule_is_for_the_users_that_it_names(bundle: Bundle, audience: str, do: Any) -> None:
    """A coupon for some, all of whose lists are made in one micro-batch."""
    about, wanted = AUDIENCES[audience]
    rule = Rule(do, Items(ids=("i20",)), about, add=90.0 if do == "boost" else None)
    shop = shop_with(bundle, rule)
    for events in USERS.values():
        if events:
            shop.step(*events)
    made = shop.step(*({"user_id": user, "item_id": "i7"} for user in USERS))
    shown = {
        record.user_id: [item.item_id for item in record.lists["home"].items]
        for record in lists(made)
    }
    assert set(shown) == set(USERS)
    for user, found in shown.items():
        named = user in wanted
        if do == "boost":
            assert (found[0] == "i20") is named
        else:
            assert ("i20" in found) is (named if do == "reserve" else not named)
        assert len(found) >= 199
        alone = shop_with(bundle)
        for events in (USERS[user], [{"user_id": user, "item_id": "i7"}]):
            if events:
                plain = items(alone.step(*events))
        without = [item for item in plain if item != "i20"]
        assert [item for item in found if item != "i20"] == without


REFUSED = {
    "do = 'boost'": "has no add",
    "do = 'keep'\nadd = 1\n[placements.home.rules.items]\nids = ['a']": "has an add",
    "do = 'reserve'": "for all users",
    "do = 'leave_out'": "about every item",
    "do = 'keep'\nitems = {price_from = 2, price_to = 1}": "items.price_from is above",
    "do = 'reserve'\nusers = {spent_from = 2, spent_to = 1}": "users.spent_from is above",
    "do = 'hide'": "must be boost, keep, leave_out or reserve",
    "do = 'boost'\nadd = 1\nstart = 2026-01-02T00:00:00Z\nend = 2026-01-01T00:00:00Z": "ends",
    "do = 'keep'\nitems = {colours = ['red']}": "items.colours: is not a setting",
    "do = 'keep'\nitems = {brands = [5]}": "items.brands: is [5]; must be a list of",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_rule_that_cannot_be_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "freshet.toml"
    file.write_text(f"[placements.home]\nk = 5\n[[placements.home.rules]]\n{text}\n", "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ={})
    said = str(caught.value)
    assert REFUSED[text] in said
    assert f"{file}:" in said
    assert "placements.home.rules[0]" in said


@pytest.fixture(scope="module")
def bundle(decay_bundle: Bundle) -> Bundle:
    return decay_bundle


def test_the_readmes_rules_can_be_loaded(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "stream" / "SETTINGS.md").read_text("utf-8")
    example = readme.partition("<!-- rules -->\n```toml\n")[2].partition("```")[0]
    file = tmp_path / "freshet.toml"
    file.write_text(example, "utf-8")
    (home,) = load_settings(file, environ={}).placements.values()
    assert [rule.do for rule in home.rules] == ["boost", "reserve"]
    assert len(home.pins) == 1
