"""The rules for lists, dead letters and erasures, on made up histories; no broker."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.chaos.decode import Erasure, Event
from tests.chaos.erasures import Forgotten, Receipt, check_receipts, check_taken_back
from tests.chaos.history import SeenLetter, SeenList
from tests.chaos.logs import Record
from tests.chaos.outputs import Owned, check_letters, check_lists
from tests.chaos.verdict import Verdict

EVENTS = {("clicks", offset): Event(b"u", "i", 0, 1, 1000 + offset) for offset in range(5)}
EVENTS["purchases", 0] = Event(b"u", "i", 0, 8, 2000)


def lists(*causes: tuple[int, int]) -> list[Owned]:
    """Lists of the user by (rank of the owner, offset in clicks); the purchase's comes first."""
    seen = [Owned(SeenList(0, b"u", ("purchases", 0, 0, 2000)), causes[0][0])]
    for rank, at in causes:
        seen.append(Owned(SeenList(len(seen), b"u", ("clicks", 0, at, 1000 + at)), rank))
    return seen


def judged(*causes: tuple[int, int]) -> Verdict:
    verdict = Verdict()
    check_lists(lists(*causes), 0, EVENTS, verdict)
    return verdict


def test_causes_rise_and_a_later_owner_repeats() -> None:
    verdict = judged((0, 0), (0, 3), (1, 1), (1, 3), (1, 4))
    assert verdict.right
    assert verdict.repeats == 2
    assert verdict.lists == 6


@pytest.mark.parametrize(
    ("causes", "faults"),
    [
        ([(0, 3), (0, 1), (0, 4)], {"backward_lists": 1}),  # back
        ([(0, 3), (0, 3), (0, 4)], {"backward_lists": 1}),  # twice
        ([(1, 3), (0, 4)], {"backward_lists": 1}),  # an earlier owner
        ([(0, 3)], {"unreflected_events": 1}),  # the last one is missing
    ],
)
def test_what_lists_must_not_do(causes: list[tuple[int, int]], faults: dict[str, int]) -> None:
    assert judged(*causes).faults == faults


def test_a_cause_is_an_event_of_its_user() -> None:
    verdict = Verdict()
    wrong = [
        Owned(SeenList(0, b"u", ("clicks", 0, 9, 1009)), 0),  # no such event
        Owned(SeenList(1, b"v", ("clicks", 0, 4, 1004)), 0),  # another user's
        Owned(SeenList(2, b"x", ("clicks", 0, 4, 1)), 0),  # another time
        Owned(SeenList(3, b"w", None), 0),  # a user who is forgotten has no cause
    ]
    check_lists(wrong, 0, {}, verdict)
    assert verdict.faults == {"false_causes": 3}


def letter(headers: list[tuple[str, bytes | None]], value: bytes | None = b"x") -> SeenLetter:
    told = [("freshet-topic", b"clicks"), ("freshet-partition", b"0"), ("freshet-offset", b"7")]
    own = [("freshet-headers", b"%d" % len(headers))]
    return SeenLetter(0, b"k", value, [*headers, *told, *own])


def test_a_dead_letter_is_as_sent() -> None:
    bad = {("clicks", 7): Record(7, b"k", b"x", [("trace", b"1")])}
    for wrong in (letter([]), letter([("trace", b"2")]), letter([("trace", b"1")], b"x ")):
        verdict = Verdict()
        check_letters([wrong], bad, verdict)
        assert verdict.faults == {"false_dead_letters": 1, "missing_dead_letters": 1}
    verdict = Verdict()
    check_letters([wrong, letter([("trace", b"1")])], bad, verdict)
    assert verdict.faults == {"false_dead_letters": 1}
    verdict = Verdict()
    check_letters([letter([("trace", b"1")])] * 2, bad, verdict)
    assert verdict.right
    assert verdict.bad_records == 1


def test_null_is_not_empty() -> None:
    verdict = Verdict()
    check_letters([letter([], b"")], {("clicks", 7): Record(7, b"k", None, [])}, verdict)
    assert verdict.missing_dead_letters == 1


ASKED = {("erasures", 3): Erasure(b"u", 1002)}


def erased(rank: int = 1, salt: bytes = b"s") -> Forgotten:
    """After the erasure, applied by an owner of that rank."""
    forgotten = Forgotten()
    forgotten.erase(("erasures", 3), ASKED["erasures", 3], rank)
    mark = b"\xff\x01" + hashlib.blake2b(b"u", key=salt, digest_size=16).digest()
    verdict = Verdict()
    there = {b"\xff\x02": salt, mark: (1002).to_bytes(8, "little")}
    forgotten.check_marks({b"u"}, there, "", verdict)
    assert verdict.right
    return forgotten


@pytest.mark.parametrize(
    "there",
    [
        {},
        {b"\xff\x02": b"t"},  # another salt
        {b"\xff\x01" + b"x" * 16: bytes(8)},  # a mark of nobody
    ],
)
def test_a_mark_stands_with_its_erasure(there: dict[bytes, bytes | None]) -> None:
    forgotten, verdict = erased(), Verdict()
    forgotten.check_marks({b"u"} if not there else set(), there, "", verdict)
    assert verdict.faults == {"wrong_marks": 1}


def test_events_up_to_the_erasure_bring_nobody_back() -> None:
    forgotten = erased()
    assert not forgotten.heeds(("clicks", 2), EVENTS["clicks", 2], here=False)
    assert not forgotten.back
    assert forgotten.heeds(("clicks", 3), EVENTS["clicks", 3], here=False)
    assert forgotten.heeds(("clicks", 2), EVENTS["clicks", 2], here=True)
    assert forgotten.back == {b"u"}
    assert forgotten.excused == {("clicks", 2)}


@pytest.mark.parametrize(
    ("seen", "here", "faults"),
    [
        ([(0, 2), (1, None)], False, {}),
        ([(0, None), (0, 2), (1, None)], False, {}),  # the first owner's batch was lost
        ([(0, 2)], False, {"kept_lists": 1}),
        ([(0, 2), (0, None)], False, {"kept_lists": 1}),  # not since it was applied
        ([(1, None), (1, 2)], False, {"kept_lists": 2}),  # again, and to stay
        ([(1, None), (2, 2), (2, None)], False, {"kept_lists": 1}),
        ([(1, None), (1, 3)], False, {}),  # an event since
        ([(0, 2), (1, 3)], True, {}),  # back, and the null was lost
    ],
)
def test_lists_are_taken_back(
    seen: list[tuple[int, int | None]], here: bool, faults: dict[str, int]
) -> None:
    made = [
        Owned(SeenList(i, b"u", None if at is None else ("clicks", 0, at, 1000 + at)), rank)
        for i, (rank, at) in enumerate(seen)
    ]
    verdict = Verdict()
    check_taken_back(ASKED, erased(), made, {b"u"} if here else set(), verdict)
    assert verdict.faults == faults


def test_a_null_needs_an_erasure() -> None:
    verdict = Verdict()
    check_taken_back({}, Forgotten(), [Owned(SeenList(0, b"u", None), 0)], set(), verdict)
    assert verdict.faults == {"false_nulls": 1}


def receipt(rank: int, *, offset: int = 3, time_ms: int = 1002, user: bytes = b"u") -> Receipt:
    name = hashlib.blake2b(user, key=b"s", digest_size=16).hexdigest()
    cause = {"topic": "erasures", "partition": 0, "offset": offset, "event_time_ms": time_ms}
    value = json.dumps({"user_hash": name, "erasure": cause}).encode()
    return Receipt(Record(0, name.encode(), value, []), rank)


@pytest.mark.parametrize(
    ("receipts", "faults"),
    [
        ([receipt(1)], {}),
        ([receipt(1), receipt(2)], {}),  # again, after a crash
        ([], {"missing_receipts": 1}),
        ([receipt(0), receipt(1)], {"early_receipts": 1}),
        ([receipt(1, offset=4)], {"false_receipts": 1, "missing_receipts": 1}),
        ([receipt(1), receipt(1, time_ms=1)], {"false_receipts": 1}),
        ([receipt(1), receipt(1, user=b"v")], {"false_receipts": 1}),
    ],
)
def test_receipts(receipts: list[Receipt], faults: dict[str, int]) -> None:
    verdict = Verdict()
    check_receipts(ASKED, erased(), receipts, 0, verdict)
    assert verdict.faults == faults
