"""Nothing of the future is in the past, whichever way a log is split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from export.data.dataset import Cases, Log
from export.data.splits import (
    Split,
    by_session,
    by_time,
    folds,
    leave_one_out,
    moments,
    newest_share,
    rolling,
)
from export.measuring.questions import Questions, baskets
from export.training.sides import hold_out
from stream.contracts import EventType
from stream.errors import UsageError
from tests.support.logs import BEGIN_MS, log_of, told

LIKED = ["click", "click", "purchase"]

# Few users and moments, so that ties and repeats are common; the item says which event it is.
events = st.lists(
    st.tuples(st.sampled_from("uvw"), st.integers(0, 30), st.sampled_from([*LIKED, "impression"])),
    min_size=4,
    max_size=40,
)


def numbered(found: list[tuple[str, int, str]]) -> Log:
    """Each event has an item of its own, so that a code finds its time; visits of some events."""
    ordered = sorted(found, key=lambda event: event[1])
    log = log_of([(user, f"i{n}", at, kind) for n, (user, at, kind) in enumerate(ordered)])
    visit = log.user.astype(np.int64) * 100 + log.time_ms // 7000
    return replace(log, session=np.unique(visit, return_inverse=True)[1].astype(np.int32))


def time_of(log: Log, code: int) -> int:
    return int(log.time_ms[np.flatnonzero(log.item == code)[0]])


def user_of(log: Log, code: int) -> str:
    return log.users[int(log.user[np.flatnonzero(log.item == code)[0]])]


def check(log: Log, cases: Cases, train: Log | None) -> None:
    """What every kind of split promises; `train` is older than all targets, unless None."""
    assert len(cases.targets) == len(cases.log.users) == len(set(cases.log.users))
    assert (np.diff(cases.log.time_ms) >= 0).all()
    assert cases.log.items == log.items
    for code, targets in enumerate(cases.targets):
        known = cases.log.select(cases.log.user == code)
        assert targets.dtype == np.int64
        assert len(known)
        assert len(targets)
        user = cases.log.users[code].split("#")[0]
        first = min(time_of(log, target) for target in targets)
        whose = {user_of(log, item) for item in [*known.item.tolist(), *targets.tolist()]}
        assert whose == {user}
        if train is not None:
            assert known.time_ms[-1] < first
            assert train.time_ms[-1] < first


@given(events)
@settings(max_examples=150, deadline=None)
def test_leave_one_out_takes_the_two_newest(found: list[tuple[str, int, str]]) -> None:
    log = numbered(found)
    log, whole = log.select(log.event_type != EventType.IMPRESSION), log
    sizes = np.bincount(log.user, minlength=1)
    assume((sizes >= 3).any())
    split = leave_one_out(whole)
    check(log, split.validation, None)
    check(log, split.test, None)
    assert len(split.train) == len(log) - 2 * (sizes >= 3).sum()
    for code, user in enumerate(split.test.log.users):
        own = [item for who, item in told(log) if who == user]
        test, validation = (log.items[c.targets[code][0]] for c in (split.test, split.validation))
        assert [validation, test] == own[-2:]
        knows = [item for who, item in told(split.test.log) if who == user]
        assert knows == own[:-1]
        assert [item for who, item in told(split.validation.log) if who == user] == own[:-2]
        # Nothing of train is newer than what was held out of the same user.
        mine = split.train.time_ms[split.train.user == log.users.index(user)]
        assert mine.max() <= time_of(log, split.validation.targets[code][0])


@given(events, st.integers(1, 30), st.sampled_from(["first", "last", "all"]))
@settings(max_examples=150, deadline=None)
def test_by_time_trains_on_the_past(found: list[tuple], at: int, which: str) -> None:
    log = numbered(found)
    since_ms = BEGIN_MS + at * 1000
    try:
        train, cases = by_time(log, since_ms, which=which)  # type: ignore[arg-type]
    except UsageError:
        assume(False)
        return
    check(log, cases, train)
    assert (train.time_ms < since_ms).all()
    assert len(train) == (log.time_ms < since_ms).sum()
    assert all(time_of(log, code) >= since_ms for targets in cases.targets for code in targets)
    if which != "all":
        assert not any("#" in user for user in cases.log.users)


@given(events, st.floats(0.05, 0.95))
@settings(max_examples=150, deadline=None)
def test_by_session_holds_out_sessions_that_begin_later(found: list[tuple], share: float) -> None:
    log = numbered(found)
    try:
        train, cases = by_session(log, share)
    except UsageError:
        assume(False)
        return
    check(log, cases, train)
    trained = set(train.session.tolist())
    for targets in cases.targets:
        for code in targets:
            assert log.session[log.item == code][0] not in trained


@given(events, st.integers(2, 3))
@settings(max_examples=100, deadline=None)
def test_folds_train_on_other_users(found: list[tuple], n: int) -> None:
    log = numbered(found)
    assume(len(log.users) >= n)
    asked: list[str] = []
    try:
        for train, cases in folds(log, n, seed=1):
            check(log, cases, None)
            assert not {user for user, _ in told(train)} & set(cases.log.users)
            asked += cases.log.users
    except UsageError:
        assume(False)
    assert len(asked) == len(set(asked))


@given(events, st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_rolling_origins_move_on(found: list[tuple], n: int) -> None:
    log = numbered(found)
    last: list[int] = []
    targets: list[int] = []
    try:
        for train, cases in rolling(log, n):
            check(log, cases, train)
            last.append(int(train.time_ms[-1]))
            targets += [code for of_case in cases.targets for code in of_case]
    except UsageError:
        assume(False)
    assert last == sorted(last)
    assert len(targets) == len(set(targets))


def knows_nothing_newer(log: Log, asked: Questions, since_ms: int) -> None:
    """Of every question: what is known lies before what is wanted, which is of the newer side."""
    for query in asked.queries:
        history = asked.histories[query.user]
        assert len(set(log.user[history].tolist())) == 1
        known, wanted = history[: query.position], np.isin(log.item, query.targets)
        first = log.time_ms[wanted].min()
        assert query.position
        assert not wanted[known].any()  # each event has an item of its own
        assert log.time_ms[known].max() <= first
        assert first >= since_ms
        assert set(log.user[wanted].tolist()) == {log.user[history[0]]}


@given(events)
@settings(max_examples=150, deadline=None)
def test_what_a_training_holds_out_is_newer_than_what_it_knows(found: list[tuple]) -> None:
    log = numbered(found)
    held = hold_out(log)
    assume(held is not None)
    assert held is not None
    newest = int(held.older.time_ms.max())
    since_ms = int(log.time_ms[~held.held_out.trained].min())
    assert newest < since_ms
    assert len(held.older) == held.held_out.trained.sum()
    assert not held.held_out.trained[held.held_out.asked].any()
    knows_nothing_newer(log, held.asked, since_ms)
    for query in held.asked.queries:  # nor do lines of one moment know each other
        known = held.asked.histories[query.user][: query.position]
        assert log.time_ms[known].max() < log.time_ms[np.isin(log.item, query.targets)].min()


@given(events, st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_orders_are_asked_for_before_they_come(found: list[tuple], at: int) -> None:
    log = numbered(found)
    since_ms = BEGIN_MS + at * 1000
    asked = baskets(log, since_ms)
    knows_nothing_newer(log, asked, since_ms)
    for query in asked.queries:
        known = log.item[asked.histories[query.user][: query.position]]
        assert set(query.taken.tolist()) <= set(known.tolist())
        assert (query.moment == "next_basket") == (len(query.taken) == 0)


def test_every_origin_has_the_log_as_it_was_then() -> None:
    log = log_of([("u", f"i{at}", at) for at in range(100)])
    asked_at: list[int] = []

    def at(since_ms: int) -> Log:
        asked_at.append(since_ms)
        return log.select(log.item != len(asked_at))  # another item is missing at each

    for number, (train, cases) in enumerate(rolling(log, 3, at=at), 1):
        since_ms = asked_at[-1]
        assert len(train) == (log.time_ms < since_ms).sum() - 1
        assert number not in train.item
        assert number not in cases.log.item
    assert asked_at == sorted(set(asked_at))


def test_a_moment_is_one_question() -> None:
    log = log_of(
        [
            *[("u", "a", 0, "purchase"), ("u", "b", 0, "purchase")],
            *[("u", "c", 5, "purchase"), ("u", "a", 5, "purchase"), ("u", "d", 5, "impression")],
            *[("u", "c", 6, "cancel"), ("u", "e", 7), ("v", "a", 3), ("v", "b", 8)],
        ]
    )
    cases = moments(log, which="all")
    assert cases.log.users == ["u#1", "u#2", "v"]
    asked = [[log.items[code] for code in sorted(targets)] for targets in cases.targets]
    assert asked == [["a", "c"], ["e"], ["b"]]
    assert [item for user, item in told(cases.log) if user == "u#2"] == list("abcadc")
    assert moments(log, which="first").log.users == ["u", "v"]
    assert [len(t) for t in moments(log, which="last").targets] == [1, 1]


def test_strangers_are_asked_within_their_session() -> None:
    log = log_of([(f"s{n}", item, n * 60 + at) for n in range(10) for at, item in enumerate("ab")])
    train, cases = by_session(log, 0.3)
    assert len(train) == 14
    assert cases.log.users == ["s7", "s8", "s9"]
    assert [log.items[targets[0]] for targets in cases.targets] == ["b"] * 3
    assert told(cases.log) == [("s7", "a"), ("s8", "a"), ("s9", "a")]


def test_sessions_stay_apart_within_a_case() -> None:
    log = log_of([("u", "a", 0), ("u", "b", 1), ("u", "c", 2)])
    log = replace(log, session=np.array([0, 1, 1], np.int32))
    cases = moments(log, which="all")
    assert cases.log.users == ["u#1", "u#2"]
    assert len(set(cases.log.session.tolist())) == 3


SHORT = log_of([("u", "a", 0), ("u", "b", 1)])
REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("three events", lambda: leave_one_out(SHORT)),
    ("lies before", lambda: by_time(SHORT, BEGIN_MS)),
    ("asks for nothing", lambda: by_time(SHORT, BEGIN_MS + 9000)),
    ("between 0 and 1", lambda: by_session(SHORT, 1.0)),
    ("2 folds or more", lambda: list(folds(SHORT, 1))),
    ("2 folds of 1 users", lambda: list(folds(SHORT, 2))),
    ("1 or more origins", lambda: list(rolling(SHORT, 0))),
    ("too short for 9", lambda: list(rolling(SHORT, 9))),
]


@pytest.mark.parametrize(("message", "split"), REFUSED, ids=[message for message, _ in REFUSED])
def test_splits_that_cannot_be_are_refused(message: str, split: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=message):
        split()


def test_the_newest_share_is_a_moment_of_the_log() -> None:
    log = log_of([("u", "a", at) for at in range(100)])
    assert newest_share(log, 0.15) == BEGIN_MS + 85_000
    assert isinstance(by_time(log, newest_share(log)), Split)
