"""What users do, looked up in the lists they had; the reference reads what was published."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from stream.config import Placement, load_settings
from stream.contracts import Item, Recommendation, decode_recommendation
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.lifecycle import Limits
from stream.core.micro_batch import StepResult
from stream.core.model import USERS_AT_ONCE, Model
from stream.core.quality.live import LATELY_S
from stream.core.quality.memory import WAYS
from stream.core.quality.outcomes import BOUNDS, EXPLORED, LOOKED_UP, Outcomes
from stream.kafka.batches import RecordBatch
from stream.observe import Observer
from stream.placements import Explore
from stream.settings.quality import Quality
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
PARTITIONS = 2
PLACES = 6
PLACEMENTS = {
    "home": Placement(k=4, explore=Explore(temperature=1.0)),
    "long": Placement(k=15, kinds=("product", "coupon"), exclude_seen=False, exclude_bought=False),
    "coupons": Placement(k=3, kinds=("coupon",), exclude_seen=False, theta=0.02),
}
TYPES = [kind.name.lower() for kind in LOOKED_UP]
PROBABILITIES = [f"{bound:g}" for bound in BOUNDS]
KINDS = {"i0": "product"} | {f"i{n}": "coupon" if n % 5 == 0 else "product" for n in range(1, 200)}


class Shop:
    """An engine with a shard a partition, fed with plain events."""

    def __init__(self, bundle: Bundle, quality: Quality | None, limits: Limits | None = None):
        self.catalogue = Catalogue(bundle.item_ids)
        for item_id in bundle.item_ids[1:]:
            self.catalogue.put(Item(item_id=item_id, kind=KINDS.get(item_id, "product")))  # type: ignore[arg-type]
        self.engine = Engine(
            Model(bundle, "cpu"),
            self.catalogue,
            kinds={"clicks": "clicks", "purchases": "purchases", "erasures": "erasures"},
            placements=PLACEMENTS,
            ring=60,
            limits=limits,
            quality=quality,
        )
        self.shards = [self.engine.new_shard(number, PARTITIONS) for number in range(PARTITIONS)]
        self.offsets = Counter[tuple[str, int]]()

    def step(
        self,
        batches: dict[tuple[str, int], list[dict[str, Any]]],
        now_ms: int = NOW_MS,
        applied: dict[tuple[str, int], int] | None = None,
    ) -> StepResult:
        parts = []
        for (topic, partition), records in batches.items():
            first = self.offsets[topic, partition]
            self.offsets[topic, partition] += len(records)
            keys = [record["user_id"].encode() for record in records]
            values = [msgspec.json.encode(record) for record in records]
            offsets = list(range(first, first + len(records)))
            stop = first + len(records)
            batch = RecordBatch(
                topic, partition, first, stop, keys, values, offsets, [now_ms] * len(records)
            )
            since = (applied or {}).get((topic, partition), 0)
            parts.append(Part(self.shards[partition], batch, since))
        return self.engine.step(parts, now_ms)


def event(user: str, item: str, kind: str = "click", **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "type": kind, "event_time_ms": NOW_MS, **more}


def click(shop: Shop, *events: dict[str, Any]) -> Outcomes:
    outcomes = shop.step({("clicks", 0): list(events)}).outcomes
    assert outcomes is not None
    return outcomes


def named(outcomes: Outcomes) -> Counter[tuple[str, ...]]:
    """Every count that is not 0, under the names of its series."""
    axes: dict[str, list[list[str]]] = {
        "made": [list(EXPLORED)],
        "looked_up": [TYPES],
        "hits": [TYPES, list(EXPLORED)],
        "reciprocal_rank": [TYPES, list(EXPLORED)],
        "expected": [list(EXPLORED)],
        "shown": [list(EXPLORED), PROBABILITIES],
        "clicked": [list(EXPLORED), PROBABILITIES],
        "impressions": [],
        "clickthroughs": [],
    }
    counts = Counter[tuple[str, ...]]()
    for name, labels in axes.items():
        found = getattr(outcomes, name)
        for at in np.ndindex(found.shape):
            if found[at]:
                names = [axis[place] for axis, place in zip(labels, at[1:], strict=True)]
                counts[name, *outcomes.arms[at[0]], *names] = found[at].item()
    return counts


class Reference:
    """The same from published records alone, an event and a place at a time."""

    def __init__(self) -> None:
        self.records: dict[str, Recommendation] = {}
        self.older: dict[str, Recommendation] = {}
        self.named = set[str]()  # users of whose newest lists one was named
        self.placement_of: dict[str, str] = {}  # by name of a list
        self.newest_ms: dict[str, int] = {}
        self.at_list_ms: dict[str, int] = {}
        self.erased_ms: dict[str, int] = {}
        self.event_ids: set[tuple[str, str, str]] = set()
        self.counts = Counter[tuple[str, ...]]()

    def take(self, event: dict[str, Any]) -> None:
        user, time_ms = event["user_id"], event["event_time_ms"]
        if time_ms <= self.erased_ms.get(user, 0):
            return
        if "event_id" in event:
            told = (user, event["event_id"], event["item_id"])
            if told in self.event_ids:
                return
            if event["type"] != "impression":  # which is not remembered
                self.event_ids.add(told)
        if not event.get("list_name") or event["list_name"] in self.placement_of:
            self.look_up(event)
        self.newest_ms[user] = max(self.newest_ms.get(user, 0), time_ms)

    def look_up(self, event: dict[str, Any]) -> None:
        user, kind, name = event["user_id"], event["type"], event.get("list_name")
        placed = self.placement_of[name] if name else event.get("placement")
        newest = self.records.get(user)
        if placed in PLACEMENTS and (name or newest):
            if kind == "impression":
                self.counts["impressions", placed, "default"] += 1
            if kind in ("view", "click"):
                self.counts["clickthroughs", placed, "default"] += 1
        if newest is None:
            return
        if name and kind in (*TYPES, "impression") and shows(newest, placed) == name[7:]:
            self.named.add(user)
        if kind not in TYPES:
            return
        late = event["event_time_ms"] < self.at_list_ms[user]
        for placement, rules in PLACEMENTS.items():
            record = newest
            if name and placement == placed:
                both = [newest, *([self.older[user]] if user in self.older else [])]
                record = next((r for r in both if shows(r, placed) == name[7:]), None)
            if record is None or (late and not (name and placement == placed)):
                continue
            arm, ranked = (placement, "default"), record.lists[placement]
            of_kind = KINDS.get(event["item_id"], "product")
            if not ranked.items or of_kind not in rules.kinds:
                continue
            self.counts["looked_up", *arm, kind] += 1
            for listed in ranked.items[:PLACES]:
                way = str(listed.explored).lower()
                bound = next(f"{bound:g}" for bound in BOUNDS if listed.score <= bound)
                self.counts["expected", *arm, way] += listed.score  # type: ignore[assignment]
                self.counts["shown", *arm, way, bound] += 1
                if listed.item_id == event["item_id"]:
                    self.counts["hits", *arm, kind, way] += 1
                    self.counts["clicked", *arm, way, bound] += 1
                    self.counts["reciprocal_rank", *arm, kind, way] += 1 / listed.rank  # type: ignore[assignment]

    def make(self, result: StepResult) -> None:
        for part in result.parts:
            for key, value in zip(part.list_keys, part.list_values, strict=True):
                user = key.decode()
                if value is None:
                    continue
                if user in self.named:
                    self.older[user] = self.records[user]
                    self.named.remove(user)
                self.records[user] = decode_recommendation(value)
                for placement, ranked in self.records[user].lists.items():
                    self.placement_of[str(ranked.name)] = placement
                self.at_list_ms[user] = self.newest_ms[user]
                for placement, ranked in self.records[user].lists.items():
                    for listed in ranked.items[:PLACES]:
                        way = str(listed.explored).lower()
                        self.counts["made", placement, "default", way] += 1

    def erase(self, user: str, time_ms: int) -> None:
        self.erased_ms[user] = max(time_ms, self.erased_ms.get(user, 0))
        for known in (self.records, self.older, self.newest_ms, self.at_list_ms):
            known.pop(user, None)  # type: ignore[attr-defined]
        self.named.discard(user)
        self.event_ids = {told for told in self.event_ids if told[0] != user}


def shows(record: Recommendation, placement: str) -> str:
    """What the name of a list says of its items, cell and all being left out."""
    return str(record.lists[placement].name)[7:]


def names(record: Recommendation | None) -> list[str]:
    return [] if record is None else [str(ranked.name) for ranked in record.lists.values()]


def history(dice: random.Random, reference: Reference, users: list[str]) -> list[dict[str, Any]]:
    """A few events; items are often some that were listed, times sometimes late."""
    events = []
    for _ in range(dice.randint(1, 12)):
        user = dice.choice(users)
        listed = [
            item.item_id
            for ranked in (
                reference.records[user].lists.values() if user in reference.records else []
            )
            for item in ranked.items
        ]
        item = dice.choice(listed) if listed and dice.random() < 0.7 else f"i{dice.randint(1, 250)}"
        kind = dice.choice([*TYPES, *TYPES, "add_to_cart", "dislike", "impression", "impression"])
        made = event(user, item, kind, event_time_ms=NOW_MS + dice.randint(-20_000, 60_000_000))
        if dice.random() < 0.6:
            made["event_time_ms"] = reference.newest_ms.get(user, NOW_MS) + dice.randint(0, 999)
        if dice.random() < 0.3:
            made["event_id"] = f"e{dice.randint(0, 3)}"
            made["item_id"] = f"i{dice.randint(1, 3)}"
        if dice.random() < 0.4:
            made["placement"] = dice.choice([*PLACEMENTS, "elsewhere"])
        if dice.random() < 0.5:
            old = dice.choice([*reference.placement_of, "made-up"])
            own = [*names(reference.records.get(user)), *names(reference.older.get(user))]
            made["list_name"] = dice.choice([*own, *own, old, "", "A" * 16, "\u00e9" * 16, "="])
        events.append(made)
    return events


@pytest.mark.parametrize("seed", range(3))
def test_random_histories_count_as_the_reference_does(decay_bundle: Bundle, seed: int) -> None:
    dice = random.Random(seed)
    shop, reference = Shop(decay_bundle, Quality(users=1000, places=PLACES)), Reference()
    users = [[f"u{number}" for number in range(part, 12, 2)] for part in range(PARTITIONS)]
    counted = Counter[tuple[str, ...]]()
    for _ in range(25):
        batches: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for partition in dice.sample(range(PARTITIONS), dice.randint(1, PARTITIONS)):
            some = history(dice, reference, users[partition])
            topic = dice.choice(["clicks", "purchases"])
            kept = [e for e in some if (e["type"] == "purchase") == (topic == "purchases")]
            batches[topic, partition] = kept
            for made in kept:
                reference.take(made)
        result = shop.step(batches)
        reference.make(result)
        if result.outcomes is not None:
            counted.update(named(result.outcomes))
        if dice.random() < 0.3:
            partition = dice.randrange(PARTITIONS)
            user = dice.choice(users[partition])
            erased_ms = reference.newest_ms.get(user, NOW_MS) - dice.choice([0, 500])
            shop.step({("erasures", partition): [{"user_id": user, "event_time_ms": erased_ms}]})
            reference.erase(user, erased_ms)
    assert {name for name, *_ in counted} == set(Outcomes._fields) - {"arms"}, "all of it happens"
    assert set(counted) == set(reference.counts)
    for name, wanted in reference.counts.items():
        assert counted[name] == pytest.approx(
            wanted, rel=1e-9, abs=1e-4 if name[0] == "expected" else 0
        )


def test_events_of_a_micro_batch_are_looked_up_in_the_list_from_before_it(
    decay_bundle: Bundle,
) -> None:
    shop = Shop(decay_bundle, Quality())
    assert not click(shop, event("u", "i1"), event("u", "i2")).looked_up.any(), "no list yet"
    outcomes = click(shop, event("u", "i3"), event("v", "i3"), event("u", "i4"))
    assert outcomes.looked_up[0].tolist() == [0, 2, 0]
    assert outcomes.shown[0].sum() == 8, "the list of four is shown with each of the two"


def test_many_users_at_once_keep_their_own_lists(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Quality(places=PLACES))
    users = [[f"p{part} u{n}" for n in range(USERS_AT_ONCE - 20)] for part in range(PARTITIONS)]
    batches = {
        ("clicks", part): [event(user, f"i{n + 1}") for n, user in enumerate(some)]
        for part, some in enumerate(users)
    }
    for shard, part in zip(shop.shards, shop.step(batches).parts, strict=True):
        entries = shard.shown.find(part.list_keys)
        for entry, value in zip(entries.tolist(), part.list_values, strict=True):
            listed = decode_recommendation(value or b"").lists["home"].items
            rows = shop.catalogue.rows([item.item_id for item in listed]).tolist()
            assert np.abs(shard.shown.shown.rows[entry, : len(rows)]).tolist() == rows


def test_a_replay_counts_nothing_again_but_its_lists_are_those_that_users_have(
    decay_bundle: Bundle,
) -> None:
    shop = Shop(decay_bundle, Quality())
    click(shop, event("u", "i1"))
    shop.engine.quality = type(shop.engine.quality)(shop.catalogue, PLACEMENTS, Quality())
    shop.shards[0].shown = shop.engine.quality.new_memory(PARTITIONS)  # as after a restart
    click(shop, event("u", "i2"))
    shop.offsets.clear()
    again = [event("u", "i1"), event("u", "i2")]
    replayed = shop.step({("clicks", 0): again}, applied={("clicks", 0): 2}).outcomes
    assert replayed is not None
    assert not replayed.looked_up.any()
    assert replayed.made.any()
    assert click(shop, event("u", "i5")).looked_up.any()


def test_lists_and_states_are_the_same_with_and_without_it(decay_bundle: Bundle) -> None:
    dice, reference = random.Random(7), Reference()
    shops = [Shop(decay_bundle, quality) for quality in (None, Quality(), Quality(users=3))]
    for _ in range(6):
        events = [e for e in history(dice, reference, ["u", "v"]) if e["type"] != "purchase"]
        results = [shop.step({("clicks", 1): events}) for shop in shops]
        written = [[(part.changelog, part.list_values) for part in r.parts] for r in results]
        assert written[0] == written[1] == written[2]
        assert results[0].outcomes is None
    assert shops[0].engine.quality.arms == ()


@pytest.mark.parametrize("way", ["erased", "expired", "evicted"])
def test_nothing_stays_of_a_user_who_leaves(decay_bundle: Bundle, way: str) -> None:
    limits = {"expired": Limits(expire_after_ms=1000), "evicted": Limits(max_users=2)}.get(way)
    shop = Shop(decay_bundle, Quality(), limits)
    click(shop, event("u", "i1"))
    memory = shop.shards[0].shown
    (entry,) = memory.find([b"u"]).tolist()
    assert entry >= 0
    if way == "erased":
        shop.step({("erasures", 0): [{"user_id": "u", "event_time_ms": NOW_MS}]})
    else:
        later = [event(f"v{n}", "i1", event_time_ms=NOW_MS + 9000) for n in range(3)]
        shop.step({("clicks", 0): later}, NOW_MS + 9000)
        shop.step({("clicks", 0): later[:1]}, NOW_MS + 9000)
    assert shop.shards[0].find(b"u") is None
    assert memory.find([b"u"]).tolist() == [-1]
    assert hash(b"u") not in memory._hashes.view(np.int64)
    if way == "erased":
        assert not any(column.any() for column in memory._columns)


def test_a_partition_has_its_share(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Quality(users=1000))
    assert [len(shop.engine.new_shard(0, n).shown) for n in (1, 5, 1000)] == [1000, 200, WAYS]


def test_coverage_is_the_share_of_eligible_items_listed_lately(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Quality(places=PLACES))
    listed: dict[str, set[str]] = {name: set() for name in PLACEMENTS}
    for number in range(30):
        result = shop.step({("clicks", 0): [event(f"u{number}", f"i{number}")]})
        (record,) = map(decode_recommendation, filter(None, result.parts[0].list_values))
        for name, ranked in record.lists.items():
            listed[name] |= {item.item_id for item in ranked.items[:PLACES]}
    ids = shop.catalogue.ids[1:]
    for name, rules in PLACEMENTS.items():
        eligible = {item for item in ids if KINDS.get(item, "product") in rules.kinds}
        coverage = shop.engine.quality.coverage(name, NOW_MS + 1000)
        assert coverage == len(listed[name]) / len(eligible) > 0
        gone = next(iter(listed[name]))
        shop.catalogue.remove(gone)
        less = shop.engine.quality.coverage(name, NOW_MS + 1000)
        assert math.isclose(less, (len(listed[name]) - 1) / (len(eligible) - 1))
        assert shop.engine.quality.coverage(name, NOW_MS + LATELY_S * 1000) == 0
        shop.catalogue.put(Item(item_id=gone, kind=KINDS.get(gone, "product")))  # type: ignore[arg-type]


def test_items_that_come_later_are_watched_too(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Quality())
    for number in range(2000):
        shop.catalogue.put(Item(item_id=f"new{number}"))
    click(shop, event("u", "i1"))
    assert 0 < shop.engine.quality.coverage("home", NOW_MS) < 4 / 2000


def value(name: str, labels: dict[str, str]) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_every_count_has_its_series(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, Quality(places=PLACES))
    observer = Observer(shop.engine.quality)
    series = {
        "made": ("freshet_quality_places_total", ["explored"]),
        "looked_up": ("freshet_quality_outcomes_total", ["event"]),
        "hits": ("freshet_quality_hits_total", ["event", "explored"]),
        "reciprocal_rank": ("freshet_quality_reciprocal_rank_total", ["event", "explored"]),
        "expected": ("freshet_quality_expected_total", ["explored"]),
        "shown": ("freshet_quality_shown_total", ["explored", "probability"]),
        "clicked": ("freshet_quality_clicked_total", ["explored", "probability"]),
        "impressions": ("freshet_quality_impressions_total", []),
        "clickthroughs": ("freshet_quality_clickthroughs_total", []),
    }

    def read(name: tuple[str, ...]) -> float:
        metric, labels = series[name[0]]
        return value(metric, dict(zip(["placement", "variant", *labels], name[1:], strict=True)))

    result = shop.step({("clicks", 0): [event("u", "i1")]})
    record = decode_recommendation(result.parts[0].list_values[0] or b"")
    hit = record.lists["home"].items[2].item_id
    doing = [event("u", hit, placement="home"), event("u", hit, "impression", placement="home")]
    result = shop.step({("clicks", 0): doing})
    assert result.outcomes is not None
    counts = named(result.outcomes)
    assert {name for name, *_ in counts} == set(series)
    before = {name: read(name) for name in counts}
    observer.stepped(result)
    for name, count in counts.items():
        assert read(name) - before[name] == pytest.approx(count), name
    assert value("freshet_quality_coverage_ratio", {"placement": "home"}) == 0, "of long ago"
    at_ms = NOW_MS + 1000
    assert shop.engine.quality.coverage("home", at_ms) > 0


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(environ={}).quality == Quality(users=65_536, places=20)
    off = load_settings(environ={"FRESHET_QUALITY_USERS": "0"})
    assert off.quality.users == 0


def test_a_named_list_gets_the_credit_though_a_newer_one_was_made(decay_bundle: Bundle) -> None:
    """The newer one is of other interests: it has no item of the older one."""
    shop = Shop(decay_bundle, Quality())

    def made(*events: dict[str, Any]) -> Recommendation:
        (value,) = shop.step({("clicks", 0): list(events)}).parts[0].list_values
        return decode_recommendation(value or b"")

    first = made(event("u", "i1")).lists["home"]
    on_first = {"list_name": first.name, "placement": "elsewhere"}
    saw = click(shop, event("u", first.items[0].item_id, "impression", **on_first))
    assert saw.impressions.tolist() == [1, 0, 0], "the name says the placement"
    turned = [event("u", f"i{n}", "purchase", event_time_ms=NOW_MS + 5000) for n in range(40, 60)]
    shop.step({("purchases", 0): turned})
    newest = made(event("u", "i100", event_time_ms=NOW_MS + 6000)).lists["home"]
    (item, *_) = {line.item_id for line in first.items} - {line.item_id for line in newest.items}
    late = event("u", item, event_time_ms=NOW_MS + 1000)  # before the newest list was made
    assert not click(shop, late).looked_up.any()
    unnamed = click(shop, {**late, "event_time_ms": NOW_MS + 7000})
    assert (unnamed.looked_up[0].sum(), unnamed.hits[0].sum()) == (1, 0)
    of_first = click(shop, {**late, **on_first})
    assert (of_first.looked_up[0].sum(), of_first.hits[0].sum()) == (1, 1)
    assert of_first.clickthroughs.tolist() == [1, 0, 0]
    assert not of_first.looked_up[1:].any(), "it is late for the other placements"


@pytest.mark.parametrize("name", ["made up", "A" * 16, "-" * 16, "\N{SNOWMAN}" * 16, "n" * 256])
def test_a_name_that_nobody_gave_gets_no_list_any_credit(decay_bundle: Bundle, name: str) -> None:
    shop = Shop(decay_bundle, Quality())
    click(shop, event("u", "i1"))
    acts = [event("u", "i2", kind, placement="home", list_name=name) for kind in ("click", "view")]
    outcomes = click(shop, *acts, event("u", "i2", "impression", placement="home", list_name=name))
    assert set(named(outcomes)) == {key for key in named(outcomes) if key[0] == "made"}
    assert click(shop, event("u", "i2", list_name="")).looked_up.any(), "which names nothing"


def test_a_named_list_that_nobody_remembers_is_not_looked_up(decay_bundle: Bundle) -> None:
    """Its arm has the click all the same: the name says which one it is."""
    shop = Shop(decay_bundle, Quality())
    (value,) = shop.step({("clicks", 0): [event("u", "i1")]}).parts[0].list_values
    first = decode_recommendation(value or b"").lists["home"]
    for number in range(10, 14):
        shop.step({("purchases", 0): [event("u", f"i{number}", "purchase")]})
    told = event("u", first.items[0].item_id, list_name=first.name)
    for outcomes in (click(shop, told), click(shop, {**told, "user_id": "a guest"})):
        assert outcomes.clickthroughs.tolist() == [1, 0, 0]
        assert not outcomes.looked_up[0].any()
