"""Lists put together from pieces are those that the codec writes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.contracts import (
    EVENT_TYPES,
    PLAIN_REASONS,
    Cause,
    ListedItem,
    RankedList,
    Reason,
    Recommendation,
    decode_recommendation,
    encode_record,
)
from stream.contracts.writing import ListWriter, RawRecommendation, with_variant

Listed = list[tuple[str, float | None, float, tuple[str, str]]]


WORDS = {
    "popular": ('Popular "now"', None),
    "click": ("You clicked ", " lately"),
    "like": ("", " is liked"),
    "cancel": ("You changed your mind", None),
}


def written(writer: ListWriter, *lists: Listed, longest: int = 0) -> list[msgspec.Raw]:
    """Lists of (item id, price, score, code and item of the reason)."""
    k = max([longest, *map(len, lists)])
    rows = np.zeros((len(lists), k), np.int64)
    scores = np.zeros((len(lists), k), np.float32)
    reason_rows = np.zeros((len(lists), k), np.int64)
    types = np.zeros((len(lists), k), np.uint8)
    told: dict[tuple[str, float | None], int] = {}
    for user, listed in enumerate(lists):
        for place, (item_id, price, score, (code, reason_id)) in enumerate(listed):
            rows[user, place] = told.setdefault((item_id, price), 1 + len(told))
            reason_rows[user, place] = told.setdefault((reason_id, None), 1 + len(told))
            scores[user, place] = score
            types[user, place] = EVENT_TYPES.get(code, 0)
    ids, prices = zip(*told, strict=True) if told else ((), ())
    titles = [f'{item_id} "€\x01' for item_id in ids]  # of no use where there are no words
    writer.put_items(list(told.values()), ids, prices, titles)
    return writer.ranked_lists(rows, scores, reason_rows, types)


def words_of(code: str, reason_id: str) -> str:
    before, after = WORDS[code]
    return before if after is None else f'{before}{reason_id} "€\x01{after}'


def plain(listed: Listed, *, worded: bool = False) -> RankedList:
    return RankedList(
        [
            ListedItem(
                item_id,
                round(score, 6),
                rank,
                Reason(
                    code,
                    None if code == "popular" else reason_id,
                    words_of(code, reason_id) if worded else msgspec.UNSET,
                ),
                price=msgspec.UNSET if price is None else price,
            )
            for rank, (item_id, price, score, (code, reason_id)) in enumerate(listed, 1)
        ]
    )


def record(home: object) -> Recommendation:
    cause = Cause("clicks", 0, 5, 10**12)
    kind = RawRecommendation if isinstance(home, msgspec.Raw) else Recommendation
    lists: dict[str, Any] = {"home": home}
    return kind("u", lists, "bundle", "default", cause, 10**12)


items = st.tuples(
    st.text(min_size=1, max_size=8),
    st.none() | st.floats(0, 1e9) | st.integers(0, 2**63 - 1),
    st.floats(2.0**-19, 1, width=32),
    st.tuples(
        st.sampled_from(["popular", "click", "like", "cancel"]),
        st.sampled_from(["i1", 'i"9', "é"]) | st.text(min_size=1, max_size=8),
    ),
)


@given(lists=st.lists(st.lists(items, max_size=12), max_size=5), worded=st.booleans())
def test_lists_from_pieces_are_those_of_the_codec(lists: list[Listed], worded: bool) -> None:
    made = written(ListWriter(WORDS if worded else None), *lists, longest=13)
    assert len(made) == len(lists)
    for home, listed in zip(made, lists, strict=True):
        told = plain(listed, worded=worded)
        assert decode_recommendation(encode_record(record(home))) == record(told)
        wanted = json.loads(encode_record(told))
        names = [list(item) for item in json.loads(bytes(home))["items"]]
        assert names == [list(item) for item in wanted["items"]], "fields in another order"
        whys = [list(item["reason"]) for item in json.loads(bytes(home))["items"]]
        assert whys == [list(item["reason"]) for item in wanted["items"]]


def test_a_list_of_any_length_and_of_any_ids_has_room() -> None:
    longest = "\x01" * 256  # as JSON six times as long
    listed: Listed = [(longest, 1.7976931348623157e308, 1.0, ("remove_from_cart", longest))] * 1000
    (home,) = written(ListWriter(), listed)
    assert len(json.loads(bytes(home))["items"]) == 1000
    assert decode_recommendation(encode_record(record(home))) == record(plain(listed))


@pytest.mark.parametrize(
    ("row", "reason_row", "kind"), [(3, 1, 0), (10**6, 1, 0), (-1, 1, 0), (1, 7, 2), (1, 1, 16)]
)
def test_what_the_writer_was_never_told_is_refused(row: int, reason_row: int, kind: int) -> None:
    writer = ListWriter()
    writer.put_items([1, 2], ["a", "b"], [None, None])
    with pytest.raises(IndexError):
        writer.ranked_lists(
            np.array([[row]]),
            np.ones((1, 1), np.float32),
            np.array([[reason_row]]),
            np.array([[kind]], np.uint8),
        )


@pytest.mark.parametrize("code", PLAIN_REASONS)
def test_a_plain_reason_has_no_item(code: str) -> None:
    writer = ListWriter()
    writer.put_items([1], ["a"], [None])
    rows, codes = np.ones((1, 1), np.int64), np.full((1, 1), PLAIN_REASONS[code], np.uint8)
    (home,) = writer.ranked_lists(rows, np.ones((1, 1), np.float32), rows, codes)
    wanted = RankedList([ListedItem("a", 1.0, 1, Reason(code))])
    assert json.loads(bytes(home)) == json.loads(encode_record(wanted))


def test_what_was_explored_says_so_and_how_likely_it_was() -> None:
    writer = ListWriter()
    writer.put_items([1, 2, 3], ["a", "b", "c"], [None, 2, None])
    rows, scores = np.array([[1, 2, 3]]), np.array([[0.5, 0.25, 0.125]], np.float32)
    explored = np.array([[False, True, True]])
    propensities = np.array([[1.0, 0.3, 1e-12]], np.float32)
    zeros = np.zeros((1, 3), np.uint8)
    (home,) = writer.ranked_lists(rows, scores, rows, zeros, explored, propensities)
    items = json.loads(bytes(home))["items"]
    assert [item["explored"] for item in items] == [False, True, True]
    assert [item["propensity"] for item in items] == [1.0, pytest.approx(0.3, abs=2e-8), 1e-9]
    wanted = ListedItem("b", 0.25, 2, Reason("popular"), explored=True, propensity=0.3, price=2)
    assert list(items[1]) == list(json.loads(encode_record(wanted)))


def test_a_reason_says_its_share_where_it_is_known() -> None:
    for words in (None, WORDS):
        writer = ListWriter(words)
        ids = ["a", 'b"', "c", "d", "e", "f"]
        writer.put_items([1, 2, 3, 4, 5, 6], ids, [None, 2, *[None] * 4], ids)
        rows, scores = np.array([[1, 2, 3, 4, 5, 6]]), np.full((1, 6), 0.5, np.float32)
        codes = ["click", "like", "cancel", "click", "popular", "click"]
        types = np.array([[EVENT_TYPES.get(code, 0) for code in codes]], np.uint8)
        shares = np.array([[0.25, -0.0316, np.nan, 1.0, np.nan, 4e-7]], np.float32)
        (home,) = writer.ranked_lists(rows, scores, rows, types, shares=shares)
        reasons = [item["reason"] for item in json.loads(bytes(home))["items"]]
        told = [reason.get("share") for reason in reasons]
        assert told == [0.25, -0.0316, None, 1.0, None, 0.0]
        said = reasons[1].get("words", msgspec.UNSET)
        wanted = Reason("like", 'b"', said, -0.0316)
        assert list(reasons[1].items()) == list(json.loads(encode_record(wanted)).items())
        assert bytes(home).count(b"share") == 4


def test_a_list_ends_before_the_first_item_that_is_not_to_be_listed() -> None:
    writer = ListWriter()
    writer.put_items([1], ["a"], [None])
    rows, types = np.ones((1, 3), np.int64), np.zeros((1, 3), np.uint8)
    (home,) = writer.ranked_lists(rows, np.array([[0.5, 0, 0.25]], np.float32), rows, types)
    assert [item["score"] for item in json.loads(bytes(home))["items"]] == [0.5]


def test_a_new_price_shows_and_the_old_ones_take_no_room_for_ever() -> None:
    writer = ListWriter()
    rows, types = np.array([[1, 2]]), np.zeros((1, 2), np.uint8)
    scores = np.ones((1, 2), np.float32)
    writer.put_items([2], ["still here"], [3])
    for cents in range(20_000):
        writer.put_items([1], ["the same"], [cents / 100])
    (home,) = writer.ranked_lists(rows, scores, rows, types)
    first, second = json.loads(bytes(home))["items"]
    assert (first["item_id"], first["price"]) == ("the same", 199.99)
    assert (second["item_id"], second["price"]) == ("still here", 3)
    assert writer.room_bytes < 300_000


def test_a_list_says_its_name_behind_its_items() -> None:
    writer = ListWriter()
    writer.put_items([1], ["a"], [None])
    rows, scores = np.array([[1], [1]]), np.array([[0.5], [0]], np.float32)
    types, told = np.zeros((2, 1), np.uint8), ["0123456789abcdEF", "_-_-_-_-_-_-_-_-"]
    names = np.frombuffer("".join(told).encode(), np.uint8).reshape(2, 16)
    full, empty = writer.ranked_lists(rows, scores, rows, types, names=names)
    assert bytes(empty) == encode_record(RankedList([], told[1]))
    item = ListedItem("a", 0.5, 1, Reason("popular"))
    wanted = encode_record(RankedList([item], told[0], "B"))
    assert bytes(with_variant(full, "B")) == wanted.replace(b"0.5,", b"0.500000,")
