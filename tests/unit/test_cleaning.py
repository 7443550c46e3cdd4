"""Each rule takes what it names, nothing else, and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.data import cleaning
from export.data.cleaning import NO_RULES, Rules, clean, cleaned_at
from export.data.dataset import COLUMNS
from stream.contracts import EventType
from stream.errors import UsageError
from tests.support.logs import BEGIN_MS, log_of, told

HOUR_S = 3600.0


def test_repeated_events_go_and_the_first_stays() -> None:
    log = log_of([("u", "a", 0), ("u", "a", 0), ("u", "a", 1), ("v", "a", 0), ("u", "b", 0)])
    kept, report = clean(log, replace(NO_RULES, duplicates=True))
    assert told(kept) == [("u", "a"), ("v", "a"), ("u", "b"), ("u", "a")]
    assert report.dropped == {cleaning.DUPLICATE: 1}
    assert (report.read, report.kept) == (5, 4)


def test_an_event_id_says_what_is_repeated() -> None:
    events = [("u", "a", 0), ("u", "a", 0), ("u", "a", 5), ("v", "a", 7)]
    kept, _ = clean(log_of(events, event_ids=[7, 8, 7, 7]), replace(NO_RULES, duplicates=True))
    assert [(user, int(at)) for (user, _), at in zip(told(kept), kept.event_hash, strict=True)] == [
        ("u", 7),
        ("u", 8),
        ("v", 7),
    ]


def test_a_time_far_from_all_others_goes() -> None:
    hours = [("u", "a", hour * HOUR_S) for hour in range(200)]
    years = [("u", "old", -4e7), ("u", "new", 4e7), ("u", "later", 300 * HOUR_S)]
    kept, report = clean(log_of([*hours, *years]), replace(NO_RULES, outliers=True))
    assert {item for _, item in told(kept)} == {"a", "later"}
    assert report.dropped == {cleaning.OUTLIER: 2}


def test_who_is_faster_than_a_person_goes() -> None:
    person = [("person", f"i{n}", n * 3.0) for n in range(20)]
    machine = [("machine", f"i{n}", n * 2.9) for n in range(21)]
    order = [("order", f"i{n}", 30.0, "purchase") for n in range(100)]
    log = log_of([*person, *machine, *order])
    kept, report = clean(log, replace(NO_RULES, max_per_minute=20))
    assert {user for user, _ in told(kept)} == {"person", "order"}
    assert report.dropped == {cleaning.BOT_MINUTE: 21}
    assert len(clean(log, replace(NO_RULES, max_per_minute=21))[0]) == len(log)
    _, report = clean(log, replace(NO_RULES, max_per_day=20))
    assert report.dropped == {cleaning.BOT_DAY: 21}


def test_cancellations_undo_their_purchases() -> None:
    log = log_of(
        [
            ("u", "whole", 0, "purchase", 2),
            ("u", "whole", 60, "cancel", 2),
            ("u", "part", 1, "purchase", 5),
            ("u", "part", 61, "cancel", 2),
            ("u", "returned", 2, "purchase", 1),
            ("u", "returned", 49 * HOUR_S, "cancel", 1),
            ("u", "never", 3, "cancel", 1),
            ("v", "whole", 4, "purchase", 2),
            ("u", "twice", 5, "purchase", 1),
            ("u", "twice", 6, "purchase", 1),
            ("u", "twice", 7, "cancel", 1),
        ]
    )
    kept, report = clean(log, replace(NO_RULES, cancel_within_h=48))
    left = [
        (user, item, int(kind), int(quantity))
        for (user, item), kind, quantity in zip(
            told(kept), kept.event_type, kept.quantity, strict=True
        )
    ]
    bought, cancelled = int(EventType.PURCHASE), int(EventType.CANCEL)
    assert left == [
        ("u", "part", bought, 3),
        ("u", "returned", bought, 1),
        ("v", "whole", bought, 2),
        ("u", "twice", bought, 1),
        ("u", "returned", cancelled, 1),
    ]
    assert kept.time_ms[3] == log.time_ms[told(log).index(("u", "twice"))]  # the older one stays
    assert report.dropped == {cleaning.CANCELLED: 5, cleaning.NOTHING_CANCELLED: 1}
    assert log.quantity.max() == 5


def test_a_cancellation_looks_back_alone() -> None:
    log = log_of([("u", "a", 0, "cancel"), ("u", "a", 1, "purchase")])
    kept, report = clean(log, replace(NO_RULES, cancel_within_h=1))
    assert kept.event_type.tolist() == [EventType.PURCHASE]
    assert report.dropped == {cleaning.NOTHING_CANCELLED: 1}


def test_rare_items_go_before_short_users() -> None:
    log = log_of([("u", "a", 0), ("u", "rare", 1), ("v", "a", 2), ("v", "a", 3)])
    kept, report = clean(log, replace(NO_RULES, min_count=2, min_user_events=2))
    assert told(kept) == [("v", "a"), ("v", "a")]
    assert report.dropped == {cleaning.RARE_ITEM: 1, cleaning.SHORT_USER: 1}
    assert report.table().splitlines() == [
        " 4  read",
        f"-1  {cleaning.RARE_ITEM}",
        f"-1  {cleaning.SHORT_USER}",
        " 2  kept",
    ]


def test_nothing_left_is_told_with_the_reasons() -> None:
    with pytest.raises(UsageError, match="too few events"):
        clean(log_of([("u", "a", 0)]), Rules(min_count=2))


def test_what_could_not_be_read_is_in_the_report() -> None:
    log = log_of([("u", "a", 0)])
    log.unusable["no customer"] = 3
    _, report = clean(log)
    assert report.summary() == {"read": 4, "kept": 1, "dropped": {"no customer": 3}}


@pytest.mark.parametrize("scratch", [False, True])
def test_what_lies_before_a_moment_is_left_as_it_was_then(scratch: bool, tmp_path: Path) -> None:
    machine = [("machine", f"i{n}", 2 * HOUR_S + n) for n in range(9)]
    log = log_of(
        [
            ("u", "kept", 0, "purchase"),
            ("u", "cancelled then", 1, "purchase"),
            ("u", "cancelled then", 2, "cancel"),
            ("u", "cancelled later", 3, "purchase", 2),
            ("machine", "slow", 4),
            ("u", "cancelled later", HOUR_S, "cancel", 1),
            ("u", "new", HOUR_S, "purchase"),
            ("u", "new", HOUR_S + 1, "cancel"),
            ("u", "kept", HOUR_S + 2),
            *machine,
        ]
    )
    log.scratch = tmp_path if scratch else None
    rules = Rules(max_per_minute=5, min_count=1)
    since_ms = BEGIN_MS + int(HOUR_S * 1000)
    found = cleaned_at(log, since_ms, rules)
    past = [("u", "kept"), ("u", "cancelled later"), ("machine", "slow")]
    assert told(found) == [*past, ("u", "kept")]
    older = found.before(since_ms)
    assert older.quantity.tolist() == [1, 2, 1]
    # Nothing after the moment makes any difference to what lies before it.
    then = clean(log.before(since_ms), rules)[0]
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(older, name), getattr(then, name))
    assert ("machine", "slow") not in told(clean(log, rules)[0])
    assert told(cleaned_at(log, BEGIN_MS, rules)) == told(clean(log, rules)[0])  # nothing before


events = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.sampled_from("ab"),
        st.integers(0, 5),
        st.sampled_from(["click", "purchase", "cancel"]),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=25,
)


@given(events)
@settings(max_examples=200, deadline=None)
def test_counts_add_up_and_cleaning_twice_changes_nothing(found: list[tuple]) -> None:
    log = log_of(found)
    try:
        once, report = clean(log)
    except UsageError:
        return
    assert report.read - sum(report.dropped.values()) == report.kept == len(once)
    assert (np.diff(once.time_ms) >= 0).all()
    assert (once.quantity > 0).all()
    twice, again = clean(replace(once, unusable=type(log.unusable)()))
    assert again.dropped == {}
    assert told(twice) == told(once)
