"""Placements change between two steps: what lists are made by, and what goes on as it was."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from stream.config import Placement
from stream.contracts import Item
from stream.core.bundle import Bundle
from stream.core.micro_batch import PartResult
from stream.core.policy import biases, rules
from stream.kafka.batches import RecordBatch
from stream.observe import Observer
from stream.placements import Caps, Explore, Items, Pin, PriceBand, Rule, Shoppers, Variant
from stream.revision import revision_of
from stream.settings.quality import Quality
from tests.support.engine import NOW_MS, Shop, lists
from tests.support.parts import Part
from tests.unit import test_live_quality as live_quality
from tests.unit.test_placement_rules import catalogue

HOME = Placement(k=10, exclude_seen=False, exclude_bought=False)
SALE = Rule("keep", Items(tags=("sale",)))
FOR_SOME = Rule("boost", Items(brands=("b1",)), Shoppers(events_from=2), add=1.0)
LATER = Rule("leave_out", Items(ids=("i3",)), start=datetime(2100, 1, 1, tzinfo=UTC))


def shop_with(bundle: Bundle, **placements: Placement) -> Shop:
    shop = Shop(bundle, **placements)
    for item in catalogue():
        shop.catalogue.put(item)
    return shop


def change(shop: Shop, **placements: Placement) -> None:
    """Change the settings, a step of another user between all pieces."""
    change = shop.engine.answers.lists.change_to(placements)
    for number, _ in enumerate(change.pieces(NOW_MS)):
        shop.step({"user_id": f"beside{number}", "item_id": "i9"})
    shop.engine.adopt(change)


def shown(shop: Shop, *events: dict[str, Any]) -> list[Any]:
    """Of one user's next record: the lists, and what made them."""
    (record,) = lists(shop.step(*events))
    return [record.lists, record.settings]


OTHERS: dict[str, dict[str, Placement]] = {
    "k": {"home": Placement(k=3, exclude_seen=False)},
    "theta": {"home": Placement(k=10, theta=0.4)},
    "beta": {"home": Placement(k=10, beta=0.01)},
    "kinds": {"home": Placement(k=10, kinds=("coupon",))},
    "exclusions": {"home": Placement(k=10, exclude_seen=True, exclude_bought=True)},
    "caps": {"home": Placement(k=10, caps=Caps(brand=1))},
    "band": {"home": Placement(k=10, price_band=PriceBand(high=2.0))},
    "pins": {"home": Placement(k=10, pins=(Pin("i30", 2),))},
    "rules": {"home": Placement(k=10, rules=(SALE, FOR_SOME, LATER))},
    "draws": {"home": Placement(k=10, explore=Explore(temperature=1.0, optimism=1.0))},
    "cart": {"home": HOME, "cart": Placement(k=4, based_on="cart", exclude_in_cart=True)},
    "names": {"front": HOME},
    "variants": {"home": Placement(k=9, variants={"B": Variant(0.9, Placement(k=2))})},
    "order": {"ads": Placement(k=3, by_bid=True), "home": HOME},
}


@pytest.mark.parametrize("name", OTHERS)
def test_lists_are_those_of_an_engine_that_began_with_the_settings(
    decay_bundle: Bundle, name: str
) -> None:
    """To the bit, and so are the states: with items that change while all is made ready."""
    mine, other = shop_with(decay_bundle, home=HOME), shop_with(decay_bundle, **OTHERS[name])
    # No clicks: items are counted from when on a placement explores.
    events = [{"item_id": "i7", "type": "like"}, {"item_id": "i8", "type": "add_to_cart"}]
    assert shown(mine, *events) != shown(other, *events)
    change = mine.engine.answers.lists.change_to(OTHERS[name])
    late = [Item("i4", tags=("new",), bid=9.0), Item("new", bid=2.0)]
    late += [Item(gone, available=False) for gone in ("i8", "i88", "i20", "i99")]
    pieces = change.pieces(NOW_MS)
    next(pieces, None)
    for shop in (mine, other):
        for item in late:
            shop.catalogue.put(item)
        shop.step({"user_id": "beside", "item_id": "i9", "type": "like"})
    deque(pieces, 0)
    mine.engine.adopt(change)
    for event in ({"item_id": "i3", "type": "like"}, {"item_id": "i9", "type": "purchase"}):
        assert shown(mine, event) == shown(other, event)
    assert mine.step({"item_id": "i1"}).state_values == other.step({"item_id": "i1"}).state_values


def test_a_table_that_grows_meanwhile_is_followed(
    decay_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(biases, "PIECE_ROWS", 64)
    settings = {"home": Placement(k=10, kinds=("product", "ad"), rules=(FOR_SOME,))}
    mine, other = shop_with(decay_bundle, home=HOME), shop_with(decay_bundle, **settings)
    rows = mine.engine.model.rows
    vector = tuple(mine.engine.model.embeddings[7].tolist())
    new = [Item(f"new{number}", kind="ad", embedding=vector) for number in range(rows)]
    change = mine.engine.answers.lists.change_to(settings)
    pieces = 0
    for _ in change.pieces(NOW_MS):
        pieces += 1
        if pieces == 2:
            for item in new:
                mine.catalogue.put(item)
            mine.step({"user_id": "beside", "item_id": "i9"})
    assert pieces > 2 * 200 / 64  # for users with few events and with many
    assert mine.engine.model.rows > rows
    mine.engine.adopt(change)
    for item in new:
        other.catalogue.put(item)
    events = [{"item_id": "i7"}, {"item_id": "i7"}]
    (of_mine, _), (of_other, _) = shown(mine, *events), shown(other, *events)
    assert of_mine == of_other
    assert any(item.item_id.startswith("new") for item in of_mine["home"].items)


def test_records_say_which_settings_made_them(decay_bundle: Bundle) -> None:
    shop = shop_with(decay_bundle, home=HOME)
    (_, first) = shown(shop, {"item_id": "i7"})
    change(shop, home=Placement(k=3))
    (_, second) = shown(shop, {"item_id": "i7"})
    change(shop, home=HOME)
    (_, third) = shown(shop, {"item_id": "i7"})
    assert first == third == revision_of({"home": HOME})
    assert second == revision_of({"home": Placement(k=3)}) != first


def test_a_list_that_shows_the_same_is_sent_once_more_by_other_settings(
    decay_bundle: Bundle,
) -> None:
    shop = Shop(decay_bundle, home=HOME)
    shop.engine.answers.lists.hashes, shop.engine._resend_after_ms = True, 1e9
    impression = {"item_id": "i7", "type": "impression"}
    assert [len(shop.step(impression).list_values) for _ in range(2)] == [1, 0]
    change = shop.engine.answers.lists.change_to({"home": Placement(k=10, exclude_seen=False)})
    deque(change.pieces(NOW_MS), 0)
    shop.engine.adopt(change)
    assert [len(shop.step(impression).list_values) for _ in range(2)] == [1, 0]


def test_a_revision_is_that_of_what_settings_mean() -> None:
    assert revision_of({"home": Placement(k=20)}) == revision_of({"home": Placement()})
    two = {"a": Placement(), "b": Placement(k=5)}
    assert len({revision_of(of) for of in (two, dict(reversed(two.items())), {"a": two["a"]})}) == 3
    assert len(revision_of(two)) == 12


def test_what_takes_long_is_made_only_where_it_changes(decay_bundle: Bundle) -> None:
    shop = shop_with(decay_bundle, home=HOME, mail=Placement(k=5, rules=(SALE,)))
    shop.step({"item_id": "i7"})
    before = [shop.engine.answers.lists.placement(name).by_rules for name in ("home", "mail")]
    ads = Placement(k=2, kinds=("ad",))
    home = Placement(k=2, beta=3.0, diversity=1.0, pins=(Pin("i1", 1),), explore=Explore(1.0))
    prepared = shop.engine.answers.lists.change_to(
        {"home": home, "mail": Placement(k=5), "ads": ads}
    )
    assert sorted(prepared._made) == ["ads", "mail"]
    change(shop, home=home, mail=Placement(k=5), ads=ads)
    after = [shop.engine.answers.lists.placement(name).by_rules for name in ("home", "mail")]
    assert (after[0] is before[0], after[1] is before[1]) == (True, False)


def test_nothing_is_left_to_be_made_in_a_step(
    decay_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = shop_with(decay_bundle, home=HOME)
    change(shop, home=Placement(k=10, rules=(SALE, FOR_SOME, LATER)))
    made = shop.engine.answers.lists.placement("home").by_rules
    monkeypatch.setattr(made, "_keep", None)
    shop.step({"item_id": "i7"})  # by one rule
    shop.step({"item_id": "i7"}, {"item_id": "i8"})  # by two


def test_of_many_rules_for_some_users_a_few_are_made_ahead(decay_bundle: Bundle) -> None:
    shop = shop_with(decay_bundle, home=HOME)
    many = tuple(
        Rule("boost", users=Shoppers(events_from=number), add=0.1) for number in range(1, 6)
    )
    off = Rule("boost", add=0.1, end=datetime.fromtimestamp(NOW_MS / 1000, UTC) - timedelta(1))
    found = rules.Rules((SALE, off, *many), shop.catalogue).likely(NOW_MS)
    assert found == [1, 1 + 4, 1 + 8, 1 + 16, 1 + 32, 1 + 64, 1 + 4 + 8, 1 + 4 + 16]


def test_what_was_learned_goes_on_where_it_means_the_same(decay_bundle: Bundle) -> None:
    explore = Explore(temperature=0.5)
    shop = shop_with(decay_bundle, home=Placement(k=10, explore=explore))
    seen = {"item_id": "i3", "placement": "home"}
    shop.step({**seen, "type": "impression"}, seen)

    def learned() -> list[float]:
        payoffs = shop.engine.answers.lists._explorers["home"].payoffs
        return [float(payoffs.impressions.sum()), float(payoffs.clicks.sum())]

    assert learned() == [1, 1]
    same = Explore(temperature=0.5, optimism=1.0, half_life_s=60.0)
    change(shop, home=Placement(k=4, diversity=1.0, explore=same))
    assert learned() == [1, 1]
    later_ms = NOW_MS + 60_000
    batch = shop.batch({**seen, "event_time_ms": later_ms})
    sent = dataclasses.replace(batch, timestamps_ms=[later_ms])
    shop.engine.step([Part(shop.shard, sent)], later_ms)
    assert learned() == pytest.approx([0.5, 1.5])  # by the new half-life from now on
    change(shop, home=Placement(k=10, explore=Explore(temperature=0.7)))
    assert learned() == [0, 0]  # of other temperatures
    shop.step(seen, seen)
    assert learned() == [0, 2]
    change(shop, home=Placement(k=10, explore=same))
    assert learned() == pytest.approx([0.5, 1.5])  # which are these once more


def test_a_placement_that_is_gone_is_counted_no_more(decay_bundle: Bundle) -> None:
    explore = Explore(temperature=0.5)
    shop = shop_with(decay_bundle, home=HOME, mail=Placement(explore=explore))
    change(shop, home=HOME)
    result = shop.step({"item_id": "i3", "placement": "mail"})
    assert result.folded == 1
    assert result.lists_by_arm == {"home": 1}


def arms_shown() -> set[tuple[str, str]]:
    """Placements and variants of which there is any series."""
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    return {
        (sample.labels["placement"], sample.labels.get("variant", "default"))
        for sample in samples
        if "placement" in sample.labels
    }


def test_series_of_placements_and_variants_that_are_gone_go_with_them(decay_bundle: Bundle) -> None:
    shop = live_quality.Shop(decay_bundle, Quality(places=6))
    lists_of = shop.engine.answers.lists
    observer = Observer(shop.engine.quality, lists=lists_of)
    made = RecordBatch("clicks", 0, 0, 1, [b"u"], [b""], [0], [0])

    def adopt(**placements: Placement) -> None:
        change = lists_of.change_to(placements)
        deque(change.pieces(NOW_MS), 0)
        shop.engine.adopt(change)
        observer.follow()

    def published(**labels: str) -> float | None:
        return REGISTRY.get_sample_value("freshet_lists_total", labels)

    tested = Placement(k=3, variants={"B": Variant(share=0.5, placement=Placement(k=2))})
    adopt(home=tested, mail=HOME)
    assert arms_shown() == {("home", "default"), ("home", "B"), ("mail", "default")}
    assert published(placement="mail", variant="default") == 0, "from the start"
    observer.stepped(shop.step({("clicks", 0): [live_quality.event("u", "i7")]}))
    before = PartResult(lists_by_arm={"home": 1, "home/B": 2, "mail": 4})
    observer.acked(made, before, begun_s=1.0, sent_s=2.0)
    adopt(home=Placement(k=3))
    observer.acked(made, before, begun_s=1.0, sent_s=2.0)  # it was under way
    assert arms_shown() == {("home", "default")}
    assert published(placement="home", variant="default") == 2, "it went on"
    adopt(home=Placement(k=3), mail=HOME)
    assert published(placement="mail", variant="default") == 0


def test_what_comes_of_lists_is_watched_in_the_new_ones(decay_bundle: Bundle) -> None:
    """Lists of other placements or lengths are new ones; those by other rules are looked up."""
    shop = live_quality.Shop(decay_bundle, Quality(places=6))
    observer = Observer(shop.engine.quality)

    def adopt(**placements: Placement) -> None:
        change = shop.engine.answers.lists.change_to(placements)
        deque(change.pieces(NOW_MS), 0)
        shop.engine.adopt(change)
        observer.follow()

    def places(*users: str) -> dict[tuple[str, ...], int]:
        """How many places were made, and how many events looked up, by placement."""
        found = live_quality.click(shop, *[live_quality.event(user, "i7") for user in users])
        counted = Counter[tuple[str, ...]]()
        for of, count in live_quality.named(found).items():
            if of[0] in ("made", "looked_up"):
                counted[of[:2]] += count
        return dict(counted)

    def shown(placement: str) -> float | None:
        name = "freshet_quality_coverage_ratio"
        return REGISTRY.get_sample_value(name, {"placement": placement})

    places("u")
    assert shown("coupons") is not None
    home, long = live_quality.PLACEMENTS["home"], live_quality.PLACEMENTS["long"]
    adopt(top=Placement(k=2, exclude_seen=False), home=home)
    assert places("u") == {("made", "top"): 2, ("made", "home"): 4}
    covered = shop.engine.quality.coverage("home", NOW_MS)
    adopt(home=home, top=Placement(k=2, theta=0.01, exclude_seen=False), long=long)
    assert shop.engine.quality.coverage("home", NOW_MS) == covered > 0
    made = {("made", "home"): 4, ("made", "top"): 2, ("made", "long"): 6}
    assert places("u") == made
    adopt(home=home, top=Placement(k=2, exclude_seen=False), long=long)
    looked_up = {("looked_up", name): 1 for name in ("home", "top", "long")}
    assert places("u") == made | looked_up
    assert shown("coupons") is None
    assert shown("top") == 0  # of long ago
