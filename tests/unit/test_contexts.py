"""What guests are shown goes by where and when they come, as it was counted, exactly once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stream.config import Settings
from stream.contracts import Item, decode_answer, item_hash
from stream.core.bundle import Bundle
from stream.core.statistics.contexts import PRIOR, context_hash, lifts, mixed, value_of
from stream.core.statistics.counts import Counts
from stream.core.statistics.merged import Merged
from stream.kafka.sizes import changelog_batch_bytes, lists_bytes
from stream.placements import Placement, Variant
from stream.settings.statistics import Statistics
from stream.tally import Tally, fading_of
from stream.words.settings import Wording
from tests.support.desk import NOW_MS, Desk, ids
from tests.support.parts import Part

NAMES = "country,hour,placement"
MAIL = Placement(k=5)
SETTINGS = Settings(statistics=Statistics(contexts=NAMES, tell_every_s=1e-3))
HOUR_MS = 3_600_000


class Counting(Desk):
    """A desk whose partition counts by context, and whose guests' lists go by what it counts."""

    def __init__(
        self, bundle: Bundle, settings: Settings = SETTINGS, mail: Placement = MAIL
    ) -> None:
        super().__init__(bundle, placements={"home": Placement(k=5), "mail": mail})
        self.settings = settings
        self.shard.counts = self.new_counts()

        async def loaded() -> None:
            """Nothing to wait for."""

        self.tally = Tally(
            settings, self.catalogue, Merged(fading_of(settings)), lambda partition: True, loaded
        )
        self.engine.answers.contexts = self.tally
        self.written: dict[bytes, bytes | None] = {}

    def new_counts(self) -> Counts:
        statistics = self.settings.statistics
        names = statistics.context_names
        return Counts(fading_of(self.settings), statistics.tell_every_s * 1000, names)

    def clicks(self, item: str, times: int, applied: int = 0, **more: Any) -> None:
        """Clicks of as many users; what the changelog gets of their counts is kept."""
        records = [
            {"user_id": f"{item} {n}", "item_id": item, "type": "click", "event_time_ms": NOW_MS}
            | more
            for n in range(times)
        ]
        part = Part(self.shard, self.batch("clicks", records), applied)
        (result,) = self.engine.step([part], NOW_MS).parts
        self.written.update(zip(result.count_keys, result.count_values, strict=True))

    def tell(self) -> None:
        told = self.shard.counts.untold(NOW_MS + self.offset * 1000)
        if told is not None:
            self.tally.merged.load(0, *told)

    def guest(self, now_ms: int = NOW_MS, **request: Any) -> list[str]:
        self.tell()
        self.tally._lifts.clear()
        result = self.asked({"type": "list", "user_id": "guest", **request}, now_ms=now_ms)
        return ids(decode_answer(result.answer_values[0]))


@pytest.fixture
def desk(decay_bundle: Bundle) -> Counting:
    return Counting(decay_bundle)


def test_a_guests_first_list_goes_by_country_placement_and_hour(desk: Counting) -> None:
    usual = desk.guest()
    for item, context in (
        ("i100", {"properties": {"country": "DE"}}),
        ("i101", {"properties": {"country": "FR"}}),
        ("i102", {"placement": "mail"}),
        ("i103", {"event_time_ms": NOW_MS - 3 * HOUR_MS}),
    ):
        desk.clicks(item, 500, **context)
    lists = {
        "DE": desk.guest(properties={"country": "DE", "shoe_size": 43}),
        "FR": desk.guest(properties={"country": "FR"}),
        "mail": desk.guest(placement="mail"),
        "hour": desk.guest(now_ms=NOW_MS + 21 * HOUR_MS),
    }
    assert {name: shown[0] for name, shown in lists.items()} == {
        "DE": "i100",
        "FR": "i101",
        "mail": "i102",
        "hour": "i103",
    }
    assert usual[0] not in ("i100", "i101", "i102", "i103")


def test_a_variant_of_a_placement_has_the_placements_contexts(decay_bundle: Bundle) -> None:
    variants = {"B": Variant(1.0, Placement(k=5))}
    desk = Counting(decay_bundle, mail=Placement(k=5, variants=variants))
    desk.clicks("i102", 500, placement="mail")
    desk.clicks("i103", 500, placement="home")
    assert desk.guest(placement="mail")[0] == "i102"


def test_values_beyond_a_bound_cost_nothing_more_within_a_second(desk: Counting) -> None:
    desk.clicks("i102", 500, placement="mail")
    bias = np.zeros(300, np.float32)
    found = {
        id(desk.tally.lift(SimpleNamespace(properties={"country": str(n)}), "mail", bias, NOW_MS))  # type: ignore[arg-type]
        for n in range(100)
    }
    assert len(found) == len(desk.tally._lifts) < 20


def test_after_one_event_a_list_is_the_guests_own(desk: Counting) -> None:
    desk.clicks("i100", 500, properties={"country": "DE"})
    desk.clicks("i101", 500, properties={"country": "FR"})
    here = {"properties": {"country": "DE"}}
    assert desk.guest(**here)[0] == "i100"
    desk.did("i7", user="guest")
    own = desk.guest(**here)
    assert own == desk.guest(properties={"country": "FR"})
    assert own[0] != "i100"


def test_a_lift_is_what_was_counted_beyond_what_was_to_be_expected(desk: Counting) -> None:
    desk.clicks("i1", 60, properties={"country": "DE"})
    desk.clicks("i1", 30, properties={"country": "FR"})
    desk.clicks("i2", 30, properties={"country": "FR"})
    desk.clicks("i2", 30, properties={"country": ["DE"]})  # no context
    desk.tell()
    bias = desk.engine.answers.lists.item_bias
    odds = np.exp(bias[1:201].astype(np.float64))
    expected = 150 * odds / odds.sum()
    base = np.log((np.array([90, 60, 0]) + PRIOR) / (expected[:3] + PRIOR))
    here = np.log([(60 + PRIOR) / (36 + PRIOR), PRIOR / (24 + PRIOR), 1.0])
    for country, wanted in (("DE", base + here), ("XX", base)):
        at = (desk.tally.merged, desk.catalogue, bias, {"country": country}, NOW_MS)
        assert lifts(*at)[1:4] == pytest.approx(wanted, abs=1e-4)


def test_contexts_are_counted_once_and_survive_their_owner(desk: Counting) -> None:
    first = desk.offset
    desk.clicks("i1", 5, properties={"country": "DE"})
    before = desk.shard.counts.rows.copy()
    desk.offset = first
    desk.clicks("i1", 5, applied=first + 5, properties={"country": "DE"})  # after a crash
    np.testing.assert_array_equal(desk.shard.counts.rows, before)
    for _ in range(2):
        desk.clicks("i2", 1, event_id="once", properties={"country": "DE"})
    taken = desk.new_counts()
    taken.load(list(desk.written), list(desk.written.values()))
    rows = dict(zip(taken.hashes.tolist(), taken.rows["clicks"].tolist(), strict=True))
    here = np.array([context_hash("country", "DE")], np.uint64)
    for item, times in (("i1", 5), ("i2", 1)):
        (row,) = mixed(np.array([item_hash(item)], np.uint64), here).tolist()
        assert (rows[item_hash(item)], rows[row]) == (times, times)
    assert len(rows) == 6  # with the hours; no placement was told


def test_what_is_not_known_and_what_is_only_seen_has_no_context(desk: Counting) -> None:
    desk.clicks("nobody knows it", 3, properties={"country": "DE"})
    desk.clicks("i1", 3, type="impression", properties={"country": "DE"})
    desk.clicks("i2", 3, type="dislike", properties={"country": "DE"})
    assert len(desk.shard.counts) == 2


def test_contexts_take_no_room_beyond_a_bound(
    desk: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.core.statistics.room.STRANGERS_UP_TO", 10)
    for number in range(100):
        desk.clicks("i1", 1, properties={"country": f"C{number}"})
    assert len(desk.shard.counts) == 10
    desk.clicks("i2", 1)
    assert len(desk.shard.counts) == 11


def test_a_flood_of_countries_leaves_those_that_are_used(
    desk: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times the room, of one item, beside an item that is hardly asked for."""
    monkeypatch.setattr("stream.core.statistics.room.STRANGERS_UP_TO", 64)
    desk.clicks("i2", 1)
    desk.clicks("i1", 5, properties={"country": "DE"})
    for first in range(0, 640, 8):
        for number in range(first, first + 8):
            desk.clicks("i1", 1, properties={"country": f"C{number}"})
        desk.tell()
    assert len(desk.shard.counts) == 64
    rows = {
        item: row.tobytes()
        for item, row in zip(desk.shard.counts.hashes.tolist(), desk.shard.counts.rows, strict=True)
        if row["time_ms"]
    }
    here = np.array([context_hash("country", "DE")], np.uint64)
    (germany,) = mixed(np.array([item_hash("i1")], np.uint64), here).tolist()
    assert {item_hash("i1"), item_hash("i2"), germany} <= rows.keys()
    there = {key[2:]: value for key, value in desk.written.items() if value is not None}
    assert there == {item.to_bytes(8, "little"): row for item, row in rows.items()}
    assert desk.tally.merged.interactions(np.array([germany], np.uint64), NOW_MS) == 5


def test_a_value_of_a_property_is_a_short_text_or_a_whole_number() -> None:
    given = ["DE", "x" * 64, 7, True, "", "x" * 65, 1.5, None, ["DE"], {"a": "DE"}]
    told = ["DE", "x" * 64, "7", "true", None, None, None, None, None, None]
    assert list(map(value_of, given)) == told


def test_a_shop_that_sets_no_contexts_counts_none(decay_bundle: Bundle) -> None:
    desk = Counting(decay_bundle, Settings())
    desk.clicks("i1", 3, placement="home", properties={"country": "DE"})
    assert len(desk.shard.counts) == 1
    request: Any = SimpleNamespace(properties={"country": "DE"})
    assert desk.tally.lift(request, "home", np.zeros(300, np.float32), NOW_MS) is None


def test_lifts_are_kept_for_a_second_and_no_longer(desk: Counting) -> None:
    def lift(now_ms: int, country: str = "DE") -> Any:
        request: Any = SimpleNamespace(properties={"country": country})
        return desk.tally.lift(request, "home", np.zeros(300, np.float32), now_ms)

    first = lift(NOW_MS)
    assert lift(NOW_MS + 500) is first
    assert lift(NOW_MS + 500, "FR") is not first
    assert lift(NOW_MS + 1500) is not first
    desk.catalogue.put(Item("fresh"))
    assert len(lift(NOW_MS + 1600)) == len(first) + 1


def test_topics_take_what_contexts_and_words_add() -> None:
    plain = Settings()
    assert changelog_batch_bytes(SETTINGS) > changelog_batch_bytes(plain)
    worded = Settings(words=Wording(written_to="lists"))
    assert lists_bytes(worded) == lists_bytes(plain) + 20 * (6 * 200 + 256)


def test_lists_are_told_what_trends(desk: Counting) -> None:
    desk.tally._lists = desk.engine.answers.lists
    desk.clicks("i3", 50)
    desk.clicks("i4", 50, event_time_ms=NOW_MS - 9 * HOUR_MS)
    desk.tell()
    assert isinstance(desk.tally.merged, Merged)
    asyncio.run(desk.tally.look(NOW_MS))
    trends = np.flatnonzero(desk.engine.answers.lists.trends)
    assert trends.tolist() == desk.catalogue.rows(["i3"]).tolist()
