"""Names of lists: what they are, and that what is done on a list counts where its name says."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest

from stream.config import Placement
from stream.contracts import Item, RankedList, decode_answer, decode_recommendation
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.micro_batch import PartResult
from stream.core.mixing import GOLDEN, hash_of, split_mix
from stream.core.policy.arranging import Picked
from stream.core.policy.naming import Naming
from stream.placements import Explore, Pin, Variant
from tests.support.desk import Desk
from tests.support.parts import Part
from tests.unit.test_engine import NOW_MS, Shop
from tests.unit.test_segments_engine import CLICKED, HOME, SEEN, Worker

CELLS = {"home": (b"key", 12), "home/B": (b"other", 12), "cart": None}


def lists(result: PartResult) -> list[dict[str, RankedList]]:
    return [decode_recommendation(value).lists for value in result.list_values]


def home(result: PartResult) -> RankedList:
    (of_user,) = lists(result)
    return of_user["home"]


@pytest.fixture
def naming(decay_bundle: Bundle) -> Naming:
    return Naming(CELLS, Catalogue(decay_bundle.item_ids))


def named(naming: Naming, arm: int, rows: list[list[int]], cells: list[int] | None) -> list[str]:
    told = None if cells is None else np.array(cells, np.uint8)
    picked = Picked(np.array(rows), np.full(np.shape(rows), 0.5, np.float32), cells=told)
    return [bytes(name).decode() for name in naming.name(arm, picked)[0]]


def test_what_a_list_shows_is_told_by_the_mixing_of_everybody(naming: Naming) -> None:
    hashes = naming._catalogue.hashes
    picked = Picked(np.array([[2, 1]]), np.full((1, 2), 0.5, np.float32))
    found = np.array([hash_of(b"home")], np.uint64)
    for row in (2, 1):
        found = split_mix(found + hashes[row] + GOLDEN)
    assert naming.name(0, picked)[1] == found & ~np.uint64(0xFF)


def test_a_name_says_arm_cell_and_what_the_list_shows(naming: Naming) -> None:
    found = [
        *named(naming, 0, [[1, 2], [2, 1], [1, 2]], [0, 11, 11]),
        *named(naming, 1, [[1, 2]], [0]),
        *named(naming, 2, [[1, 2], [1, 2]], None),
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", name) for name in found)
    assert len(set(found)) == 5, "equal lists of one arm and cell have one name"
    said = naming.read([*found, None])
    assert said.given.tolist() == [True] * 6 + [False]
    assert said.arms.tolist() == [0, 0, 0, 1, 2, 2, -1]
    assert said.cells.tolist() == [0, 11, 11, 0, -1, -1, -1]
    shows = said.shows.tolist()
    assert shows[0] == shows[2] != shows[1]
    assert len(set(shows)) == 5
    assert shows.index(0) == 6


def test_lists_end_before_their_first_score_of_nothing(naming: Naming) -> None:
    rows, scores = np.array([[1, 2], [1, 3], [0, 0]]), np.array([[0.5, 0], [0.5, 0], [0, 0]])
    _, shows = naming.name(0, Picked(rows, scores.astype(np.float32)))
    assert shows[0] == shows[1] != shows[2] != 0


@pytest.mark.parametrize(
    "text", ["x", "A" * 15, "A" * 17, "A" * 16, "=" * 16, "é" * 16, "A" * 15 + "\n", "\0" * 16]
)
def test_any_text_is_read(naming: Naming, text: str) -> None:
    sound = named(naming, 0, [[1, 2]], [3])
    said = naming.read([text, *sound, text])
    assert said.given.all()
    assert said.arms.tolist() == [-1, 0, -1]
    assert said.cells.tolist() == [-1, 3, -1]


def test_a_cell_that_is_none_counts_nowhere(naming: Naming) -> None:
    for cell in (12, 200, 254, 255):
        said = naming.read(named(naming, 0, [[1, 2]], [cell]))
        assert (said.arms.tolist(), said.cells.tolist()) == ([0], [-1])


def test_what_events_name_together_is_what_they_name_one_by_one(naming: Naming) -> None:
    dice = np.random.default_rng(1)
    texts = ["", "x", *named(naming, 1, dice.integers(1, 9, (20, 3)).tolist(), [*range(20)])]
    together = naming.read(texts)
    for number, text in enumerate(texts):
        for column, alone in zip(together, naming.read([text]), strict=True):
            assert column[number] == alone[0]


@pytest.mark.parametrize("explore", [Explore(), Explore(temperature=0.5, optimism=0)])
def test_a_list_that_is_published_again_has_its_name_again(
    decay_bundle: Bundle, explore: Explore
) -> None:
    """On another worker, whose catalogue heard of the items in another order."""
    rules = Placement(k=5, pins=(Pin("a", 1), Pin("b", 3)), explore=explore)
    events = [{"item_id": f"i{n}", "user_id": f"u{n % 3}"} for n in range(9)]
    shop, again = Shop(decay_bundle, home=rules), Shop(decay_bundle, home=rules)
    known = [Item(item_id) for item_id in (*decay_bundle.item_ids[1:], "a", "b")]
    for item, other in zip(known, reversed(known), strict=True):
        shop.catalogue.put(item)
        again.catalogue.put(other)
    first = shop.step(*events)
    again.shard.load(first.state_keys, first.state_values)
    replayed = again.step(*events, applied=200)
    assert (replayed.skipped, replayed.folded) == (9, 0)
    names = [of["home"].name for of in lists(first)]
    assert [of["home"].name for of in lists(replayed)] == names
    assert len(set(names)) == 3


def test_every_list_of_a_record_has_a_name_and_variants_have_their_own(
    decay_bundle: Bundle,
) -> None:
    variants = {"B": Variant(share=0.5, placement=Placement(k=5))}
    rules = Placement(k=5, variants=variants)
    shop = Shop(decay_bundle, home=rules, mail=Placement(k=5), none=Placement(kinds=("ad",)))
    found = lists(shop.step(*[{"item_id": "i7", "user_id": f"u{n}"} for n in range(20)]))
    assert all(list(msgspec.to_builtins(of["home"]))[:2] == ["items", "name"] for of in found)
    assert {len({of["home"].name for of in found if of["home"].variant == v}) for v in "B"} == {1}
    assert len({str(ranked.name) for of in found for ranked in of.values()}) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16}", str(of["none"].name)) for of in found)


# -- where what was done counts ------------------------------------------------------------


def cells_of(worker: Worker) -> list[list[int]]:
    """[impressions or clicks, segment, multiplier] of each cell that has any."""
    row = worker.shard.segments.rows.get(worker.key)
    return [] if row is None else np.argwhere(row.counts > 0.5).tolist()


@pytest.fixture
def worker(decay_bundle: Bundle) -> Worker:
    return Worker(decay_bundle)


def grown(worker: Worker) -> str:
    """Name of a user's first list; the user is known well by now, which is another segment."""
    first = home(worker.step({"item_id": "i7"}))
    for number in range(3):
        worker.did(*[{"item_id": "i7", "type": "purchase"}] * 20)
        worker.did({"item_id": f"i{number}", "user_id": "somebody else"})
    return str(first.name)


def test_a_click_on_an_older_list_counts_where_that_list_belongs(worker: Worker) -> None:
    name = grown(worker)
    worker.did(CLICKED)
    (now,) = cells_of(worker)
    worker.did({**CLICKED, "list_name": name}, {**SEEN, "placement": "mail", "list_name": name})
    (seen, *clicked) = cells_of(worker)
    assert seen == [0, *clicked[0][1:]], "placement or not, both count for the same list"
    assert clicked[0][1] < clicked[1][1] == now[1], "its user was less known then"


def test_it_counts_there_on_another_worker_after_a_crash_and_once(
    worker: Worker, decay_bundle: Bundle
) -> None:
    name = grown(worker)
    clicked = {**CLICKED, "list_name": name, "event_id": "once"}
    worker.did(clicked)
    before = worker.row.value
    first = worker.offset
    other = Worker(decay_bundle)
    other.log, other.offset = worker.log, first - 1
    other.take_over()
    other.did(clicked, applied=first)
    other.did(clicked)  # sent twice by the shop
    assert other.row.value == before
    other.did({**clicked, "event_id": "again"})
    assert other.row.counts.sum() == 2
    assert len(cells_of(other)) == 1


@pytest.mark.parametrize("text", ["made up", "A" * 16, "_" * 16, "\N{SNOWMAN}", "n" * 256])
def test_a_name_that_nobody_gave_counts_nowhere(worker: Worker, text: str) -> None:
    worker.did({**SEEN, "list_name": text}, {**CLICKED, "list_name": text})
    assert worker.shard.segments.rows == {}
    assert len(worker.shard.counts) == 1, "and the item was seen and clicked all the same"
    worker.did({**SEEN, "list_name": ""}, CLICKED)
    assert worker.row.counts.sum() == 2


def test_lists_of_settings_that_are_no_more_count_nowhere(worker: Worker) -> None:
    name = home(worker.step({"item_id": "i7"})).name
    lists = worker.engine.answers.lists
    other = Placement(k=5, explore=Explore(temperature=0.7))
    lists.adopt(lists.change_to({"home": other}))
    worker.did({**CLICKED, "list_name": name})
    assert worker.shard.segments.rows == {}
    lists.adopt(lists.change_to({"home": HOME}))
    worker.did({**CLICKED, "list_name": name})
    assert worker.row.counts.sum() == 1


def test_named_and_unnamed_events_of_a_step_count_in_their_order(worker: Worker) -> None:
    name = home(worker.step({"item_id": "i7"})).name
    events: list[dict[str, Any]] = [
        {**SEEN, "list_name": name},
        SEEN,
        {**CLICKED, "list_name": "made up"},
        {**CLICKED, "list_name": name, "user_id": "v"},
        {**CLICKED, "user_id": "w"},
    ]
    worker.did(*events)
    assert worker.row.counts.sum(axis=(1, 2)).tolist() == [2, 2]


def test_an_answer_with_a_list_has_the_name_that_a_published_one_has(decay_bundle: Bundle) -> None:
    desk = Desk(decay_bundle, placements={"home": Placement(k=5), "mail": HOME})
    batch = desk.batch("clicks", [_event("i7"), _event("i9")])
    (result,) = desk.engine.step([Part(desk.shard, batch)], NOW_MS).parts
    (published,) = lists(result)
    answer = desk.ask("list", placement="home")
    assert answer.name == published["home"].name
    explored = desk.ask("list", placement="mail")
    assert desk.engine.answers.lists.naming.read([str(explored.name)]).cells.tolist() != [-1]
    guest = desk.asked({"type": "list", "user_id": "guest"}, {"type": "list", "k": 2})
    names = {decode_answer(value).name for value in guest.answer_values}
    assert len({*names, answer.name}) == 3
    assert desk.ask("rank", candidates=["i7"]).name is msgspec.UNSET
    assert desk.ask("similar", item_id="i7").name is msgspec.UNSET


def test_a_list_that_is_not_sent_again_keeps_its_name(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle, resend_after_s=3600, home=Placement(k=5, exclude_seen=False))
    first = home(shop.step({"item_id": "i7"})).name
    assert shop.step({"item_id": "i7"}).list_values == []
    users = Shop(decay_bundle, home=Placement(k=5, exclude_seen=False))
    users.step({"item_id": "i7"})
    assert home(users.step({"item_id": "i7"})).name == first


def _event(item_id: str) -> dict[str, Any]:
    return {"user_id": "u", "item_id": item_id, "type": "click", "event_time_ms": NOW_MS}
