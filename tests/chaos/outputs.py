"""Lists and dead letters, as a subscriber saw them, against what they must be.

A list's `cause` is the newest event of its user that the list is known to reflect; it may reflect
more. Per user and source topic causes rise from list to list, but for repeats: what an owner of
the partition had published and not committed is published again by the next one. The record does
not mark a repeat. Its mark is the batch that it stands in: a producer id and epoch that the
changelog took up later. So the rule is

    under one owner the causes of a user and topic rise strictly, and no list of an earlier
    owner comes after one of a later owner

and a list is a marked repeat when a later owner published it and its cause is not above the
highest that the user has had. A subscriber that keeps that highest cause per user and topic, and
drops what is not above it, drops the repeats and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tests.chaos.decode import At, Event
from tests.chaos.history import SeenLetter, SeenList
from tests.chaos.logs import Record
from tests.chaos.verdict import Verdict

# Whether every dead letter has its record's own headers, first of all, and says how many.
KEEPS_OWN_HEADERS = True


class Owned(NamedTuple):
    """A list, and how many owners its partition had before the one that published it."""

    seen: SeenList
    rank: int


class _Last(NamedTuple):
    rank: int
    offset: int
    highest: int


def check_lists(
    lists: list[Owned],
    partition: int,
    events: Mapping[At, Event],
    verdict: Verdict,
    excused: Collection[At] = (),
) -> None:
    """Judge the lists of a partition, in the order of the log, given its good events.

    Parameters
    ----------
    excused : events that need no list
    """
    verdict.lists += len(lists)
    last: dict[tuple[bytes, str], _Last] = {}
    latest_owner = 0
    for (offset, user, cause, *_), rank in lists:
        if cause is None:
            continue
        where = f"list {partition}@{offset}"
        topic, of_partition, at, time_ms = cause
        event = events.get((topic, at))
        true = event is not None and event.user == user and event.time_ms == time_ms
        verdict.count("false_causes", where, not true or of_partition != partition)
        before = last.get((user, topic), _Last(-1, -1, -1))
        back = rank < latest_owner or (rank == before.rank and at <= before.offset)
        verdict.count("backward_lists", where, back)
        verdict.repeats += not back and at <= before.highest
        last[user, topic] = _Last(rank, at, max(at, before.highest))
        latest_owner = max(latest_owner, rank)
    for (topic, at), event in events.items():
        found = last.get((event.user, topic))
        if (found is None or found.highest < at) and (topic, at) not in excused:
            verdict.count("unreflected_events", f"{topic}-{partition}@{at}")


def check_letters(letters: list[SeenLetter], bad: Mapping[At, Record], verdict: Verdict) -> None:
    """Judge the dead letters of a partition, given its bad records."""
    kept = set()
    for letter in letters:
        told = dict(letter.headers)
        at = (
            (told.get("freshet-topic") or b"").decode(),
            int(told.get("freshet-offset") or -1),
        )
        record = bad.get(at)
        if record is not None and _as_sent(letter, record):
            kept.add(at)
        else:
            verdict.count("false_dead_letters", f"dead letter {letter.offset} of {at}")
    verdict.bad_records += len(bad)
    for at in bad.keys() - kept:
        verdict.count("missing_dead_letters", f"{at[0]}@{at[1]}")


def _as_sent(letter: SeenLetter, record: Record) -> bool:
    if (letter.key, letter.value) != (record.key, record.value):
        return False
    own = dict(letter.headers).get("freshet-headers")
    if own is None:
        return not KEEPS_OWN_HEADERS
    return letter.headers[: int(own)] == record.headers
