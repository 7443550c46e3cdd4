"""The rules for lists and dead letters, on made up histories; no broker."""

from __future__ import annotations

import pytest

from tests.chaos.decode import Event
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
