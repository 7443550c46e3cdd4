"""Hold the newest events of a log out. In: a log. Out: `Sides`.

What models learn from at their end (when to stop, a few weights, what a member of an ensemble
counts) is not what they are measured by: the newer side is split by user, and models are compared,
and told of, by the half that none of them has looked at.

Must not know: models.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from export.data.dataset import Log
from export.data.splits import HELD_OUT, NothingAskedError, newest_share
from export.measuring.questions import Questions, moments_asked
from export.models.base import HeldOut, Int64
from export.models.warm import WarmStart
from export.weights import turns_towards
from stream.errors import UsageError

LEAST_HELD_OUT = 0.02  # of the events, however many there are; at most `splits.HELD_OUT`
ENOUGH = 20_000  # held-out events that settle everything
CASES = 6_000  # that a model is measured on
LEAST_NEW = 100  # events that an earlier bundle was not trained on


class Sides(NamedTuple):
    """The two sides of a log. Nobody is in both halves of the newer one's users.

    Attributes
    ----------
    older : what is trained on
    cases : moments of one half of the users, which models are measured by, and
    asked : some of them
    held_out : what models learn from at the end (when to stop, a few weights): the other half
    """

    log: Log
    older: Log
    cases: int
    asked: Questions
    held_out: HeldOut


def hold_out(log: Log, warm: WarmStart | None = None) -> Sides | None:
    """The newest events against the older ones; None where one side has nothing.

    With a single user to ask there is nothing to learn from: `held_out` asks for no event.

    Parameters
    ----------
    warm : it must not be asked for what it was trained on

    Raises
    ------
    UsageError
        There is hardly an event that is newer than `warm`.
    """
    share = float(np.clip(ENOUGH / max(len(log), 1), LEAST_HELD_OUT, HELD_OUT))
    if warm is not None and (new := int((log.time_ms >= warm.until_ms).sum())) < LEAST_NEW:
        raise UsageError(
            f"{warm.name}: was trained on all but the newest {new:,} events of this log, too few "
            f"to measure a model on ({LEAST_NEW}); train when there are more, or without --warm"
        )
    since_ms = max(newest_share(log, share), 0 if warm is None else warm.until_ms)
    trained = log.time_ms < since_ms
    if not trained.any():
        return None
    try:
        asked = moments_asked(log, since_ms)
    except NothingAskedError:  # those users are all new
        return None
    asked, measured_by = _half(asked)
    chosen = np.random.default_rng(0).permutation(len(asked.queries))[:CASES]
    some = dataclasses.replace(asked, queries=[asked.queries[at] for at in np.sort(chosen)])
    learned = ~trained & turns_towards(log.event_type) & ~np.isin(log.user, measured_by)
    held_out = HeldOut(trained, np.flatnonzero(learned))
    return Sides(log, log.before(since_ms), len(asked.queries), some, held_out)


def _half(asked: Questions) -> tuple[Questions, Int64]:
    """The questions to half of those who are asked any, drawn at random, and the codes of these.

    The same for the same log. The larger half of an odd number; a single user is in it.
    """
    users = np.unique([query.user for query in asked.queries])
    drawn = np.random.default_rng(0).permutation(users)[: (len(users) + 1) // 2]
    chosen = set(drawn.tolist())
    queries = [query for query in asked.queries if query.user in chosen]
    codes = [int(asked.log.user[asked.histories[user][0]]) for user in sorted(chosen)]
    return dataclasses.replace(asked, queries=queries), np.array(codes, np.int64)
