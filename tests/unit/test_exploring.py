"""How much lists explore: the less the surer an interest is, the more the newer the items are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from stream.config import Placement
from stream.contracts import Cause, EventType, Item, ListedItem
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.manifest import Additive, FadingSum
from stream.core.mixing import points_of
from stream.core.policy.appeal import TRAINED_CLICKS, Appeal
from stream.core.policy.arranging import Arranging
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.exploring import (
    APPEAL_EVERY_MS,
    SEGMENTS,
    Explorer,
    segments,
    temperatures,
)
from stream.core.policy.interest import Interest, Interests
from stream.core.policy.payoffs import MULTIPLIERS, Payoffs
from stream.core.policy.placement import Placement as Ranking
from stream.core.policy.ring import Ring
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import ItemCounts, Merged
from stream.core.statistics.segments import MergedSegments
from stream.core.users import Users
from stream.placements import Caps, Explore, Pin
from tests.support.engine import NOW_MS, Shop, lists

WEIGHTS = {"click": 0.2, "purchase": 1.0, "dislike": -0.8}
DAY_S = 86_400.0
SUMS = Additive((FadingSum(30 * DAY_S, 1.0), FadingSum(7200.0, 0.7)), 0.3)
TABLE = np.concatenate([np.zeros((1, 4)), np.eye(4)]).astype(np.float32)  # four directions


def interest(
    *events: tuple[int, EventType, float], states: NDArray[np.float32] | None = None
) -> Interest:
    """Of one user: events as row of the item, type and age in seconds, newest first."""
    rows = np.array([[row for row, _, _ in events]], np.int64)
    types = np.array([[done for _, done, _ in events]], np.uint8)
    ages_s = np.array([[age_s for _, _, age_s in events]], np.float32)
    newest = np.arange(len(events))[None]
    ring = Ring(rows, types, ages_s, newest)
    blank = np.zeros((1, 8), np.float32)
    return Interests(WEIGHTS, SUMS).of(ring, TABLE, rows, blank if states is None else states)


def evidence(*events: tuple[int, EventType, float]) -> float:
    return float(interest(*events).evidence[0])


BOUGHT, CLICKED = EventType.PURCHASE, EventType.CLICK


def test_evidence_is_the_weight_of_events_that_point_the_same_way() -> None:
    assert evidence((1, BOUGHT, 0.0)) == pytest.approx(1)
    assert evidence((1, BOUGHT, 0.0), (1, CLICKED, 0.0)) == pytest.approx(1.2)
    assert evidence((1, BOUGHT, 0.0), (2, BOUGHT, 0.0)) == pytest.approx(1)  # contradicting
    assert evidence((1, BOUGHT, 0.0), (1, EventType.DISLIKE, 0.0)) == pytest.approx(0.04 / 1.8)
    assert evidence((1, BOUGHT, 30 * DAY_S)) == pytest.approx(0.5)  # old
    assert evidence((0, BOUGHT, 0.0)) == 0  # an item that nobody knows
    assert evidence((1, EventType.IMPRESSION, 0.0)) == 0


def test_a_session_is_fresh_until_it_has_events() -> None:
    assert interest((1, CLICKED, 0.0), (1, CLICKED, 1801.0)).fresh.tolist() == [1.0]
    assert interest((1, CLICKED, 0.0), (1, CLICKED, 1800.0)).fresh.tolist() == [0.5]
    gone = ((1, CLICKED, 0.0), (1, CLICKED, 60.0), (2, CLICKED, 9000.0), (2, CLICKED, 9060.0))
    assert interest(*gone).fresh.tolist() == [0.5]


def test_drift_is_how_far_the_fast_interest_is_from_the_slow_one() -> None:
    for fast, drift in ((TABLE[1], 0.0), (TABLE[2], 0.5), (-TABLE[1], 1.0), (TABLE[0], 0.0)):
        states = np.concatenate([TABLE[1], fast])[None]
        assert interest((1, CLICKED, 0.0), states=states).drift.tolist() == [drift]


@given(st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1))
def test_temperatures_stay_between_nothing_and_the_highest(
    sure: float, fresh: float, drift: float
) -> None:
    known = Interest(*(np.array([value], np.float32) for value in (sure, fresh, drift)))
    rules = Explore(temperature=0.7, fresh=0.5, drift=0.5)
    (found,) = temperatures(rules, known).tolist()
    assert 0 <= found <= np.float32(0.7)
    assert temperatures(Explore(temperature=0.7, adapt=False), known) == np.float32(0.7)


def test_the_surer_an_interest_the_lower_its_temperature() -> None:
    nothing = np.zeros(3, np.float32)
    known = Interest(np.array([0, 0.5, 4], np.float32), nothing, nothing)
    rules = Explore(temperature=1.0, sure_after=0.5)
    assert temperatures(rules, known) == pytest.approx([1, 2**-0.5, 1 / 3])
    assert segments(rules, known).tolist() == [0, 1, 2]
    fresh = known._replace(fresh=np.ones(3, np.float32))
    warmer = temperatures(Explore(temperature=1.0, sure_after=0.5, fresh=0.5), fresh)
    assert warmer == pytest.approx([1, 1, 1 / 3 + 0.5])
    turned = known._replace(drift=np.ones(3, np.float32))
    warmer = temperatures(Explore(temperature=1.0, sure_after=0.5, drift=0.25), turned)
    assert warmer == pytest.approx([1, 2**-0.5 + 0.25, 1 / 3 + 0.25])


# -- items -----------------------------------------------------------------------------------


def appeal(impressions: list[float], clicks: list[float], optimism: float = 1.0) -> Appeal:
    """Of items whose biases have a spread of 1; the last was not trained on."""
    columns = (np.array(column, np.float32) for column in (impressions, clicks))
    bias = np.array([1, -1, 1, -1, 0], np.float32)
    return Appeal.of(*columns, bias, 4, optimism)


def test_appeal_is_the_lift_over_what_biases_foretell() -> None:
    """All expected clicks are 100, but for the items that nobody was shown."""
    shown_up, shown_down = 1000 / np.e, 1000 * np.e
    found = appeal([shown_up, shown_down, shown_up, 0, 0], [150, 50, 100, 0, 0])
    lifts = [(clicks + TRAINED_CLICKS) / (100 + TRAINED_CLICKS) for clicks in (150, 50, 100)]
    assert found.learned == pytest.approx(np.log([*lifts, 1, 1]), abs=1e-5)
    assert found.hoped[[1, 3, 4]] == pytest.approx([58**-0.5, 8**-0.5, 1])
    assert found.new.tolist() == [False, False, False, False, True]
    assert appeal([1, 1, 1, 0, 0], [1, 1, 1, 0, 0], optimism=0.0).hoped.tolist() == [0] * 5


def test_a_shop_that_tells_of_no_impressions_or_of_no_clicks_learns_nothing() -> None:
    assert appeal([0] * 5, [0] * 5).learned.tolist() == [0] * 5
    assert appeal([1e6, 10, 0, 0, 9], [0] * 5).learned.tolist() == [0] * 5


def test_a_new_item_that_nobody_clicks_is_given_up() -> None:
    many, clicks = [1e5] * 4, [10_000.0] * 4
    untried, tried = appeal([*many, 0], [*clicks, 0]), appeal([*many, 200], [*clicks, 0])
    assert untried.learned[4] + untried.hoped[4] == pytest.approx(1)
    assert tried.learned[4] + tried.hoped[4] < -1
    assert (untried.new[4], tried.new[4]) == (True, False)


def optimistic(bundle: Bundle, counts: Merged | None = None) -> Shop:
    rules = Placement(k=10, exclude_seen=False, explore=Explore(optimism=1.0))
    shop = Shop(bundle, counts=counts, home=rules)
    for item_id in bundle.item_ids[1:]:
        shop.catalogue.put(Item(item_id))
    return shop


def rank_of(shop: Shop, item_id: str, now_ms: int) -> int:
    (record,) = lists(shop.step({"item_id": "i7", "user_id": "other"}, now_ms=now_ms))
    places = {item.item_id: item.rank for item in record.lists["home"].items}
    return places.get(item_id, 11)


def test_a_list_follows_what_the_workers_of_other_partitions_count(decay_bundle: Bundle) -> None:
    """The same rows that go to the topic; a worker that nobody tells of them lists as before."""
    merged = Merged(Fading())
    here, alone = optimistic(decay_bundle, merged), optimistic(decay_bundle, Merged(Fading()))
    there = Counts(tell_every_ms=0)
    (record,) = lists(here.step({"item_id": "i7", "user_id": "other"}))
    second, third = (item.item_id for item in record.lists["home"].items[1:3])
    assert rank_of(alone, third, NOW_MS) == 3
    elsewhere = Shop(decay_bundle)
    elsewhere.shard.counts = there
    shown = {"type": "impression"}
    for number in range(10):
        seen = [{"item_id": item, **shown} for item in (second, third)] * 20
        elsewhere.step(*seen, *[{"item_id": third, "user_id": f"u{number}"}] * 10)
    told = there.untold(NOW_MS)
    assert told is not None
    merged.load(3, *told)
    assert rank_of(here, third, NOW_MS + APPEAL_EVERY_MS) == 2
    assert rank_of(alone, third, NOW_MS + APPEAL_EVERY_MS) == 3


def test_an_engine_that_nobody_counts_for_counts_what_it_folds(decay_bundle: Bundle) -> None:
    shop = optimistic(decay_bundle)
    shop.step({"item_id": "i3", "type": "impression"}, {"item_id": "i3", "event_id": "once"})
    shop.step({"item_id": "i3", "event_id": "once"}, {"item_id": "nobody knows it"})
    assert shop.engine._own_counts is not None
    found = shop.engine._own_counts.by_row(shop.catalogue, NOW_MS)
    assert found.impressions[:10].tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert found.clicks[3] == 1
    explorer = shop.engine._lists._explorers["home"]
    explorer._follow(NOW_MS + APPEAL_EVERY_MS)
    assert len(explorer._bonus) == shop.engine.model.rows > len(shop.catalogue)
    assert 0 < explorer._bonus[3] < explorer._bonus[4], "less is hoped of what is known"


# -- what pays -------------------------------------------------------------------------------


def test_users_keep_their_place() -> None:
    keys = [b"u%d" % number for number in range(20_000)]
    first = points_of(keys, person=b"home")
    np.testing.assert_array_equal(first, points_of(keys, person=b"home"))
    assert (first != points_of(keys, person=b"mail")).mean() > 0.99
    assert stats.kstest(first, "uniform").pvalue > 0.001


def test_what_pays_gets_the_users_and_nothing_is_given_up() -> None:
    payoffs = Payoffs(SEGMENTS)
    impressions, clicks = np.zeros((2, *payoffs.shape))
    where = (np.arange(4000) + 0.5) / 4000
    at = np.ones(4000, np.int64)
    before = payoffs.shares.copy()
    assert before[1] == pytest.approx(np.full(4, 0.25), abs=0.05)
    for _ in range(20):
        cells = np.unravel_index(payoffs.cells(at, where), payoffs.shape)
        assert (np.array(MULTIPLIERS)[cells[1]] == payoffs.multipliers(at, where)).all()
        np.add.at(impressions, cells, 100)
        np.add.at(clicks, cells, np.where(cells[1] == 2, 15, 10))
        payoffs.follow(impressions, clicks)
    assert payoffs.shares.sum(axis=1) == pytest.approx(np.ones(SEGMENTS))
    assert payoffs.shares[1].argmax() == 2
    assert payoffs.shares[1, 2] > 0.9
    assert payoffs.shares.min() >= 0.1 / len(MULTIPLIERS) - 1e-12
    np.testing.assert_array_equal(payoffs.shares[0], before[0])  # another segment's
    payoffs.follow(impressions * 2.0**-60, clicks * 2.0**-60)
    assert payoffs.shares[1] == pytest.approx(before[1], abs=0.1)  # it is forgotten


# -- lists -----------------------------------------------------------------------------------


class Counted:
    """Counts of items as a test sets them, by row."""

    def __init__(self, **by_row: tuple[float, float]) -> None:
        self._by_row = {int(name[1:]): counts for name, counts in by_row.items()}

    fading = Fading()
    segments = MergedSegments()

    def by_row(self, catalogue: Catalogue, now_ms: int) -> ItemCounts:
        found = ItemCounts(now_ms, *np.zeros((5, len(catalogue)), np.float32))
        for row, (impressions, clicks) in self._by_row.items():
            found.impressions[row], found.clicks[row] = impressions, clicks
        return found


def shown(bundle: Bundle, explore: Explore, *catalogue: Item, **fields: object) -> list[ListedItem]:
    rules = Placement(k=10, exclude_seen=False, explore=explore)
    shop = Shop(bundle, home=rules)
    for item in catalogue:
        shop.catalogue.put(item)
    (record,) = lists(shop.step({"item_id": "i7", **fields}))
    return record.lists["home"].items


def test_a_placement_that_does_not_explore_says_so(decay_bundle: Bundle) -> None:
    items = shown(decay_bundle, Explore())
    assert {(item.explored, item.propensity) for item in items} == {(False, 1.0)}


def test_a_list_says_what_was_explored_and_how_likely_it_was(decay_bundle: Bundle) -> None:
    items = shown(decay_bundle, Explore(temperature=2.0, adapt=False))
    assert any(item.explored for item in items)
    assert all((item.reason.code == "exploring") == item.explored for item in items)
    assert all(0 < item.propensity < 1 for item in items)


def test_a_sure_interest_explores_less(decay_bundle: Bundle) -> None:
    def explored(sure_after: float) -> int:
        explore = Explore(temperature=2.0, sure_after=sure_after, learn=False)
        return sum(item.explored for item in shown(decay_bundle, explore))

    assert explored(1e-5) < explored(1e5)


def test_a_list_follows_what_has_paid(decay_bundle: Bundle) -> None:
    explore = Explore(temperature=2.0, sure_after=1e5)
    propensities = []
    for multiplier in range(len(MULTIPLIERS)):
        shop = Shop(decay_bundle, home=Placement(k=10, exclude_seen=False, explore=explore))
        payoffs = shop.engine._lists._explorers["home"].payoffs
        payoffs.shares[:] = np.arange(len(MULTIPLIERS)) == multiplier
        (record,) = lists(shop.step({"item_id": "i7"}))
        propensities.append(record.lists["home"].items[0].propensity)
    assert propensities[0] == 1
    assert len(set(propensities)) == len(MULTIPLIERS)


def test_an_optimist_lists_a_new_item_and_says_that_it_is_new(decay_bundle: Bundle) -> None:
    """It is as near to the interest as a trained item that stands further down."""
    catalogue = [Item(item_id) for item_id in decay_bundle.item_ids[1:]]
    rules = Placement(k=10, exclude_seen=False)
    shop = Shop(decay_bundle, home=rules)
    (record,) = lists(shop.step({"item_id": "i7"}))
    last = shop.catalogue.rows([record.lists["home"].items[9].item_id])
    vector = shop.engine.model.embeddings[last[0]]
    new = Item("fresh", embedding=tuple(vector.tolist()))
    explore = Explore(optimism=2.0)
    counted = {f"r{row}": (1000.0, 50.0) for row in range(1, 201)}
    found = {}
    for counts in (None, Counted(**counted)):
        shop = Shop(decay_bundle, home=Placement(k=10, exclude_seen=False, explore=explore))
        shop.engine._lists._explorers["home"]._counts = counts or Counted()
        for item in (*catalogue, new):
            shop.catalogue.put(item)
        (record,) = lists(shop.step({"item_id": "i7"}))
        found[counts is None] = {
            item.item_id: (item.rank, item.reason.code) for item in record.lists["home"].items
        }
    assert found[False]["fresh"][1] == "new"
    assert found[False]["fresh"][0] < found[True].get("fresh", (11, ""))[0]


def test_what_came_of_a_placements_lists_is_counted_once(decay_bundle: Bundle) -> None:
    explore = Explore(temperature=0.5)
    shop = Shop(decay_bundle, home=Placement(k=10, explore=explore), mail=Placement(k=10))
    payoffs = shop.engine._lists._explorers["home"].payoffs
    seen = {"item_id": "i3", "type": "impression", "placement": "home"}
    shop.step(*[{**seen, "event_time_ms": NOW_MS + number} for number in range(5)])
    clicked = {"item_id": "i3", "placement": "home", "event_id": "once"}
    shop.step(clicked, {**clicked, "placement": "mail", "event_id": "other"}, {"item_id": "i4"})
    shop.step(clicked)
    assert payoffs.impressions.sum() == pytest.approx(5)
    assert payoffs.clicks.sum() == pytest.approx(1)
    assert payoffs.impressions[0].max() == 5  # of a user of whom nothing is known


def test_a_placement_that_does_not_learn_counts_nothing(decay_bundle: Bundle) -> None:
    for explore in (Explore(temperature=0.5, adapt=False), Explore(temperature=0.5, learn=False)):
        shop = Shop(decay_bundle, home=Placement(k=10, explore=explore))
        shop.step({"item_id": "i3", "placement": "home"})
        assert shop.engine._lists._explorers["home"].payoffs.clicks.sum() == 0


def test_propensities_are_exact(decay_bundle: Bundle) -> None:
    """100,000 events of one user, each of which draws a list of 3 out of 5: 60 different ones.

    Chi-square of how often each list came against the product of its stated propensities.
    """
    events = 100_000
    shop = Shop(decay_bundle, home=Placement(k=5, exclude_seen=False))
    shop.step({"item_id": "i7"})
    model, catalogue = shop.engine.model, shop.catalogue
    users = Users.of(shop.shard, [b"u"])
    ring = Ring.of(model, catalogue, users)
    rules = Placement(k=5, exclude_seen=False)
    ranking = Ranking("home", rules, model, catalogue, decay_bundle.biases, 5)
    rows, scores = ranking.rank(Basis(users.vectors, ring))
    worth = np.log(scores / (1 - scores))[0].astype(np.float64)
    warmth = float(np.float32((worth[0] - worth[4]) / 2))  # no lottery, and no list is hopeless
    rules = Placement(k=3, pool=5, explore=Explore(temperature=warmth, adapt=False))
    causes = [Cause("clicks", 0, offset, NOW_MS) for offset in range(events)]
    nobody = np.zeros(events, np.int64)
    many = Audience(users, nobody, users.vectors[nobody], ring.take(nobody), causes, NOW_MS)
    explorer = Explorer("home", rules.explore, model, catalogue, Merged(Fading()))
    arranging = Arranging(rules, ranking, model, catalogue, explorer)
    picked = arranging.arrange(rows[nobody], scores[nobody], many)
    assert picked.propensities is not None
    found, first, counts = np.unique(picked.rows, axis=0, return_index=True, return_counts=True)
    assert len(found) == 60
    stated = picked.propensities[first].astype(np.float64).prod(axis=1)
    assert stated.sum() == pytest.approx(1, abs=1e-5)
    assert stats.chisquare(counts, stated / stated.sum() * events).pvalue > 0.001
    # The first place alone, against the formula itself.
    chances = np.exp(worth / warmth)
    firsts = np.array([(picked.rows[:, 0] == row).sum() for row in rows[0]])
    assert stats.chisquare(firsts, chances / chances.sum() * events).pvalue > 0.001


class OfOne:
    """A placement's ranking for many copies of one user: it is asked for one of them."""

    def __init__(self, ranking: Ranking, users: Users, ring: Ring) -> None:
        self._ranking, self._users, self._ring = ranking, users, ring
        self.name, self.bids, self.theta = ranking.name, ranking.bids, ranking.theta
        self.pools: set[int] = set()

    def find(self, audience: Audience, pool: int | None = None, basis: object = None) -> object:
        rows, scores = self._ranking.rank(Basis(self._users.vectors, self._ring), pool)
        self.pools.add(rows.shape[1])
        nobody = np.zeros(len(audience.states), np.int64)
        return rows[nobody], scores[nobody]

    def score_some(
        self, states: NDArray[np.float32], ring: Ring, some: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows, scores = self._ranking.score_some(self._users.vectors, self._ring, some)
        nobody = np.zeros(len(states), np.int64)
        return rows[nobody], scores[nobody]


def chance(
    listed: Sequence[int], order: Sequence[int], codes: dict[int, str], weights: dict[int, float]
) -> float:
    """How likely a list with a pin at its second place is, one item a category at most.

    Each place is drawn from what is left of the 3 best of `order`, twice as many where nothing is.
    """
    total, size = 1.0, 3
    for place, row in enumerate(listed):
        if place == 1:
            continue
        taken = {codes[other] for other in listed[:place]} | {codes[listed[1]]}
        while not (left := [r for r in order[:size] if codes[r] not in taken]):
            size *= 2
        total *= weights[row] / sum(weights[r] for r in left)
    return total


def test_propensities_are_exact_with_a_pin_and_caps_and_a_pool_that_grows(
    decay_bundle: Bundle,
) -> None:
    """100,000 lists of 4 out of 9 items: the second place is pinned, and no category comes twice.

    The 3 best are of two categories, so each list asks for more at its last place. Chi-square of
    how often each list came against the product of its stated propensities, which are as computed.
    """
    events, k = 100_000, 9
    shop = Shop(decay_bundle, home=Placement(k=k, exclude_seen=False))
    (record,) = lists(shop.step({"item_id": "i7"}))
    best = [item.item_id for item in record.lists["home"].items]
    categories = dict(zip(best, "ABABADCCC", strict=True))
    for item_id in decay_bundle.item_ids[1:]:
        there = item_id in categories
        shop.catalogue.put(Item(item_id, available=there, category=categories.get(item_id)))
    model, catalogue = shop.engine.model, shop.catalogue
    users = Users.of(shop.shard, [b"u"])
    ring = Ring.of(model, catalogue, users)
    rules = Placement(
        k=4, pool=4, exclude_seen=False, caps=Caps(category=1), pins=(Pin(best[5], 2),)
    )
    ranking = Ranking("home", rules, model, catalogue, decay_bundle.biases, 4)
    rows, scores = ranking.rank(Basis(users.vectors, ring), k)
    worth = np.log(scores / (1 - scores))[0].astype(np.float64)
    warmth = float(np.float32((worth[0] - worth[8]) / 2))
    explore = Explore(temperature=warmth, adapt=False)
    causes = [Cause("clicks", 0, offset, NOW_MS) for offset in range(events)]
    nobody = np.zeros(events, np.int64)
    many = Audience(users, nobody, users.vectors[nobody], ring.take(nobody), causes, NOW_MS)
    explorer = Explorer("home", explore, model, catalogue, Merged(Fading()))
    one = OfOne(ranking, users, ring)
    arranging = Arranging(rules, one, model, catalogue, explorer)  # type: ignore[arg-type]
    picked = arranging.arrange(rows[nobody, :3], scores[nobody, :3], many)
    assert picked.propensities is not None
    assert one.pools == {6, 12}, "the pool of 6 has nothing new"
    order = rows[0].tolist()
    codes = {row: categories[catalogue.ids[row]] for row in order}
    weights = dict(zip(order, np.exp(worth / warmth).tolist(), strict=True))
    found, first, counts = np.unique(picked.rows, axis=0, return_index=True, return_counts=True)
    assert len(found) == 12
    assert set(found[:, 1].tolist()) == {order[5]}
    stated = picked.propensities[first].astype(np.float64).prod(axis=1)
    assert stated == pytest.approx([chance(of, order, codes, weights) for of in found.tolist()])
    assert stated.sum() == pytest.approx(1, abs=1e-5)
    assert stats.chisquare(counts, stated / stated.sum() * events).pvalue > 0.001
