"""The caller's own items, ranked and explained. In: candidates. Out: each of them, marked.

Nothing that was asked about is left out: what a list would not have held says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.contracts import Answer, AnsweredItem, Mark, Reason
from stream.core.answers.asking import Crowd, Room, rounded
from stream.core.answers.candidates import mixed
from stream.core.answers.explaining import shares
from stream.core.catalogue import NO_ITEM
from stream.core.policy.placement import Placement

_HALF = 0.5


def rank(room: Room, crowd: Crowd, placement: str) -> list[Answer]:
    """Candidates in the order of the user's interest and the caller's relevance."""
    rows, scores, items = _judged(room, crowd, placement)
    answers = []
    for user, answer in enumerate(room.answers(crowd, placement)):
        request = crowd.asked[user].request
        relevance = request.relevance
        weight = _HALF if request.weight is None else request.weight
        values = mixed(scores[user], rows[user] != NO_ITEM, relevance, weight)
        ranked = []
        for number, at in enumerate(np.argsort(-values, kind="stable").tolist(), 1):
            item = replace(items[user][at], rank=number)
            if relevance is not None:
                item = replace(item, relevance=relevance[at], value=rounded(values[at]))
            ranked.append(item)
        answers.append(replace(answer, items=tuple(ranked[: request.k])))
    return answers


def explain(room: Room, crowd: Crowd, placement: str) -> list[Answer]:
    """Candidates in the order given, with what their scores owe to what the user did."""
    rows, _, items = _judged(room, crowd, placement)
    beta = room.lists.placement(placement).beta
    raw = crowd.users.rows
    answers = []
    for user, answer in enumerate(room.answers(crowd, placement)):
        why = shares(room, raw[user], rows[user], room.lists.item_bias, beta)
        told = [
            replace(item, because=because) for item, because in zip(items[user], why, strict=True)
        ]
        answers.append(replace(answer, items=tuple(told)))
    return answers


def _judged(
    room: Room, crowd: Crowd, placement: str
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float32]], list[list[AnsweredItem]]]:
    """Rows and scores of each user's candidates, and the candidates as they were given."""
    rules = room.lists.placement(placement)
    ids = [one.request.candidate_ids for one in crowd.asked]
    rows = [room.catalogue.rows(of_user) for of_user in ids]
    states = crowd.users.vectors
    scores = room.candidates.scores(rows, room.lists.item_bias, rules.beta, states, crowd.ring)
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for user, mine in enumerate(rows):
        padded[user, : len(mine)] = mine
    why = room.lists.reasons.of(padded, crowd.ring, states)
    struck = rules.excluded(crowd.ring)
    judged = []
    for user, mine in enumerate(rows):
        marks = _marks(ids[user], mine, rules, struck[user])
        items = []
        for at, (row, mark) in enumerate(zip(mine.tolist(), marks, strict=True)):
            reason = room.reason(int(why.rows[user, at]), int(why.types[user, at]))
            if row == NO_ITEM:
                item = AnsweredItem(ids[user][at], 0.0, at + 1, Reason("unknown"))
            else:
                item = room.item(row, scores[user][at], at + 1, reason)
            items.append(item if mark is None else replace(item, mark=mark))
        judged.append(items)
    return rows, scores, judged


def _marks(
    ids: Sequence[str], rows: NDArray[np.int64], rules: Placement, struck: NDArray[np.int64]
) -> list[Mark | None]:
    """What a list of ours would not have held of the candidates."""
    allowed, out = rules.may_list(rows).tolist(), np.isin(rows, struck).tolist()
    before: set[str] = set()
    marks: list[Mark | None] = []
    for item_id, row, may, excluded in zip(ids, rows.tolist(), allowed, out, strict=True):
        mark: Mark | None = "excluded" if excluded else None
        if not may:
            mark = "ineligible"
        if row == NO_ITEM:
            mark = "unknown"
        if item_id in before:
            mark = "repeated"
        before.add(item_id)
        marks.append(mark)
    return marks
