"""Budgets of ads: spent evenly, by the clicks of all workers, and never by much too fast."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import EventType, Item
from stream.core.attributes import Attributes
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.policy.pacing import PACE_EVERY_MS, Pacing, pace
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import Merged
from tests.support.engine import NOW_MS, Shop, items
from tests.unit.test_trending import counted, tell

DAY_S = 86_400.0
TAU_S = 3600 / np.log(2)


def spent(budget: float, demand: float, ads: int = 100, days: int = 5) -> float:
    """Mean clicks a day of ads with a bid of 1: `demand`, and fewer as it is lowered."""
    rng, step_s = np.random.default_rng(0), 120.0
    afforded = np.full(ads, budget / DAY_S * TAU_S)
    counts, clicked = np.zeros(ads), 0
    for _ in range(int(days * DAY_S / step_s)):
        counts *= 2 ** (-step_s / 3600)
        new = rng.poisson(demand * pace(counts, afforded) * step_s / DAY_S)
        counts += new
        clicked += new.sum()
    return float(clicked) / days / ads


@pytest.mark.parametrize("budget", [3, 30, 3000])
def test_a_budget_is_spent_and_no_more(budget: float) -> None:
    """The more clicks an ad could have, the nearer it comes; it gives few away that it can afford.

    The first 1.44 half-lives of the five days are earned twice: 1.2 percent.
    """
    little, more, many = (spent(budget, times * budget) / budget for times in (0.5, 3, 30))
    assert 0.3 < little < 0.55
    assert 0.7 < more < 1.05
    assert 0.95 < many < 1.1


def test_paces_fall_from_all_to_nothing() -> None:
    clicks = np.array([0, 85, 94.5, 99.5, 200])
    found = pace(clicks, np.full(5, 100.0))  # at most 99.5
    assert found == pytest.approx([1, 1, 0.5025, 0, 0], abs=1e-3)
    assert pace(np.array([0, 1e-9]), np.full(2, 1e-4)).tolist() == [1, 0]
    assert pace(np.array([0.0]), np.array([0.0])).tolist() == [0]  # without a budget to spend


def test_a_record_replaces_the_budget_and_keeps_the_pace() -> None:
    attributes = Attributes(3)
    attributes.put(1, Item("a", bid=2, budget=86_400))
    assert (attributes.budget_per_s[1], attributes.budgeted.tolist()) == (1, [1])
    attributes.pace(np.array([1]), np.array([0.25]))
    attributes.put(1, Item("a", bid=4, budget=10, budget_period_s=5))
    assert (attributes.bids[1], attributes.budget_per_s[1]) == (1, 2)
    attributes.pace(np.array([1]), np.array([0.0]))
    assert np.isnan(attributes.bids[1])
    attributes.reserve(9)
    assert np.isnan(attributes.bids[[0, 1, 8]]).all()
    attributes.put(1, Item("a", bid=4))
    assert (attributes.bids[1], attributes.budgeted.tolist()) == (4, [])


def ads(bundle: Bundle, *catalogue: Item, counts: Merged | None = None) -> Shop:
    rules = Placement(k=3, kinds=("ad",), by_bid=True, exclude_seen=False)
    shop = Shop(bundle, counts=counts, home=rules)
    for item in catalogue:
        shop.catalogue.put(item)
    return shop


def test_an_ad_that_spends_too_fast_leaves_the_lists_and_comes_back(decay_bundle: Bundle) -> None:
    """Counted by another worker; an ad without a budget, clicked as often, stays."""
    merged, there, clock = Merged(Fading()), Counts(tell_every_ms=0), [0]
    rich, poor = Item("i1", kind="ad", bid=1), Item("i2", kind="ad", bid=1, budget=11)
    shop = ads(decay_bundle, rich, poor, Item("i3", kind="ad", bid=1), counts=merged)

    def listed(at_ms: int) -> set[str]:
        return set(items(shop.step({"item_id": "i7"}, now_ms=at_ms)))

    assert listed(NOW_MS) == {"i1", "i2", "i3"}
    counted(there, [(item, EventType.CLICK, 0) for item in ("i1", "i2")] * 9)
    tell(merged, 0, there, clock)
    assert listed(NOW_MS + PACE_EVERY_MS - 1) == {"i1", "i2", "i3"}, "looked at now and then"
    assert listed(NOW_MS + PACE_EVERY_MS) == {"i1", "i3"}
    later_ms = 12 * 3_600_000
    counted(there, [("i3", EventType.CLICK, later_ms)])
    tell(merged, 0, there, clock)
    assert listed(NOW_MS + later_ms) == {"i1", "i2", "i3"}


def test_an_engine_alone_paces_by_what_it_folds(decay_bundle: Bundle) -> None:
    shop = ads(decay_bundle, Item("i1", kind="ad", bid=1, budget=5), Item("i2", kind="ad", bid=1))
    assert set(items(shop.step({"item_id": "i1"}))) == {"i1", "i2"}
    assert items(shop.step({"item_id": "i7"}, now_ms=NOW_MS + PACE_EVERY_MS)) == ["i2"]


def test_counts_are_compared_with_what_the_budget_affords_in_their_time_constant() -> None:
    """tau = half-life / ln 2: of a budget of 100 clicks an hour, 144 and a quarter, less a half."""

    class Clicked:
        fading = Fading(recent_ms=3_600_000)

        def __init__(self, clicks: float) -> None:
            self.clicks = clicks

        def by_row(self, catalogue: Catalogue, now_ms: int) -> Any:
            return SimpleNamespace(recent=np.array([0.0, self.clicks]))

    catalogue = Catalogue(["a"])
    catalogue.put(Item("a", kind="ad", bid=1, budget=100, budget_period_s=3600))
    for clicks, paced in ((0.89 * 143.77, 1.0), (0.95 * 143.77, 0.5), (143.77, 0.0)):
        Pacing(catalogue, Clicked(clicks)).follow(NOW_MS)  # type: ignore[arg-type]
        assert catalogue.attributes.paces[1] == pytest.approx(paced, abs=0.01)
