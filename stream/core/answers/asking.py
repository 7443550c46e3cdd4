"""Requests in the engine's hands, and whom they are about. In: shards. Out: copies of states.

A request changes no state and makes none: its user is looked at, and one never seen is a guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace
from numpy.typing import NDArray

from stream.contracts import (
    EVENT_TYPES,
    PLAIN_REASONS,
    Answer,
    AnsweredItem,
    Reason,
    Status,
)
from stream.core.answers.candidates import Candidates
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.fold import rebuild
from stream.core.micro_batch import Asked
from stream.core.model import Model
from stream.core.policy.lists import VARIANT, Lists
from stream.core.policy.ring import Ring
from stream.core.users import Users
from stream.core.wire import Layout

_TYPES = {int(code): name for name, code in EVENT_TYPES.items()}
_PLAIN = {code: name for name, code in PLAIN_REASONS.items()}


class Crowd(NamedTuple):
    """Requests of one type and placement that are answered together, and whom they are about.

    Attributes
    ----------
    users : one a request, in the same order; copies
    ring : their last interactions
    """

    asked: Sequence[Asked]
    users: Users
    ring: Ring


class Room:
    """What all ways to answer share: model, catalogue and placements, and how an answer looks.

    Parameters
    ----------
    lists : of the placements
    layout : of users' states
    """

    def __init__(self, model: Model, catalogue: Catalogue, lists: Lists, layout: Layout) -> None:
        self.model = model
        self.catalogue = catalogue
        self.lists = lists
        self.layout = layout
        self.candidates = Candidates(model)

    def crowd(self, asked: Sequence[Asked]) -> Crowd:
        """Look at the users of some requests; states of another model are rebuilt in the copy."""
        rows = [
            shard.look([one.key for one in some])
            for shard, some in groupby(asked, key=lambda one: one.shard)
        ]
        ids = [one.request.user.encode() for one in asked]
        users = self.users(np.concatenate(rows), ids)
        ring = Ring.of(self.model, self.catalogue, users)
        return Crowd(asked, users, ring)

    def users(self, rows: NDArray[np.uint8], ids: list[bytes]) -> Users:
        """Users from copies of their rows, with states of this model."""
        users = Users.of_rows(self.layout, rows, ids, ids)
        stale = np.flatnonzero(users.model != self.layout.model)
        if len(stale):
            rebuild(self.model, self.catalogue, users, stale)
        return users

    def k(self, one: Asked, placement: str) -> int:
        """How many items a request asks for."""
        return one.request.k or self.lists.k(placement)

    def answers(self, crowd: Crowd, placement: str) -> list[Answer]:
        """Answers without items, to be filled."""
        return [self.answer(one, placement, "answered") for one in crowd.asked]

    def answer(self, one: Asked, placement: str, status: Status) -> Answer:
        """An answer without items."""
        request = one.request
        return Answer(
            request_id=str(request.request_id),
            user_id=request.user,
            type=request.type,
            status=status,
            placement=placement,
            known_user=one.shard.find(one.key) is not None,
            model=self.model.bundle.bundle_id,
            variant=VARIANT,
            generated_ms=one.cause.event_time_ms,
        )

    def listing(
        self,
        answer: Answer,
        rows: NDArray[np.int64],
        scores: NDArray[np.float32],
        reason: Reason,
    ) -> Answer:
        """An answer with these items, best first, all for one reason: shape (n,) each."""
        columns = zip(rows.tolist(), scores.tolist(), strict=True)
        items = [
            self.item(row, score, rank, reason) for rank, (row, score) in enumerate(columns, 1)
        ]
        return replace(answer, items=tuple(items))

    def item(self, row: int, score: float, rank: int, reason: Reason) -> AnsweredItem:
        """A line of an answer; prices are the catalogue's."""
        price = self.catalogue.prices[row]
        return AnsweredItem(
            self.catalogue.ids[row],
            rounded(score),
            rank,
            reason,
            price=UNSET if price is None else price,
        )

    def reason(self, row: int, code: int) -> Reason:
        """A reason of a column of reasons, in words."""
        if code in _PLAIN:
            return Reason(_PLAIN[code])
        return Reason(type_name(code), self.item_id(row))

    def item_id(self, row: int) -> str | None:
        """The item of a row; None for `NO_ITEM`."""
        return None if row == NO_ITEM else self.catalogue.ids[row]


def type_name(code: int) -> str:
    """An event type by its number; a later version may have added some."""
    return _TYPES.get(code, f"type_{code}")


def rounded(number: float) -> float:
    """A score as records have it: six digits."""
    return round(float(number), 6)
