"""Marks of erasures: kept by hash alone, read back from the changelog."""

from __future__ import annotations

import pytest

from stream.core.keys import ITEM_PREFIX, MARK_PREFIX, SALT_KEY, SEGMENTS_PREFIX, Kind, kind_of
from stream.core.marks import Marks
from stream.errors import StateError
from stream.kafka.applied import APPLIED_KEY


def restored(*records: tuple[bytes, bytes | None]) -> Marks:
    erased = Marks()
    for key, value in records:
        assert kind_of(key) is Kind.MARK
        erased.load(key, value)
    return erased


def test_a_mark_outlives_the_process_and_holds_no_id() -> None:
    erased = Marks()
    records = erased.add(b"somebody", 1_000)
    assert b"somebody" not in b"".join(key + (value or b"") for key, value in records)
    again = restored(*records)
    assert again.erased_ms(b"somebody") == 1_000
    assert again.erased_ms(b"somebody else") == 0
    assert again.hash_of(b"somebody") == erased.hash_of(b"somebody")
    assert len(again) == 1


def test_the_salt_is_drawn_once() -> None:
    erased = Marks()
    first, second = erased.add(b"a", 1), erased.add(b"b", 2)
    assert [key for key, _ in first if key == SALT_KEY] == [SALT_KEY]
    assert [key[:2] for key, _ in second] == [MARK_PREFIX]
    assert Marks().add(b"a", 1)[0] != first[0], "another partition has another salt"


def test_an_erasure_never_moves_back() -> None:
    erased = Marks()
    records = erased.add(b"a", 5) + erased.add(b"a", 3)
    assert erased.erased_ms(b"a") == restored(*records).erased_ms(b"a") == 5
    erased.add(b"a", 9)
    assert erased.erased_ms(b"a") == 9


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"\xff\x05new", b"x"),
        (SEGMENTS_PREFIX + b"short", b"x"),
        (APPLIED_KEY, b"{}"),
        (SALT_KEY, b"short"),
        (SALT_KEY, None),
        (MARK_PREFIX + b"short", bytes(8)),
        (MARK_PREFIX + bytes(16), bytes(7)),
        (MARK_PREFIX + bytes(16), None),
    ],
)
def test_foreign_records_are_refused(key: bytes, value: bytes | None) -> None:
    with pytest.raises(StateError, match="changelog"):
        restored((key, value))


def test_a_key_tells_what_its_record_is_of() -> None:
    keys = {
        b"u1": Kind.USER,
        bytes(32): Kind.USER,
        "ÿ".encode(): Kind.USER,
        SALT_KEY: Kind.MARK,
        MARK_PREFIX + bytes(16): Kind.MARK,
        ITEM_PREFIX + bytes(8): Kind.ITEM,
        SEGMENTS_PREFIX + bytes(8): Kind.SEGMENTS,
    }
    assert {key: kind_of(key) for key in keys} == keys
