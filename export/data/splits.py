"""Parts to train on and cases to measure with. In: a log. Out: `Split`s, by event time.

Nothing of the future is in the past: what a case knows is older than its target, and what is
trained on is older than what is held out: of the same user in `leave_one_out`, of anybody in
`by_time`, `by_session` and `rolling`. `folds` trains on other users altogether. Commands use
`folds`, `rolling`, `asked_moments` and `newest_share`; the others are for scripts of a shop's own.

A *moment* is the events of a user at one time: a click, or the lines of an order, which come in no
order of their own. A case asks for the items of one moment.

Must not know: models, metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from export.data.columns import changes
from export.data.dataset import Cases, Int64, Log, by_user
from export.weights import turns_towards
from stream.errors import UsageError

HELD_OUT: Final = 0.15  # of the events or sessions, the newest

Which = Literal["first", "last", "all"]


class NothingAskedError(UsageError):
    """The held-out part has no event that could be predicted."""


class Split(NamedTuple):
    """What to train on, and what to measure with."""

    train: Log
    cases: Cases


class LeaveOneOut(NamedTuple):
    """Each user's last event is the test, the one before the validation, the rest for training.

    A user of less than three events is trained on and asked nothing.
    """

    train: Log
    validation: Cases
    test: Cases


def leave_one_out(log: Log) -> LeaveOneOut:
    """Split by user; the test's cases know the event of validation too.

    The protocol of SASRec (Kang and McAuley 2018). Other users' events may be newer than a target.
    Events that do not turn towards an item are left out altogether.

    Raises
    ------
    UsageError
        No user has three events.
    """
    log = log.select(turns_towards(log.event_type))
    order = by_user(log)
    users, starts, sizes = np.unique(log.user[order], return_index=True, return_counts=True)
    if not (long := sizes >= 3).any():
        raise UsageError("no user has three events, which leaving two of them out needs")
    users, last = users[long].astype(np.int64), (starts + sizes)[long] - 1
    held = np.zeros((2, len(log)), np.bool_)
    held[0, order[last]] = True
    held[1, order[last - 1]] = True

    def cases(known: Log, at: Int64) -> Cases:
        return Cases(known.only_users(users), _alone(log.item[order[at]]))

    train, known = log.select(~(held[0] | held[1])), log.select(~held[0])
    return LeaveOneOut(train, cases(train, last - 1), cases(known, last))


def newest_share(log: Log, share: float = HELD_OUT) -> int:
    """The moment (ms) from which on `share` of the events lie."""
    return int(log.time_ms[min(len(log) - 1, int(len(log) * (1 - share)))])


def by_time(log: Log, since_ms: int, *, which: Which = "first") -> Split:
    """Train on the events before a moment; cases are moments from it on, see `moments`."""
    return Split(_not_empty(log.before(since_ms)), moments(log, since_ms, which=which))


def by_session(log: Log, share: float = HELD_OUT, *, which: Which = "all") -> Split:
    """Hold out the newest sessions; train on what lies before the first of them.

    Every moment of a held-out session is a case that knows the user's moments before it: for a
    stranger, those of the session, so that its first is none.
    """
    if not 0 < share < 1:
        raise UsageError(f"a share of {share:g} cannot be held out; give one between 0 and 1")
    begins = log.time_ms[np.unique(log.session, return_index=True)[1]]
    begins.sort()
    since_ms = int(begins[min(len(begins) - 1, int(len(begins) * (1 - share)))])
    first_of_session = np.full(int(log.session.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_of_session, log.session, log.time_ms)
    return Split(
        _not_empty(log.before(since_ms)),
        moments(log, since_ms, which=which, session_begins=first_of_session),
    )


def folds(log: Log, n: int, seed: int = 0) -> Iterator[Split]:
    """K-fold over users: each is held out once, and asked for the last moment.

    Raises
    ------
    UsageError
        Fewer than two folds, or fewer users than folds.
    """
    present = np.unique(log.user)
    if not 2 <= n <= len(present):
        raise UsageError(f"{n} folds of {len(present)} users; give 2 folds or more, and no more")
    fold_by_user = np.full(len(log.users), -1)
    fold_by_user[present] = np.random.default_rng(seed).permutation(np.arange(len(present)) % n)
    fold = fold_by_user[log.user]
    for held in range(n):
        yield Split(log.select(fold != held), moments(log.select(fold == held), which="last"))


def rolling(
    log: Log,
    n: int,
    share: float = 0.5,
    *,
    which: Which = "first",
    at: Callable[[int], Log] | None = None,
) -> Iterator[Split]:
    """Rolling origin: n windows over the newest `share` of the events, each after its training.

    Tashman 2000, "Out-of-sample tests of forecasting accuracy". Each origin trains on everything
    before it and asks for moments up to the next origin.

    Parameters
    ----------
    at : the log as it is to be at an origin (ms), such as `cleaned_at`; None: always the same

    Raises
    ------
    UsageError
        No origin is asked for, or two of them fall together.
    """
    if n < 1 or not 0 < share < 1:
        raise UsageError("give 1 or more origins, over a share between 0 and 1")
    origins = [newest_share(log, share * (n - i) / n) for i in range(n)]
    if len(set(origins)) < n:
        raise UsageError(f"the log is too short for {n} origins; give fewer")
    for since_ms, until_ms in zip(origins, [*origins[1:], None], strict=True):
        known = log if at is None else at(since_ms)
        train = _not_empty(known.before(since_ms))
        yield Split(train, moments(known, since_ms, until_ms, which=which))


def moments(
    log: Log,
    since_ms: int | None = None,
    until_ms: int | None = None,
    *,
    which: Which = "first",
    session_begins: npt.NDArray[np.int64] | None = None,
) -> Cases:
    """Cases of the moments from `since_ms` on and before `until_ms` that have something before.

    Parameters
    ----------
    log, which, session_begins : see `asked_moments`. All moments take memory for each prefix: fit
        for sessions, not for years of a user.

    Returns
    -------
    cases in the order of users, then of time; several of a user are named `user#1`, `user#2`, ...

    Raises
    ------
    UsageError
        There is none.
    """
    asked = asked_moments(log, since_ms, until_ms, which=which, session_begins=session_begins)
    lengths = asked.begins - asked.user_begins
    offsets = np.cumsum(lengths) - lengths
    within = np.arange(int(lengths.sum())) - np.repeat(offsets, lengths)
    known = asked.order[np.repeat(asked.user_begins, lengths) + within]
    case = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    names = _names(log, log.user[asked.order[asked.begins]])
    return Cases(_case_log(log, known, case, names), asked.targets)


class Moments(NamedTuple):
    """Moments that are asked for, in the order of users, then of time.

    Attributes
    ----------
    order : int64, shape (len(log),); positions in the log, user by user, each user's in time order
    user_begins, begins : int64, shape (n,); where in `order` the moment's user begins, and the
        moment: what is known of it lies between
    targets : n arrays of codes of `log.items`, ascending, each at least one long
    """

    order: Int64
    user_begins: Int64
    begins: Int64
    targets: list[Int64]


def asked_moments(
    log: Log,
    since_ms: int | None = None,
    until_ms: int | None = None,
    *,
    which: Which = "first",
    session_begins: npt.NDArray[np.int64] | None = None,
) -> Moments:
    """The moments from `since_ms` on and before `until_ms` that have something before.

    Parameters
    ----------
    log : what lies before `since_ms` is known and not asked for
    which : the first or last such moment of each user, or all of them
    session_begins : by session, ms; moments of sessions that began before `since_ms` are left out

    Raises
    ------
    UsageError
        There is none.
    """
    order = by_user(log)
    user, time_ms = log.user[order], log.time_ms[order]
    begins = np.flatnonzero(changes(order, log.user, log.time_ms))
    ends = np.append(begins[1:], len(order))
    user_begins = np.maximum.accumulate(np.where(_new(user), np.arange(len(order)), 0))
    target = turns_towards(log.event_type)[order]
    asked = np.add.reduceat(target, begins) > 0 if len(begins) else np.zeros(0, np.bool_)
    asked &= begins > user_begins[begins]
    if since_ms is not None:
        asked &= time_ms[begins] >= since_ms
        if session_begins is not None:
            asked &= session_begins[log.session[order[begins]]] >= since_ms
    if until_ms is not None:
        asked &= time_ms[begins] < until_ms
    begins, ends = begins[asked], ends[asked]
    if which != "all" and len(begins):
        new = _new(user[begins])
        if which == "last":
            new = np.append(new[1:], True)
        begins, ends = begins[new], ends[new]
    if len(begins) == 0:
        raise NothingAskedError(
            "the log asks for nothing: no user turns to an item after something; give more of it"
        )
    targets = [
        np.unique(log.item[order[first:last][target[first:last]]]).astype(np.int64)
        for first, last in zip(begins.tolist(), ends.tolist(), strict=True)
    ]
    return Moments(order, user_begins[begins], begins, targets)


def _case_log(log: Log, known: Int64, case: npt.NDArray[np.int32], names: list[str]) -> Log:
    """The known events of all cases, in time order; each case is a user with its own sessions."""
    order = np.argsort(log.time_ms[known], kind="stable")
    known, case = known[order], case[order]
    chosen = log.at(known)
    keys = case.astype(np.int64) * (int(log.session.max()) + 1) + chosen.session
    session = np.unique(keys, return_inverse=True)[1].astype(np.int32)
    return replace(chosen, users=names, user=case, session=session)


def _names(log: Log, user: npt.NDArray[np.int32]) -> list[str]:
    new = _new(user)
    number = np.arange(len(user)) - np.maximum.accumulate(np.where(new, np.arange(len(user)), 0))
    several = np.bincount(user)[user] > 1
    return [
        f"{log.users[code]}#{n + 1}" if more else log.users[code]
        for code, n, more in zip(user.tolist(), number.tolist(), several.tolist(), strict=True)
    ]


def _new(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Where a run of equal codes begins."""
    new = np.ones(len(codes), np.bool_)
    new[1:] = codes[1:] != codes[:-1]
    return new


def _alone(codes: npt.NDArray[np.int32]) -> list[Int64]:
    return list(codes.astype(np.int64)[:, None])


def _not_empty(train: Log) -> Log:
    if len(train) == 0:
        raise UsageError("no event lies before the held-out part; hold out less")
    return train
