"""The caller's own items, ranked and explained. In: candidates. Out: each of them, marked.

Nothing that was asked about is left out: what a list would not have held says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.contracts import Answer, AnsweredItem, Mark
from stream.core.answers.asking import Crowd, Room, Ruling, rounded, with_share
from stream.core.answers.explaining import shares
from stream.core.catalogue import NO_ITEM
from stream.core.policy.arranging import Picked
from stream.core.policy.reasons import ReasonColumns

_HALF = 0.5


class Judged(NamedTuple):
    """The candidates of n users.

    Attributes
    ----------
    rows : for each user int64, shape (m,); `NO_ITEM` for unknown items
    scores : for each float32, shape (m,)
    items : for each the lines of an answer, in the order given
    ruling : the users' with the placement
    why : of all, shape (n, the most candidates of one)
    """

    rows: list[NDArray[np.int64]]
    scores: list[NDArray[np.float32]]
    items: list[list[AnsweredItem]]
    ruling: Ruling
    why: ReasonColumns

    @classmethod
    def of(cls, room: Room, crowd: Crowd) -> Judged:
        ruling = room.ruling(crowd.audience, crowd.arm)
        ids = [one.request.candidate_ids for one in crowd.asked]
        rows = [room.catalogue.rows(of_user) for of_user in ids]
        scores = room.candidates.by_rules(
            rows,
            ruling.bits,
            partial(room.bias, crowd.arm),
            room.lists.placement(crowd.arm).beta,
            ruling.basis,
        )
        placement = room.lists.placement(crowd.arm)
        why = room.lists.why(placement, _padded(rows, NO_ITEM), ruling.basis, crowd.audience)
        judged = []
        for user, mine in enumerate(rows):
            allowed = room.allowed(crowd.arm, int(ruling.bits[user]))[mine]
            marks = _marks(ids[user], mine, allowed, ruling.struck[user])
            items = []
            for at, (row, mark) in enumerate(zip(mine.tolist(), marks, strict=True)):
                reason = room.reason(int(why.rows[user, at]), int(why.types[user, at]))
                if row == NO_ITEM:
                    item = AnsweredItem(ids[user][at], 0.0, at + 1, room.named("unknown"))
                else:
                    item = room.item(row, scores[user][at], at + 1, reason)
                items.append(item if mark is None else replace(item, mark=mark))
            judged.append(items)
        return cls(rows, scores, judged, ruling, why)

    def shares(
        self, room: Room, crowd: Crowd, ranked: Sequence[NDArray[np.int64]]
    ) -> NDArray[np.float32] | None:
        """What the best candidates owe to their reasons: float32, shape (n, m); NaN: not known.

        None: the placement does not want to know.

        Parameters
        ----------
        ranked : for each user int64, shape (<= m,); numbers of candidates, best first
        """
        at, there = _padded(ranked, 0), _padded([np.ones(len(of)) for of in ranked], 0) > 0
        rows = np.take_along_axis(_padded(self.rows, NO_ITEM), at, axis=1)
        scores = np.take_along_axis(_padded(self.scores, 0), at, axis=1)
        why = ReasonColumns._make(np.take_along_axis(of, at, axis=1) for of in self.why)
        placement = room.lists.placement(crowd.arm)
        shown = Picked(rows, np.where(there, scores, np.float32(0)))
        bias = partial(room.bias, crowd.arm)
        return room.lists.shares.of(placement, shown, why, self.ruling.basis, crowd.audience, bias)


def rank(room: Room, crowd: Crowd) -> list[Answer]:
    """Candidates in the order of the user's interest and the caller's relevance."""
    judged = Judged.of(room, crowd)
    values, ranked = [], []
    for user, one in enumerate(crowd.asked):
        request = one.request
        weight = _HALF if request.weight is None else request.weight
        known = judged.rows[user] != NO_ITEM
        mine = mixed(judged.scores[user], known, request.relevance, weight)
        values.append(mine)
        ranked.append(np.argsort(-mine, kind="stable")[: request.k])
    shares = judged.shares(room, crowd, ranked)
    answers = []
    for user, answer in enumerate(room.answers(crowd)):
        relevance = crowd.asked[user].request.relevance
        items = []
        for place, at in enumerate(ranked[user].tolist()):
            item = replace(judged.items[user][at], rank=place + 1)
            if shares is not None:
                item = with_share(item, shares[user, place])
            if relevance is not None:
                item = replace(item, relevance=relevance[at], value=rounded(values[user][at]))
            items.append(item)
        answers.append(replace(answer, items=tuple(items)))
    return answers


def explain(room: Room, crowd: Crowd) -> list[Answer]:
    """Candidates in the order given, with what their scores owe to what the user did."""
    judged = Judged.of(room, crowd)
    answers = []
    for user, answer in enumerate(room.answers(crowd)):
        row, bits = crowd.audience.users.rows[user], int(judged.ruling.bits[user])
        why = shares(room, crowd.asked[user], row, judged.rows[user], crowd.arm, bits)
        told = zip(judged.items[user], why, strict=True)
        items = tuple(replace(item, because=because) for item, because in told)
        answers.append(replace(answer, items=items))
    return answers


def _padded(columns: Sequence[NDArray[Any]], filling: int) -> NDArray[Any]:
    """Columns of one type side by side, as long as the longest of them: shape (n, m)."""
    found = np.full((len(columns), max(map(len, columns))), filling, columns[0].dtype)
    for user, mine in enumerate(columns):
        found[user, : len(mine)] = mine
    return found


def _marks(
    ids: Sequence[str],
    rows: NDArray[np.int64],
    allowed: NDArray[np.bool_],
    struck: NDArray[np.int64],
) -> list[Mark | None]:
    """What a list of ours would not have held of the candidates."""
    before: set[str] = set()
    marks: list[Mark | None] = []
    columns = (ids, rows.tolist(), allowed.tolist(), np.isin(rows, struck).tolist())
    for item_id, row, may, out in zip(*columns, strict=True):
        mark: Mark | None = "excluded" if out else None
        if not may:
            mark = "ineligible"
        if row == NO_ITEM:
            mark = "unknown"
        if item_id in before:
            mark = "repeated"
        before.add(item_id)
        marks.append(mark)
    return marks


def mixed(
    scores: NDArray[np.float32],
    known: NDArray[np.bool_],
    relevance: Sequence[float] | None,
    weight: float,
) -> NDArray[np.float64]:
    """What candidates are ordered by: (1 - weight) * interest + weight * relevance.

    Both are scaled to [0, 1] by the smallest and the largest among these candidates, since neither
    a probability of a hundredth nor a search engine's score of 17 says anything beside the other.
    Where all are alike they are 1. An item that nobody knows has no interest.

    Parameters
    ----------
    scores : float32, shape (m,)
    known : bool, shape (m,); of which candidates there is a score
    relevance : m numbers; None: the scores alone, as they are
    """
    if relevance is None:
        return scores.astype(np.float64)
    interest = np.zeros(len(scores))
    if known.any():
        interest[known] = _scaled(scores[known].astype(np.float64))
    return (1 - weight) * interest + weight * _scaled(np.array(relevance, np.float64))


def _scaled(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = np.abs(numbers).max()
    numbers = numbers / largest if largest > 0 else numbers  # a difference may not be finite else
    span = numbers.max() - numbers.min()
    return (numbers - numbers.min()) / span if span > 0 else np.ones(len(numbers))
