"""Records as bytes and back: lists, items, receipts, what a dead letter says."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.contracts import (
    MAX_VALUE_BYTES,
    Cause,
    Erasure,
    Item,
    ListedItem,
    Purchase,
    RankedList,
    Reason,
    Receipt,
    Recommendation,
    dead_letter_headers,
    decode_item,
    decode_recommendation,
    decode_record,
    encode_record,
)
from stream.errors import RecordError
from tests.support.records import NOW_MS, ids

texts = st.text(max_size=10)
scores = st.floats(0, 1).map(lambda score: round(score, 6))
listed = st.builds(
    ListedItem, ids, scores, st.integers(1, 100), st.builds(Reason, texts, st.none() | ids)
)
recommendations = st.builds(
    Recommendation,
    user_id=ids,
    lists=st.dictionaries(texts, st.builds(RankedList, st.lists(listed, max_size=3)), max_size=2),
    model=texts,
    variant=texts,
    cause=st.builds(Cause, texts, st.integers(0, 9), st.integers(0, 2**62), st.integers(0, 2**62)),
    generated_ms=st.integers(0, 2**62),
)


@given(recommendations)
def test_recommendation_round_trip(recommendation: Recommendation) -> None:
    value = encode_record(recommendation)
    assert decode_recommendation(value) == recommendation
    assert json.loads(value)["user_id"] == recommendation.user_id


def test_recommendation_on_the_wire_has_every_field() -> None:
    item = ListedItem("i9", 0.731244, 1, Reason("view", "i3"))
    value = encode_record(
        Recommendation(
            "u1", {"home": RankedList([item])}, "b", "v", Cause("clicks", 2, 77, NOW_MS), NOW_MS
        )
    )
    assert json.loads(value) == {
        "user_id": "u1",
        "lists": {
            "home": {
                "items": [
                    {
                        "item_id": "i9",
                        "score": 0.731244,
                        "rank": 1,
                        "reason": {"code": "view", "item_id": "i3"},
                        "explored": False,
                        "propensity": 1.0,
                    }
                ]
            }
        },
        "model": "b",
        "variant": "v",
        "cause": {"topic": "clicks", "partition": 2, "offset": 77, "event_time_ms": NOW_MS},
        "generated_ms": NOW_MS,
    }


@pytest.mark.parametrize(
    "record",
    [
        Purchase("u1", "i9", "purchase", NOW_MS, quantity=2, unit_price=1.5, currency="EUR"),
        Erasure("u1", NOW_MS),
        Receipt("abc", Cause("erasures", 1, 2, NOW_MS), ("changelog",), {"clicks": None}, NOW_MS),
        Receipt("abc", Cause("erasures", 1, 2, NOW_MS), ("changelog",), {}, NOW_MS, ("clicks",)),
    ],
    ids=lambda record: type(record).__name__,
)
def test_record_round_trip(record: msgspec.Struct) -> None:
    assert decode_record(type(record), encode_record(record)) == record


def test_item() -> None:
    item = Item("i9", title="Mug", price=2.5, tags=("red",), embedding=(0.5, -1.0))
    assert decode_item(b"i9", encode_record(item)) == item
    assert decode_item(b"9", b'{"item_id": 9, "price": 3, "shelf": "B"}') == Item("9", price=3)
    assert decode_item(b"i9", None) is None


@pytest.mark.parametrize(
    ("key", "value", "reason", "field"),
    [
        (None, None, "key_missing", "item_id"),
        (None, b'{"item_id": "i9"}', "key_missing", "item_id"),
        (b"i8", b'{"item_id": "i9"}', "key_mismatch", "item_id"),
        (b"i9", b"", "empty_value", None),
        (b"i9", b"{}", "missing_field", "item_id"),
        (b"", b'{"item_id": ""}', "empty_id", "item_id"),
        (b"i9", b'{"item_id": "i9", "kind": "car"}', "unknown_kind", "kind"),
        (b"i9", b'{"item_id": "i9", "price": -1}', "out_of_range", "price"),
        (b"i9", b'{"item_id": "i9", "price": 1e999}', "not_finite", "price"),
        (b"i9", b'{"item_id": "i9", "available": "no"}', "wrong_type", "available"),
        (b"i9", b'{"item_id": "i9", "embedding": [1, NaN]}', "not_finite", "embedding"),
        (b"i9", b'{"item_id": "i9", "embedding": [[1]]}', "wrong_type", "embedding"),
        (b"i9", b'{"item_id": "i9", "title": "\xff"}', "not_utf8", None),
        (
            b"i9",
            b'{"item_id": "i9", "title": "' + b"x" * MAX_VALUE_BYTES + b'"}',
            "value_too_large",
            None,
        ),
    ],
)
def test_unusable_item(
    key: bytes | None, value: bytes | None, reason: str, field: str | None
) -> None:
    with pytest.raises(RecordError) as caught:
        decode_item(key, value)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_errors_never_show_what_is_in_a_record() -> None:
    for value in (
        b'{"item_id": "i9", "kind": "Ada Lovelace"}',
        b'{"item_id": "i9", "Ada Lovelace": NaN}',
        b'{"item_id": "Ada Lovelace"}',
        b'"Ada Lovelace"',
    ):
        with pytest.raises(RecordError) as caught:
            decode_item(b"i9", value)
        assert "Ada" not in str(caught.value)
        assert caught.value.__cause__ is None


OURS = [
    ("freshet-reason", b"wrong_type"),
    ("freshet-field", b"user_id"),
    ("freshet-topic", b"clicks"),
    ("freshet-partition", b"3"),
    ("freshet-offset", b"41"),
]


def test_dead_letter_headers() -> None:
    place = ("clicks", 3, 41)
    assert dead_letter_headers("wrong_type", "user_id", *place) == [
        *OURS,
        ("freshet-headers", b"0"),
    ]
    assert dead_letter_headers("not_json", None, *place)[1] == ("freshet-field", b"")


def test_forged_headers_are_told_from_ours() -> None:
    forged = [
        ("freshet-headers", b"9"),
        ("freshet-reason", b"not_json"),
        ("a", None),
        ("freshet-value-bytes", b"7"),
        ("a", b"\xff"),
    ]
    made = dead_letter_headers("wrong_type", "user_id", "clicks", 3, 41, sent=forged)
    assert made == [*forged, *OURS, ("freshet-headers", b"5")]
    last = dict(made)  # what Java's Headers.lastHeader gives
    assert made[: int(last["freshet-headers"] or 0)] == forged


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "key_missing"),
        (b"", "key_missing"),
        (b"\xff", "not_utf8"),
        (b"x" * 257, "id_too_long"),
    ],
)
def test_a_tombstone_is_for_a_key_that_an_item_may_have(key: bytes | None, reason: str) -> None:
    assert decode_item(b"x" * 256, None) is None
    with pytest.raises(RecordError, match=reason):
        decode_item(key, None)
