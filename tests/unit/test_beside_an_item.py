"""What goes with an item, what was bought with it, and what trends, on request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream.contracts import Item, Request
from stream.core.answers.neighbours import BoughtTogether
from stream.core.bundle import Bundle
from stream.core.wire import RING_ENTRY, join
from tests.support.desk import NOW_MS, Desk, ids, scores


@pytest.fixture
def desk(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle)


def test_similar_items_are_those_with_the_nearest_vectors(desk: Desk) -> None:
    table = desk.engine.model.bundle.embeddings.astype(np.float64)
    cosines = table @ table[7] / np.maximum(np.linalg.norm(table, axis=1), 1e-9)
    cosines /= np.linalg.norm(table[7])
    cosines[7] = -1
    answer = desk.ask("similar", item_id="i7", k=8)
    assert ids(answer) == [f"i{row}" for row in np.argsort(-cosines)[:8]]
    assert scores(answer) == pytest.approx(np.sort(cosines)[::-1][:8].tolist(), abs=2e-6)
    assert {(i.reason.code, i.reason.item_id) for i in answer.items} == {("similar", "i7")}


def test_similar_items_obey_the_placement(desk: Desk) -> None:
    nearest = ids(desk.ask("similar", item_id="i7", placement="again", k=3))
    desk.did(nearest[0])
    assert nearest[0] not in ids(desk.ask("similar", item_id="i7"))  # seen
    assert ids(desk.ask("similar", item_id="i7", placement="again", k=3)) == nearest
    assert desk.ask("similar", item_id="i7", placement="coupons").items == ()
    for row in range(1, 201):
        desk.catalogue.put(Item(f"i{row}", available=f"i{row}" != nearest[1]))
    again = ids(desk.ask("similar", item_id="i7", placement="again", k=3))
    assert again[:2] == [nearest[0], nearest[2]]


def test_all_items_are_looked_at_however_many_blocks(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = desk.ask("similar", item_id="i7", k=30)
    monkeypatch.setattr("stream.core.answers.neighbours._ROWS_AT_ONCE", 20)
    assert desk.ask("similar", item_id="i7", k=30) == whole


def test_an_item_that_nobody_knows_is_said_to_be_unknown(desk: Desk) -> None:
    for kind in ("similar", "together"):
        answer = desk.ask(kind, item_id="who")
        assert (answer.status, answer.items) == ("unknown_item", ())


def test_bought_together_is_counted_among_the_buyers(desk: Desk) -> None:
    for number in range(6):
        desk.did("i1", "i2", user=f"a{number}", kind="purchase")
    for number in range(3):
        desk.did("i3", "i1", "i1", user=f"b{number}", kind="purchase")
    for number in range(2):
        desk.did("i1", "i4", user=f"c{number}", kind="purchase")  # too few to say
    desk.did("i2", "i5", "i5", "i5", user="d", kind="purchase")
    desk.did("i1", user="a0")
    answer = desk.ask("together", item_id="i1", user_id="guest")
    assert answer.basis == "users"
    assert [(i.item_id, i.score) for i in answer.items] == [
        ("i2", pytest.approx(6 / 11, abs=1e-6)),
        ("i3", pytest.approx(3 / 11, abs=1e-6)),
    ]
    assert {(i.reason.code, i.reason.item_id) for i in answer.items} == {("bought_together", "i1")}
    assert ids(desk.ask("together", item_id="i1", k=1, user_id="guest")) == ["i2"]
    assert ids(desk.ask("together", item_id="i1", user_id="a1")) == ["i3"]  # has bought i2


def test_a_buyer_counts_once_and_rings_as_they_are() -> None:
    rings = np.zeros((3, 4), RING_ENTRY)
    items = np.array([[5, 6, 6, 7], [5, 5, 8, 0], [6, 7, 8, 9]], np.uint64)
    types = np.array([[8, 8, 8, 2], [2, 8, 8, 0], [8, 8, 8, 8]], np.uint8)
    rings["item_and_type"] = join(items, types)
    found = BoughtTogether.of(rings, np.uint64(5))
    assert found.buyers == 2
    assert dict(zip(found.items.tolist(), found.counts.tolist(), strict=True)) == {6: 1, 8: 1}


def test_more_pairs_than_there_is_room_for_at_first() -> None:
    rings = np.zeros((100, 50), RING_ENTRY)
    rings["item_and_type"] = join(np.arange(1, 51).astype(np.uint64), np.uint8(8))
    found = BoughtTogether.of(rings, np.uint64(50))
    assert (found.buyers, found.counts.tolist()) == (100, [100] * 49)


def test_without_buyers_the_model_says_what_goes_together(desk: Desk) -> None:
    answer = desk.ask("together", item_id="i7", user_id="guest")
    assert answer.basis == "model"
    desk.did("i7", user="buyer", kind="purchase")
    assert ids(answer) == ids(desk.ask("list", user_id="buyer"))
    assert "i7" not in ids(answer)


def test_trending_waits_for_somebody_who_counts(desk: Desk) -> None:
    answer = desk.ask("trending", kind="product")
    assert (answer.status, answer.items) == ("unavailable", ())

    class Counts:
        def top(self, request: Request, allowed: Any, k: int, now_ms: int) -> Any:
            assert (request.kind, k, now_ms) == ("product", 10, NOW_MS)
            rows = np.flatnonzero(allowed)[:2]
            return rows, np.array([0.9, 0.8], np.float32)

    desk.engine.answers.trending = Counts()
    answer = desk.ask("trending", kind="product")
    assert [(i.item_id, i.score, i.reason.code) for i in answer.items] == [
        ("i1", 0.9, "trending"),
        ("i2", 0.8, "trending"),
    ]
