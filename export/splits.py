"""Split a log into what trains and what is asked. In: a log. Out: pairs of `Log` and `Cases`.

Must not know: models, metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from export.dataset import Cases, Log
from export.questions import histories_of, turns_towards
from stream.errors import UsageError

Int64 = npt.NDArray[np.int64]


def folds(log: Log, n: int, seed: int = 0) -> Iterator[tuple[Log, Cases]]:
    """k-fold over users: every user is held out once, and asked for the last event.

    The other folds train on users of the same months: what is measured is how a model carries over
    to other users, not to later times (`rolling`).
    """
    if n < 2:
        raise UsageError(f"{n} folds; give 2 folds or more")
    dealt = np.random.default_rng(seed).permutation(len(log.users)) % n
    towards = turns_towards(log)
    for fold in range(n):
        held_out = dealt[log.user] == fold
        known = np.zeros(len(log), np.bool_)
        users, targets = [], []
        for history in histories_of(log):
            last = np.flatnonzero(towards[history])[-1:]
            if held_out[history[0]] and last.any():
                known[history[: last[0]]] = True
                users.append(log.user[history[0]])
                targets.append(log.item[history[last]])
        if users:
            yield log.select(~held_out), _cases(log.select(known), np.array(users), targets)


def rolling(log: Log, n: int) -> Iterator[tuple[Log, Cases]]:
    """Rolling origin: train before a moment, ask for what users turn to up to the next moment.

    The newer half of the events makes n windows of as many events each. Users without an event
    before the moment are left out.
    """
    if n < 1:
        raise UsageError(f"{n} windows: at least one is needed")
    at = np.linspace(len(log) // 2, len(log), n + 1).astype(np.int64)
    moments = [*log.time_ms[at[:-1]].tolist(), int(log.time_ms[-1]) + 1]
    towards = turns_towards(log)
    for since_ms, until_ms in pairwise(moments):
        train = log.before(since_ms)
        window = log.select(towards & (log.time_ms >= since_ms) & (log.time_ms < until_ms))
        known = np.isin(np.arange(len(log.users)), train.user)
        asked = [h for h in histories_of(window) if known[window.user[h[0]]]]
        if asked:
            users = np.array([window.user[history[0]] for history in asked])
            yield train, _cases(train, users, [np.unique(window.item[h]) for h in asked])


def _cases(known: Log, users: Int64, targets: Sequence[Int64]) -> Cases:
    """Cases of `users`, codes in `known`, of whom `known` has the events."""
    number = np.full(len(known.users), -1, np.int64)
    number[users] = np.arange(len(users))
    known = known.select(number[known.user] >= 0)
    known.user = number[known.user]
    known.users = [known.users[user] for user in users.tolist()]
    return Cases(known, list(targets))
