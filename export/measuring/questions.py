"""What a model is asked while a log is replayed. In: a log, or cases. Out: `Questions`.

A question stands between two events of a user: it may know what came before, its targets came
after. Everything that is reported, and what models are chosen by, is asked for here. What a model
settles for itself on held-out events it draws itself: `models/pooling.py`, `models/mixture.py`,
`models/glr/judging.py`.

Must not know: models, metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.data.dataset import Cases, Log
from export.data.splits import asked_moments
from export.weights import turns_towards

Int64 = npt.NDArray[np.int64]

MOMENTS = ("next_basket", "rest_of_basket")


class Query(NamedTuple):
    """Ask for a list of one user's, before an event.

    Attributes
    ----------
    moment : what kind of question this is
    user : number in `Questions.histories`
    position : events of the user that are known
    targets : codes of `Log.items`, each once, at least one
    taken : codes that may not be listed, since they lie in the cart already
    """

    moment: str
    user: int
    position: int
    targets: Int64
    taken: Int64


@dataclass(slots=True, eq=False)
class Questions:
    """Queries over the users of a log.

    Attributes
    ----------
    histories : positions in the log of each user's events, in time order
    """

    log: Log
    histories: list[Int64]
    queries: list[Query]

    def known(self, query: Query) -> Int64:
        """Codes of the items of the events that the query knows, oldest first."""
        return self.log.item[self.histories[query.user][: query.position]]


NOTHING = np.zeros(0, np.int64)


def cases_asked(cases: Cases) -> Questions:
    """Each case once, after all of its events; query i is case i.

    A case whose events begin another's is asked while that one is replayed: the prefixes of one
    visit are not folded again and again, and to statistics they are one user's. Events are the same
    when item, type and gap to the one before are: nothing more of them is folded.
    """
    log = cases.log
    histories = histories_of(log, len(log.users))
    gaps_ms = np.zeros(len(log), np.int64)
    texts = []
    for history in histories:
        gaps_ms[history[1:]] = np.diff(log.time_ms[history])
        columns = np.stack([c[history] for c in (log.item, log.event_type, gaps_ms)], axis=1)
        texts.append(columns.tobytes())
    queries: list[Query | None] = [None] * len(histories)
    replayed: list[Int64] = []
    longest = b""
    # Backwards in lexical order, what a text begins comes right before it.
    for case in sorted(range(len(texts)), key=texts.__getitem__, reverse=True):
        if not replayed or not longest.startswith(texts[case]):
            longest = texts[case]
            replayed.append(histories[case])
        targets = np.unique(cases.targets[case])
        at = len(replayed) - 1, len(histories[case])
        queries[case] = Query("case", *at, targets, NOTHING)
    return Questions(log, replayed, [query for query in queries if query is not None])


def moments_asked(log: Log, since_ms: int = 0) -> Questions:
    """Before every moment from `since_ms` on: what it holds, given all that its user did before.

    Lines of an order have one time and no order of their own: none is known when another is asked
    for. The cases of `splits.moments`, without a copy of what each one knows: a user's thousandth
    moment knows 999 others.

    Raises
    ------
    NothingAskedError
        There is none.
    """
    found = asked_moments(log, since_ms, which="all")
    starts, user = np.unique(found.user_begins, return_inverse=True)
    last = np.append(np.flatnonzero(np.diff(user)), len(user) - 1)
    ends = found.begins[last].tolist()
    histories = [found.order[at:end] for at, end in zip(starts.tolist(), ends, strict=True)]
    known = (found.begins - found.user_begins).tolist()
    asked = zip(user.tolist(), known, found.targets, strict=True)
    return Questions(log, histories, [Query("case", *one, NOTHING) for one in asked])


def last_items(log: Log) -> Questions:
    """Leave-one-out: before each user's last event, which item it is."""
    histories = [history for history in histories_of(log) if len(history) > 1]
    queries = [
        Query("last_item", user, len(history) - 1, log.item[history[-1:]], NOTHING)
        for user, history in enumerate(histories)
    ]
    return Questions(log, histories, queries)


def baskets(log: Log, since_ms: int) -> Questions:
    """Two questions an order from `since_ms` on.

    - `next_basket`: before the order, what will be in it;
    - `rest_of_basket`: with half of the order's events folded, what the other half is. Items of the
      first half are left out, as a shop does with what lies in the cart.
    """
    histories = histories_of(log)
    towards = turns_towards(log.event_type)
    queries: list[Query] = []
    for user, history in enumerate(histories):
        if log.time_ms[history[-1]] < since_ms:
            continue
        sessions = log.session[history]
        for session in np.unique(sessions[log.time_ms[history] >= since_ms]):
            positions = np.flatnonzero((sessions == session) & towards[history])
            if len(positions) == 0 or log.time_ms[history[positions[0]]] < since_ms:
                continue
            codes, first = np.unique(log.item[history[positions]], return_index=True)
            order = np.argsort(first)  # each item once, where the order first turns to it
            codes, positions = codes[order], positions[first[order]]
            start, middle = int(positions[0]), len(positions) // 2
            if start > 0:
                queries.append(Query("next_basket", user, start, np.unique(codes), NOTHING))
            rest = np.setdiff1d(codes[middle:], codes[:middle])
            if middle and len(rest):
                at = int(positions[middle])
                queries.append(Query("rest_of_basket", user, at, rest, codes[:middle]))
    return Questions(log, histories, queries)


def histories_of(log: Log, users: int | None = None) -> list[Int64]:
    """Positions in the log of each user's events, in time order.

    Parameters
    ----------
    users : also those without events, in the order of codes; None: only those with events
    """
    order = np.argsort(log.user, kind="stable")
    if users is None:
        return np.split(order, np.flatnonzero(np.diff(log.user[order])) + 1) if len(log) else []
    ends = np.cumsum(np.bincount(log.user, minlength=users))
    return np.split(order, ends[:-1]) if users else []
