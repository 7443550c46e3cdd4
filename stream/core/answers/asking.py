"""Requests in the engine's hands, and whom they are about. In: shards. Out: copies of states.

A request changes no state and makes none: its user is looked at, and one never seen is a guest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType
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
from stream.core.bundle import NEVER_LISTED
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.fold import rebuild
from stream.core.micro_batch import Asked
from stream.core.model import Model
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.lists import Lists
from stream.core.policy.ring import Ring
from stream.core.policy.variants import placement_and_variant
from stream.core.users import Users
from stream.core.wire import Layout
from stream.words.templates import Words

_TYPES = {int(code): name for name, code in EVENT_TYPES.items()}
_PLAIN = {code: name for name, code in PLAIN_REASONS.items()}


class Crowd(NamedTuple):
    """Requests of one type and arm of a placement (`policy/variants.py`), answered together.

    Attributes
    ----------
    arm : its name
    audience : whom they are about, one user a request, in the same order; copies
    """

    asked: Sequence[Asked]
    arm: str
    audience: Audience


class Ruling(NamedTuple):
    """What a placement's rules say of n users.

    Attributes
    ----------
    bits : int64, shape (n,); which rules are in force
    basis : what their items are scored by
    struck : int64, shape (n, m); rows that must not be listed, padded with `NO_ITEM`
    """

    bits: NDArray[np.int64]
    basis: Basis
    struck: NDArray[np.int64]


class Room:
    """What all ways to answer share: model, catalogue and placements, and how an answer looks.

    Parameters
    ----------
    lists : of the placements
    layout : of users' states

    Attributes
    ----------
    words : put beside the codes of reasons; None: nothing is
    """

    def __init__(self, model: Model, catalogue: Catalogue, lists: Lists, layout: Layout) -> None:
        self.words: Words | None = None
        self.model = model
        self.catalogue = catalogue
        self.lists = lists
        self.layout = layout
        self.candidates = lists.candidates

    def crowd(self, asked: Sequence[Asked], arm: str) -> Crowd:
        """Look at the users of some requests; states of another model are rebuilt in the copy."""
        rows = [
            shard.look([one.key for one in some])
            for shard, some in groupby(asked, key=lambda one: one.shard)
        ]
        return Crowd(asked, arm, self.audience(np.concatenate(rows), asked))

    def audience(self, rows: NDArray[np.uint8], asked: Sequence[Asked]) -> Audience:
        """Users from copies of their rows, one a request, with states of this model."""
        ids = [one.request.user.encode() for one in asked]
        users = Users.of_rows(self.layout, rows, ids, [one.key for one in asked])
        stale = np.flatnonzero(users.model != self.layout.model)
        if len(stale):
            rebuild(self.model, self.catalogue, users, stale)
        ring = Ring.of(self.model, self.catalogue, users)
        causes = [one.cause for one in asked]
        now_ms = causes[0].event_time_ms
        return Audience(users, slice(0, len(users)), users.vectors, ring, causes, now_ms)

    def ruling(self, audience: Audience, arm: str) -> Ruling:
        """What the rules say of some users."""
        rules = self.lists.placement(arm)
        basis = rules.basis(audience)
        struck = rules.excluded(basis.ring)
        if basis.struck is not None:
            struck = np.concatenate([struck, basis.struck], axis=1)
        return Ruling(rules.in_force(audience), basis, struck)

    def allowed(self, arm: str, bits: int) -> NDArray[np.bool_]:
        """Which items may be listed where these rules are in force: bool, shape (rows,)."""
        allowed: NDArray[np.bool_] = self.lists.placement(arm).biases(bits) > NEVER_LISTED / 2
        return allowed

    def bias(self, arm: str, bits: int) -> NDArray[np.float32]:
        """What named items are scored by: as in a list, and where it would not hold one, as if.

        float32, shape (rows,).
        """
        listed = self.lists.placement(arm).biases(bits)
        return np.where(listed > NEVER_LISTED / 2, listed, self.lists.item_bias)

    def k(self, one: Asked, arm: str) -> int:
        """How many items a request asks for."""
        return one.request.k or self.lists.k(arm)

    def answers(self, crowd: Crowd) -> list[Answer]:
        """Answers without items, to be filled."""
        return [self.answer(one, crowd.arm, "answered") for one in crowd.asked]

    def answer(self, one: Asked, arm: str, status: Status) -> Answer:
        """An answer without items."""
        request = one.request
        placement, variant = placement_and_variant(arm)
        return Answer(
            request_id=str(request.request_id),
            user_id=request.user,
            type=request.type,
            status=status,
            placement=placement,
            known_user=one.shard.find(one.key) is not None,
            model=self.model.bundle.bundle_id,
            variant=variant,
            generated_ms=one.cause.event_time_ms,
            settings=self.lists.revision,
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
        """A reason of a column of reasons."""
        if code in _PLAIN:
            return self.named(_PLAIN[code])
        return self.named(type_name(code), row)

    def named(self, code: str, row: int = NO_ITEM) -> Reason:
        """A reason by the name of its code, with the item that it is about."""
        return Reason(code, self.item_id(row), self.said(code, row))

    def said(self, code: str, row: int) -> str | UnsetType:
        """A reason in words, where they are wanted."""
        if self.words is None:
            return UNSET
        return self.words.why(code, None if row == NO_ITEM else self.catalogue.title(row))

    def item_id(self, row: int) -> str | None:
        """The item of a row; None for `NO_ITEM`."""
        return None if row == NO_ITEM else self.catalogue.ids[row]


def type_name(code: int) -> str:
    """An event type by its number; a later version may have added some."""
    return _TYPES.get(code, f"type_{code}")


def with_share(item: AnsweredItem, share: float) -> AnsweredItem:
    """The line with the share of its reason; NaN: it is not known."""
    if np.isnan(share):
        return item
    return replace(item, reason=replace(item.reason, share=rounded(share)))


def rounded(number: float) -> float:
    """A score as records have it: six digits."""
    return round(float(number), 6)
