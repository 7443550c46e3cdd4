"""The codec of events: a good batch in one go, bad records by name, neighbours unharmed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.contracts import (
    CLICK_TYPES,
    EVENT_TYPES,
    PURCHASE_TYPES,
    REASONS,
    Click,
    EventType,
    Kind,
    Rejection,
    Unreadable,
    codec,
    dead_letter_headers,
    decode_events,
    decode_item,
    encode_record,
    event_hash,
    item_hash,
)
from stream.errors import RecordError
from tests.support.records import GOOD, NASTY, NOW_MS, ZERO, Record, click, ids


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
