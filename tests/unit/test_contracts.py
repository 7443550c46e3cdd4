"""The codec: good batches in one go, bad records named one by one, neighbours unharmed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.contracts import (
    CLICK_TYPES,
    EVENT_TYPES,
    MAX_AHEAD_MS,
    MAX_VALUE_BYTES,
    MIN_EVENT_TIME_MS,
    PURCHASE_TYPES,
    REASONS,
    Cause,
    Click,
    Erasure,
    EventType,
    Item,
    Kind,
    ListedItem,
    Purchase,
    RankedList,
    Reason,
    Receipt,
    Recommendation,
    Rejection,
    Unreadable,
    codec,
    dead_letter_headers,
    decode_events,
    decode_item,
    decode_recommendation,
    decode_record,
    encode_record,
    event_hash,
    item_hash,
)
from stream.errors import RecordError

NOW_MS = 1_795_316_495_213
ZERO = "aoggjgnckaaa"  # its crc32 is 0
Record = tuple[bytes | None, bytes | None]

ids = st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode()) <= 256)


def event(**changes: Any) -> dict[str, Any]:
    """A good click, with changes; a field set to ... is left out."""
    fields = {
        "event_id": "e1",
        "user_id": "u1",
        "item_id": "i9",
        "type": "click",
        "event_time_ms": NOW_MS,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def click(**changes: Any) -> bytes:
    return json.dumps(event(**changes)).encode()


def purchase(**changes: Any) -> bytes:
    return click(**{"type": "purchase", **changes})


def raw(name: str, literal: str) -> bytes:
    """A click with JSON text of ours as the value of a field."""
    return click(**{name: "@"}).replace(b'"@"', literal.encode())


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "1" + closing * depth


# Case -> kind, value, reason, field. The key is u1 throughout.
NASTY: dict[str, tuple[Kind, bytes | None, str, str | None]] = {
    "null": ("clicks", None, "empty_value", None),
    "no bytes": ("clicks", b"", "empty_value", None),
    "not JSON": ("clicks", b"user=u1&item=i9", "not_json", None),
    "blanks": ("clicks", b"  ", "not_json", None),
    "half a record": ("clicks", click()[:-1], "not_json", None),
    "two records": ("clicks", click() + click(), "not_json", None),
    "byte order mark": ("clicks", b"\xef\xbb\xbf" + click(), "not_json", None),
    "zero bytes": ("clicks", b"\0" * 100, "not_json", None),
    "not UTF-8": ("clicks", b"\xff\xfe\x00", "not_utf8", None),
    "not UTF-8 in an id": ("clicks", click().replace(b"i9", b"\xff"), "not_utf8", None),
    "not UTF-8 in an unknown field": (
        "clicks",
        click(note="@").replace(b"@", b"\xc3"),
        "not_utf8",
        None,
    ),
    "surrogate in UTF-8": ("clicks", click().replace(b"i9", b"\xed\xa0\x80"), "not_utf8", None),
    "array": ("clicks", b"[" + click() + b"]", "not_object", None),
    "text": ("clicks", b'"u1"', "not_object", None),
    "JSON null": ("clicks", b"null", "not_object", None),
    "no user": ("clicks", click(user_id=...), "missing_field", "user_id"),
    "no item": ("clicks", click(item_id=...), "missing_field", "item_id"),
    "no type": ("clicks", click(type=...), "missing_field", "type"),
    "no time": ("clicks", click(event_time_ms=...), "missing_field", "event_time_ms"),
    "empty object": ("clicks", b"{}", "missing_field", "user_id"),
    "user is null": ("clicks", click(user_id=None), "wrong_type", "user_id"),
    "user is a float": ("clicks", click(user_id=1.0), "wrong_type", "user_id"),
    "user is a boolean": ("clicks", click(user_id=True), "wrong_type", "user_id"),
    "item is a list": ("clicks", click(item_id=["i9"]), "wrong_type", "item_id"),
    "item is a float": ("clicks", raw("item_id", "1e2"), "wrong_type", "item_id"),
    "event id is a float": ("clicks", click(event_id=0.5), "wrong_type", "event_id"),
    "type is a number": ("clicks", click(type=2), "wrong_type", "type"),
    "time is a text": ("clicks", click(event_time_ms=str(NOW_MS)), "wrong_type", "event_time_ms"),
    "time has a fraction": (
        "clicks",
        click(event_time_ms=NOW_MS + 0.5),
        "wrong_type",
        "event_time_ms",
    ),
    "time is a boolean": ("clicks", click(event_time_ms=True), "wrong_type", "event_time_ms"),
    "properties are a list": ("clicks", click(properties=[1]), "wrong_type", "properties"),
    "placement is a number": ("clicks", click(placement=3), "wrong_type", "placement"),
    "unknown type": ("clicks", click(type="stare"), "unknown_type", "type"),
    "type in capitals": ("clicks", click(type="CLICK"), "unknown_type", "type"),
    "purchase among clicks": ("clicks", click(type="purchase"), "unknown_type", "type"),
    "click among purchases": ("purchases", purchase(type="click"), "unknown_type", "type"),
    "empty user": ("clicks", click(user_id=""), "empty_id", "user_id"),
    "empty item": ("clicks", click(item_id=""), "empty_id", "item_id"),
    "empty event id": ("clicks", click(event_id=""), "empty_id", "event_id"),
    "long item": ("clicks", click(item_id="i" * 257), "id_too_long", "item_id"),
    "long event id": ("clicks", click(event_id="i" * 257), "id_too_long", "event_id"),
    "long session": ("clicks", click(session_id="i" * 257), "id_too_long", "session_id"),
    "long item in bytes alone": (
        "clicks",
        json.dumps(event(item_id="é" * 129), ensure_ascii=False).encode(),
        "id_too_long",
        "item_id",
    ),
    "long item in bytes alone, escaped": (
        "clicks",
        click(item_id="é" * 129),
        "id_too_long",
        "item_id",
    ),
    "surrogate in the user": ("clicks", raw("user_id", '"\\ud800"'), "lone_surrogate", "user_id"),
    "surrogate in the item": ("clicks", raw("item_id", '"a\\udc00b"'), "lone_surrogate", "item_id"),
    "surrogate in a property": (
        "clicks",
        raw("properties", '{"a": "\\ud800"}'),
        "lone_surrogate",
        "properties",
    ),
    "surrogate in an unknown field": ("clicks", raw("note", '"\\ud800x"'), "lone_surrogate", None),
    "NaN as time": ("clicks", raw("event_time_ms", "NaN"), "not_finite", "event_time_ms"),
    "infinite time": ("clicks", raw("event_time_ms", "1e999"), "not_finite", "event_time_ms"),
    "NaN in an unknown field": ("clicks", raw("note", "NaN"), "not_finite", None),
    "infinite property": ("clicks", raw("properties", '{"a": 1e999}'), "not_finite", "properties"),
    "infinite property in a list": (
        "clicks",
        raw("properties", '{"a": [-1e999]}'),
        "not_finite",
        "properties",
    ),
    "infinite price": (
        "purchases",
        purchase(unit_price="@").replace(b'"@"', b"1e999"),
        "not_finite",
        "unit_price",
    ),
    "-Infinity as quantity": (
        "purchases",
        purchase(quantity="@").replace(b'"@"', b"-Infinity"),
        "not_finite",
        "quantity",
    ),
    "bomb of lists": ("clicks", raw("note", nested(30_000)), "nested_too_deep", None),
    "bomb of objects": (
        "clicks",
        raw("note", nested(9_000, '{"a":', "}")),
        "nested_too_deep",
        None,
    ),
    "bomb as value": ("clicks", b"[" * 60_000, "nested_too_deep", None),
    "bomb as user": ("clicks", raw("user_id", nested(20_000)), "nested_too_deep", None),
    "deep property": ("clicks", click(properties={"a": [[1]]}), "nested_too_deep", "properties"),
    "wide user": ("clicks", raw("user_id", "9" * 19), "integer_too_large", "user_id"),
    "very wide user": ("clicks", raw("user_id", "9" * 6_000), "integer_too_large", "user_id"),
    "wide time": ("clicks", raw("event_time_ms", "9" * 30), "integer_too_large", "event_time_ms"),
    "wide negative time": (
        "clicks",
        raw("event_time_ms", "-" + "9" * 30),
        "integer_too_large",
        "event_time_ms",
    ),
    "wide property": ("clicks", click(properties={"a": 2**64}), "integer_too_large", "properties"),
    "wide price": ("purchases", purchase(unit_price=2**70), "integer_too_large", "unit_price"),
    "time in seconds": (
        "clicks",
        click(event_time_ms=NOW_MS // 1000),
        "event_time_too_old",
        "event_time_ms",
    ),
    "time before 1970": ("clicks", click(event_time_ms=-1), "event_time_too_old", "event_time_ms"),
    "the last of 1999": (
        "clicks",
        click(event_time_ms=MIN_EVENT_TIME_MS - 1),
        "event_time_too_old",
        "event_time_ms",
    ),
    "over a day ahead": (
        "clicks",
        click(event_time_ms=NOW_MS + MAX_AHEAD_MS + 1),
        "event_time_ahead",
        "event_time_ms",
    ),
    "another's key": ("clicks", click(user_id="u2"), "key_mismatch", "user_id"),
    "too large": ("clicks", click(note="x" * MAX_VALUE_BYTES), "value_too_large", None),
    "no quantity at all": ("purchases", purchase(quantity=0), "out_of_range", "quantity"),
    "negative price": ("purchases", purchase(unit_price=-0.01), "out_of_range", "unit_price"),
    "price as text": ("purchases", purchase(unit_price="1.5"), "wrong_type", "unit_price"),
    "currency as number": ("purchases", purchase(currency=978), "wrong_type", "currency"),
}

GOOD: dict[Kind, list[bytes]] = {
    "clicks": [
        click(),
        click(event_id=...),
        click(event_id=None, session_id=None, placement=None, properties=None),
        click(event_id=7, item_id=-3, session_id=2**63 - 1),
        click(item_id="é" * 128, event_id="ключ"),
        json.dumps(event(item_id="naïve 🛒"), ensure_ascii=False).encode(),
        click(properties={"a": 1, "b": [1.5, None, "x", True], "c": {"d": 2}}, placement="home"),
        click(note={"deep": [[[{"a": 2**70}]]]}, another=1),
        click(event_time_ms=MIN_EVENT_TIME_MS),
        click(event_time_ms=NOW_MS + MAX_AHEAD_MS),
        b" " + click(item_id="\0") + b"\n",
        click(note="x" * (MAX_VALUE_BYTES - 200)),
        *(click(type=name) for name in sorted(CLICK_TYPES)),
    ],
    "purchases": [
        purchase(),
        purchase(type="cancel"),
        purchase(quantity=2, unit_price=0, currency="EUR"),
        purchase(quantity=0.5, unit_price=1e300, currency=None),
    ],
}


def one(kind: Kind, value: bytes | None, key: bytes | None = b"u1") -> list[Rejection]:
    return decode_events(kind, [key], [value], [0], NOW_MS)[1]


@pytest.mark.parametrize("case", NASTY)
def test_a_nasty_gets_its_reason_and_leaves_its_neighbours_alone(case: str) -> None:
    kind, value, reason, field = NASTY[case]
    neighbour = GOOD[kind][0]
    events, rejections = decode_events(
        kind, [b"u1"] * 3, [neighbour, value, neighbour], [5, 6, 8], NOW_MS
    )
    assert rejections == [Rejection(1, reason, field)]
    assert reason in REASONS
    assert events.offsets.tolist() == [5, 8]
    assert events.items == ["i9", "i9"]
    assert one(kind, value) == [Rejection(0, reason, field)]


def test_every_reason_has_a_case() -> None:
    elsewhere = {"unknown_kind", "key_missing", "batch_unreadable", "batch_too_large"}
    elsewhere |= {"unknown_placement", "length_mismatch"}  # of requests: test_requests.py
    assert {reason for _, _, reason, _ in NASTY.values()} | elsewhere == REASONS


@pytest.mark.parametrize("kind", ["clicks", "purchases"])
def test_good_records_pass(kind: Kind) -> None:
    for value in GOOD[kind]:
        assert one(kind, value) == [], value[:200]
        assert codec._decode_together(kind, [b"u1"], [value], [0], NOW_MS) is not None, "slow path"


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "key_missing"), (b"", "key_mismatch"), (b"\xff", "key_mismatch")]
)
def test_keys(key: bytes | None, reason: str) -> None:
    assert one("clicks", click(), key) == [Rejection(0, reason, "user_id")]


def test_a_long_user_is_refused_whatever_the_key() -> None:
    assert one("clicks", click(user_id="é" * 129), ("é" * 129).encode()) == [
        Rejection(0, "id_too_long", "user_id")
    ]


pieces = st.one_of(
    st.sampled_from([(b"u1", value) for _, value, _, _ in NASTY.values()]),
    st.sampled_from([(b"u1", value) for values in GOOD.values() for value in values]),
    st.tuples(st.sampled_from([b"u1", b"7", None]), st.sampled_from([click(), click(user_id=7)])),
    st.tuples(st.just(b"u1"), st.binary(max_size=40)),
    ids.map(lambda user: (user.encode(), click(user_id=user))),
)


@settings(max_examples=150)
@given(st.sampled_from(["clicks", "purchases"]), st.lists(pieces, max_size=8))
def test_batch_and_single_records_agree(kind: Kind, batch: list[Record]) -> None:
    """However records are mixed, each is judged and decoded as it is alone."""
    keys, values = [key for key, _ in batch], [value for _, value in batch]
    offsets = list(range(100, 100 + len(batch)))
    events, rejections = decode_events(kind, keys, values, offsets, NOW_MS)
    alone = [
        decode_events(kind, [k], [v], [o], NOW_MS) for (k, v), o in zip(batch, offsets, strict=True)
    ]
    assert rejections == [
        r._replace(position=p) for p, (_, found) in enumerate(alone) for r in found
    ]
    assert len(events) == len(batch) - len(rejections)
    for column in ("users", "items", "types", "times_ms", "event_hashes", "offsets"):
        assert list(getattr(events, column)) == [v for e, _ in alone for v in getattr(e, column)]
    assert (codec._decode_together(kind, keys, values, offsets, NOW_MS) is None) == bool(rejections)


@given(
    st.lists(st.tuples(ids, ids, st.none() | ids, st.sampled_from(sorted(CLICK_TYPES))), max_size=5)
)
def test_columns_hold_what_was_encoded(rows: list[tuple[str, str, str | None, Any]]) -> None:
    clicks = [
        Click(user_id=u, item_id=i, type=t, event_time_ms=NOW_MS - n, event_id=e)
        for n, (u, i, e, t) in enumerate(rows)
    ]
    keys = [user.encode() for user, _, _, _ in rows]
    events, rejections = decode_events(
        "clicks", keys, list(map(encode_record, clicks)), range(len(rows)), NOW_MS
    )
    assert not rejections
    assert events.users == keys
    assert events.items == [item for _, item, _, _ in rows]
    assert events.types.tolist() == [EVENT_TYPES[name] for _, _, _, name in rows]
    assert events.times_ms.tolist() == [NOW_MS - n for n in range(len(rows))]
    assert events.event_hashes.tolist() == [
        0 if e is None else event_hash(e) for _, _, e, _ in rows
    ]
    assert events.types.dtype == np.uint8
    assert events.times_ms.dtype == events.offsets.dtype == np.int64
    assert events.event_hashes.dtype == np.uint32


def test_tail() -> None:
    batch = [click(item_id=f"i{n}") for n in range(4)]
    events, _ = decode_events("clicks", [b"u1"] * 4, batch, [1, 2, 5, 9], NOW_MS)
    tail = events.tail(2)
    assert (tail.items, tail.offsets.tolist(), len(tail)) == (["i2", "i3"], [5, 9], 2)
    assert len(events.tail(4)) == 0


def test_numbers_become_strings() -> None:
    events, rejections = decode_events(
        "clicks",
        [b"12", b"12"],
        [
            click(user_id=12, item_id=34, event_id=56),
            click(user_id="12", item_id="34", event_id="56"),
        ],
        [0, 1],
        NOW_MS,
    )
    assert not rejections
    assert (events.users, events.items) == ([b"12"] * 2, ["34"] * 2)
    assert events.event_hashes.tolist() == [event_hash("56")] * 2


def test_hashes_are_never_zero_and_never_change() -> None:
    # crc32 of this text is 0; a ring must not take it for "no event_id".
    assert event_hash(ZERO) == 1
    events, _ = decode_events("clicks", [b"u1"], [click(event_id=ZERO)], [0], NOW_MS)
    assert events.event_hashes.tolist() == [1]
    # States hold these: another value would make them unreadable.
    assert item_hash("i9") == 13346599927420350960
    assert event_hash("e1") == 143494439


def test_types_and_topics() -> None:
    assert set(EVENT_TYPES) == CLICK_TYPES | PURCHASE_TYPES
    assert not CLICK_TYPES & PURCHASE_TYPES
    assert [int(code) for code in EventType] == list(range(1, 10))


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


def test_a_batch_that_cannot_be_read_is_rejected_in_its_place() -> None:
    rest = Unreadable.of(b"\0\1raw", "batch_unreadable", 6, 9)
    keys, values = [b"u1", None, b"u1"], [click(), rest, click()]
    events, rejections = decode_events("clicks", keys, values, [5, 9, 10], NOW_MS)
    assert events.offsets.tolist() == [5, 10]
    assert rejections == [Rejection(1, "batch_unreadable", None)]
    told = dict(dead_letter_headers("batch_unreadable", None, "clicks", 0, 9, value=rest))
    assert (told["freshet-offset"], told["freshet-last-offset"]) == (b"6", b"9")
    with pytest.raises(RecordError, match="batch_unreadable"):
        decode_item(None, rest)


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
