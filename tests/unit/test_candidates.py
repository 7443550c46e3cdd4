"""Candidates of a request: their scores, what is wrong with them, the caller's own order."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from stream.contracts import Item, decode_answer
from stream.core.answers.judging import mixed
from stream.core.bundle import Bundle
from tests.support.desk import Desk, ids, scores


@pytest.fixture
def desk(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle)


def test_candidates_have_the_scores_of_lists(desk: Desk) -> None:
    desk.did("i7", "i9", "i11")
    everything = desk.ask("list", placement="again", k=1000)
    answer = desk.ask("rank", placement="again", candidates=ids(everything)[::-1])
    assert ids(answer) == ids(everything)
    assert scores(answer) == scores(everything)
    assert [item.reason for item in answer.items] == [item.reason for item in everything.items]
    assert all(item.mark is msgspec.UNSET for item in answer.items)


def test_candidates_of_others_do_not_matter(desk: Desk) -> None:
    """They are scored together, each user's for that user alone."""
    desk.did("i7")
    alone = desk.ask("rank", candidates=["i1", "i2", "i3"])
    rank = {"type": "rank", "candidates": ["i1", "i2", "i3"], "request_id": "r0"}
    crowd = [{"type": "rank", "user_id": f"v{n}", "candidates": [f"i{n + 1}"]} for n in range(150)]
    result = desk.asked(rank, *crowd)
    assert decode_answer(result.answer_values[0]) == alone
    assert [ids(decode_answer(v)) for v in result.answer_values[1:]] == [
        [f"i{n + 1}"] for n in range(150)
    ]


def test_candidates_of_an_earlier_request_do_not_come_back(desk: Desk) -> None:
    desk.did("i7")
    listed = desk.ask("list", placement="again", k=1000)
    for some in (slice(0, 5), slice(-5, None)):  # the best first
        answer = desk.ask("rank", placement="again", candidates=ids(listed)[some])
        assert (ids(answer), scores(answer)) == (ids(listed)[some], scores(listed)[some])


def test_no_candidate_is_dropped_and_each_says_what_is_wrong_with_it(desk: Desk) -> None:
    desk.did("i7", kind="purchase")
    desk.did("i8", kind="dislike")
    desk.catalogue.put(Item("c1", kind="coupon"))
    for row in range(1, 201):
        if row != 50:
            desk.catalogue.put(Item(f"i{row}", available=row != 51, price=row))
    candidates = ["i1", "i7", "i8", "c1", "i50", "i51", "who", "i1"]
    answer = desk.ask("rank", candidates=candidates)
    assert sorted(ids(answer)) == sorted(candidates)
    marks = [(item.item_id, item.mark) for item in answer.items]
    assert {mark for mark in marks if mark[0] != "i1"} == {
        ("i7", "excluded"),
        ("i8", "excluded"),
        ("c1", "ineligible"),
        ("i50", "ineligible"),
        ("i51", "ineligible"),
        ("who", "unknown"),
    }
    assert [mark for name, mark in marks if name == "i1"] == [msgspec.UNSET, "repeated"]
    unknown = next(item for item in answer.items if item.mark == "unknown")
    assert (unknown.score, unknown.rank, unknown.reason.code) == (0.0, 8, "unknown")
    assert all(item.score > 0 for item in answer.items if item.mark != "unknown")
    assert {item.price for item in answer.items if item.item_id == "i1"} == {1}


def test_relevance_and_interest_are_mixed(desk: Desk) -> None:
    desk.did("i7")
    candidates = ["i1", "i2", "i3", "i4"]
    by_interest = ids(desk.ask("rank", candidates=candidates))
    relevance = {item: 10.0 + 5 * n for n, item in enumerate(by_interest)}  # the other way round
    given = [relevance[item] for item in candidates]
    for weight, wanted in ((0, by_interest), (1, by_interest[::-1])):
        answer = desk.ask("rank", candidates=candidates, relevance=given, weight=weight)
        assert ids(answer) == wanted
        assert [item.relevance for item in answer.items] == [relevance[i] for i in wanted]
        values = [item.value for item in answer.items]
        assert (values[0], values[-1]) == (1.0, 0.0)
    half = desk.ask("rank", candidates=candidates, relevance=given)
    for item in half.items:
        spread = [x.score for x in half.items]
        interest = (item.score - min(spread)) / (max(spread) - min(spread))
        wanted_value = 0.5 * interest + 0.5 * (item.relevance - 10) / 15  # type: ignore[operator]
        assert item.value == pytest.approx(wanted_value, abs=1e-3)
    assert len(desk.ask("rank", candidates=candidates, k=2).items) == 2


def test_unknown_candidates_keep_the_callers_order_with_its_full_weight(desk: Desk) -> None:
    answer = desk.ask("rank", candidates=["x", "i1", "y"], relevance=[3, 2, 1], weight=1)
    assert ids(answer) == ["x", "i1", "y"]
    assert ids(desk.ask("rank", candidates=["x", "y"])) == ["x", "y"]


def test_no_scale_of_relevance_overflows() -> None:
    some, known = np.array([0.1, 0.2, 0.3], np.float32), np.array([True, True, False])
    values = mixed(some, known, [-1.7e308, 1.7e308, 0.0], 1.0)
    assert values.tolist() == [0.0, 1.0, 0.5]
    assert mixed(some, known, [7.0, 7.0, 7.0], 1.0).tolist() == [1.0, 1.0, 1.0]
    assert mixed(some, known, [0.0, 0.0, 0.0], 0.0).tolist() == [0.0, 1.0, 0.0]
