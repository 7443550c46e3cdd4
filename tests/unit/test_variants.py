"""Variants of a placement: who gets which, what it is made of, where it is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from stream.config import Placement, load_settings
from stream.contracts import decode_recommendation
from stream.core.bundle import Bundle
from stream.core.mixing import points_of
from stream.core.policy.variants import Deal, arms_of, placement_and_variant
from stream.errors import SettingsError
from stream.kafka.sizes import lists_bytes
from stream.placements import CONTROL, Explore, Pin, Variant
from stream.settings.quality import Quality
from tests.support.desk import Desk
from tests.support.engine import NOW_MS, Shop, lists
from tests.unit import test_live_quality

KEYS = [b"u%d" % number for number in range(20_000)]


def home(**shares: float) -> Placement:
    return Placement(variants={name: Variant(share, Placement()) for name, share in shares.items()})


def dealt(placement: str, **shares: float) -> np.ndarray:
    return Deal(placement, home(**shares), 0).arms(KEYS)


# -- who gets which --------------------------------------------------------------------------


def test_each_variant_gets_its_share_and_nobody_changes() -> None:
    arms = dealt("home", B=0.2, C=0.3)
    np.testing.assert_array_equal(arms, dealt("home", B=0.2, C=0.3))
    assert stats.chisquare(np.bincount(arms), [10_000, 4_000, 6_000]).pvalue > 0.001
    assert (dealt("home", B=1.0) == 1).all()
    # A grown last share takes users of none, and leaves all others where they are.
    grown = dealt("home", B=0.2, C=0.4)
    assert (grown[arms > 0] == arms[arms > 0]).all()
    assert set(arms[grown != arms].tolist()) == {0}


def test_placements_deal_without_each_other() -> None:
    """Also such whose names begin alike, and names are as long as they may be."""
    names = ["home", "mail", "p" * 63 + "1", "p" * 63 + "2"]
    for at, first in enumerate(names):
        for second in names[:at]:
            arms = dealt(first, B=0.5), dealt(second, B=0.5)
            table = stats.contingency.crosstab(*arms).count
            assert stats.chi2_contingency(table).pvalue > 0.001
    assert stats.kstest(points_of(KEYS, salt=b"home"), "uniform").pvalue > 0.001


def test_arms_are_named_by_placement_and_variant() -> None:
    arms = arms_of({"home": home(B=0.5), "mail": Placement()})
    assert list(arms) == ["home", "home/B", "mail"]
    assert [placement_and_variant(arm) for arm in arms] == [
        ("home", CONTROL),
        ("home", "B"),
        ("mail", CONTROL),
    ]


# -- lists -----------------------------------------------------------------------------------


def shop_rules(variant: Placement) -> dict[str, Placement]:
    varied = Placement(k=5, exclude_seen=False, variants={"B": Variant(0.5, variant)})
    return {"home": varied, "mail": Placement(k=3)}


def shop_of(bundle: Bundle, variant: Placement) -> Shop:
    return Shop(bundle, **shop_rules(variant))


def test_users_get_the_lists_of_their_variant(decay_bundle: Bundle) -> None:
    """What an engine without variants would list for each with the variant's settings."""
    pinned = Placement(k=7, exclude_seen=False, pins=(Pin("i9", 1),))
    shop = shop_of(decay_bundle, pinned)
    alone = {
        CONTROL: Shop(decay_bundle, home=Placement(k=5, exclude_seen=False)),
        "B": Shop(decay_bundle, home=pinned),
    }
    users = [f"u{number}" for number in range(40)]
    events = [{"item_id": f"i{1 + number}", "user_id": u} for number, u in enumerate(users)]
    result = shop.step(*events)
    wanted = {name: lists(one.step(*events)) for name, one in alone.items()}
    arms = Deal("home", home(B=0.5), 0).arms([user.encode() for user in users])
    assert 0 < arms.sum() < len(users)
    for number, record in enumerate(lists(result)):
        variant = (CONTROL, "B")[arms[number]]
        found = record.lists["home"]
        assert found.variant == variant
        assert found.items == wanted[variant][number].lists["home"].items
        assert list(record.lists) == ["home", "mail"]
        assert record.lists["mail"].variant is msgspec.UNSET
        assert record.variant == CONTROL
    assert result.lists_by_arm == {
        "home": len(users) - arms.sum(),
        "home/B": arms.sum(),
        "mail": len(users),
    }


def test_a_list_without_variants_names_none(decay_bundle: Bundle) -> None:
    (value,) = Shop(decay_bundle).step({"item_id": "i7"}).list_values
    assert value is not None
    assert set(msgspec.json.decode(value)["lists"]["home"]) == {"items", "name"}
    (value,) = shop_of(decay_bundle, Placement()).step({"item_id": "i7"}).list_values
    assert value is not None
    assert re.search(rb'"variant":"(B|default)"}', value)
    assert msgspec.json.encode(decode_recommendation(value)).count(b'"variant"') == 2


def test_answers_are_those_of_the_users_variant(decay_bundle: Bundle) -> None:
    rules = shop_rules(Placement(k=7, exclude_seen=False, pins=(Pin("i9", 1),)))
    desk = Desk(decay_bundle, placements=rules)
    deal = Deal("home", home(B=0.5), 0)
    users = {int(deal.arms([key])[0]): key.decode() for key in KEYS[:20]}
    for arm, k in ((0, 5), (1, 7)):
        desk.did("i7", user=users[arm])
        answer = desk.ask("list", user_id=users[arm], placement="home")
        assert (answer.placement, answer.variant) == ("home", (CONTROL, "B")[arm])
        assert len(answer.items) == k
        assert (answer.items[0].item_id == "i9") == (arm == 1)
    mail = desk.ask("list", user_id=users[1], placement="mail")
    assert (mail.placement, mail.variant) == ("mail", CONTROL)


def test_what_pays_is_learned_of_each_variants_users(decay_bundle: Bundle) -> None:
    explore = Explore(temperature=0.5)
    rules = Placement(explore=explore, variants={"B": Variant(0.5, Placement(explore=explore))})
    shop = Shop(decay_bundle, home=rules)
    users = [key.decode() for key in KEYS[:30]]
    seen = {"item_id": "i3", "type": "impression", "placement": "home"}
    shop.step(*[{**seen, "user_id": user} for user in users])
    arms = Deal("home", rules, 0).arms(KEYS[:30])
    explorers = shop.engine._lists._explorers
    for number, arm in enumerate(("home", "home/B")):
        assert explorers[arm].payoffs.impressions.sum() == (arms == number).sum()


def test_quality_is_told_by_variant(decay_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of lists, and what users do in them, count for the variant that made them."""
    monkeypatch.setattr(test_live_quality, "PLACEMENTS", shop_rules(Placement(k=7)))
    shop = test_live_quality.Shop(decay_bundle, Quality(users=4000, places=20))
    users = [key.decode() for key in KEYS[:60]]
    arms = Deal("home", home(B=0.5), 0).arms(KEYS[:60])
    happened = [test_live_quality.event(user, "i7") for user in users]
    made = test_live_quality.click(shop, *happened)
    assert [(arm.placement, arm.variant) for arm in made.arms] == [
        ("home", CONTROL),
        ("home", "B"),
        ("mail", CONTROL),
    ]
    counts = (arms == 0).sum(), (arms == 1).sum()
    assert made.made.sum(axis=1).tolist() == [5 * counts[0], 7 * counts[1], 3 * 60]
    found = test_live_quality.click(shop, *happened).looked_up.sum(axis=1)
    assert found.tolist() == [*counts, 60]


# -- settings --------------------------------------------------------------------------------

FILE = """
[placements.home]
k = 12
kinds = ["product", "coupon"]
[placements.home.explore]
temperature = 0.5
optimism = 2.0
[placements.home.variants.B]
share = 0.25
diversity = 3.0
kinds = ["coupon"]
[placements.home.variants.B.explore]
temperature = 0.1
"""


def load(folder: Path, text: str) -> Any:
    file = folder / "freshet.toml"
    file.write_text(text)
    return load_settings(file, environ={})


def test_a_variant_overrides_any_setting_and_keeps_the_others(tmp_path: Path) -> None:
    found = load(tmp_path, FILE).placements["home"]
    (variant,) = found.variants.values()
    assert (found.diversity, found.kinds) == (0.0, ("product", "coupon"))
    assert variant.share == 0.25
    assert variant.placement == Placement(
        k=12, kinds=("coupon",), diversity=3.0, explore=Explore(temperature=0.1, optimism=2.0)
    )


def test_longest_lists_are_those_of_any_variant(tmp_path: Path) -> None:
    sizes = [
        lists_bytes(load(tmp_path, f"{FILE}\n[placements.home.variants.C]\nshare = 0.1\nk = {k}"))
        for k in (5, 12, 13)
    ]
    assert sizes[0] == sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[placements.home.variants.B]\nk = 3", "has no share; add it, a number above 0 to 1"),
        ("[placements.home.variants.B]\nshare = 0", ":2: .*share: is 0; must be a number above 0"),
        (
            "[placements.home.variants.B]\nshare = 0.7\n[placements.home.variants.C]\nshare = 0.4",
            r":4: .*C.share: with it, variants have 1.1 of the users; lower a share",
        ),
        (
            "[placements.home.variants.B]\nshare = 0.7\nk = 0",
            r":3: placements.home.variants.B.k: is 0; must be a whole number",
        ),
        ("[placements.home.variants.B]\nshare = 0.7\nshares = 1", r":3: .*shares: is not a sett"),
        ("[placements.home.variants.default]\nshare = 0.7", "and not default"),
        ('[placements.home.variants."B/C"]\nshare = 0.7', "a variant's name is"),
        ("[placements.home]\nvariants = 3", r":2: .*variants: is 3; must be a table"),
        (
            "[placements.home.variants.B]\nshare = 0.7\n"
            "[placements.home.variants.B.variants.C]\nshare = 1",
            "has variants; a variant has none",
        ),
        (
            '[placements.home]\nk = 9\npins = [{item = "a", place = 8}]\n'
            "[placements.home.variants.B]\nshare = 0.7\nk = 7",
            ":4: .*place: is 8; must be at most the placement's k",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        load(tmp_path, text)


def test_a_replay_finds_everybody_where_they_were(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle, Placement(k=7))
    (first,) = lists(shop.step({"item_id": "i7", "event_id": "one"}))
    (again,) = lists(shop.step({"item_id": "i7", "event_id": "one"}, now_ms=NOW_MS + 10**9))
    assert first.lists["home"] == again.lists["home"]
