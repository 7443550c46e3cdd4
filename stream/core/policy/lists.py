"""User states become recommendation records.

In: users, the newest event of each. Out: one encoded record per user with the lists of all
placements. Knows nothing of Kafka; the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.config import Placement as PlacementRules
from stream.contracts import Cause, Events, EventType, encode_record
from stream.contracts.writing import ListWriter, RawRecommendation
from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.policy.arranging import Arranging, Picked, pool_of
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.exploring import CountsItems, Explorer, explores
from stream.core.policy.placement import Placement
from stream.core.policy.plain import name_others
from stream.core.policy.reasons import ReasonColumns, Reasons
from stream.core.policy.ring import Ring
from stream.core.policy.shops import Shops
from stream.core.users import Users
from stream.words.templates import Words

# Users scored at once. The item table is packed anew for each product, since it may change between
# two, and more users share that: 234 us a user at 1, 56 at 32, 44 at 128, 43 at 256 (10,112 items,
# 64 dimensions, one busy core).
USERS_AT_ONCE = 128
_ROWS_GROW_BY = 1.5
_ANSWERS = (EventType.IMPRESSION, EventType.VIEW, EventType.CLICK)  # to a list
VARIANT = "default"


class EncodedLists(NamedTuple):
    """Records of a few users, and what making them took.

    Attributes
    ----------
    records : encoded, one per user, in the order asked for
    filled : bool, shape (users, placements); lists that hold anything
    picked : the lists of each placement
    score_s, policy_s : seconds spent on the users' rings and the score graph; on reasons and JSON
    """

    records: list[bytes]
    filled: NDArray[np.bool_]
    picked: list[Picked]
    score_s: float
    policy_s: float


class Lists:
    """Makes the lists of every placement for one model and one catalogue.

    Parameters
    ----------
    rules : settings by placement name
    counts : of items, for placements that explore

    Attributes
    ----------
    item_bias : float32, shape (rows,); the model's bias of every row of the item table
    reasons : finds the interaction that speaks for an item
    trends : bool, shape (n,); what trends in the shop, by row; told from outside
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        rules: Mapping[str, PlacementRules],
        counts: CountsItems,
    ) -> None:
        self._model = model
        self._catalogue = catalogue
        self._rules = dict(rules)
        self._explorers = {
            name: Explorer(name, of.explore, model, catalogue, counts)
            for name, of in self._rules.items()
            if explores(of.explore)
        }
        self.reasons = Reasons(model)
        self._shops = Shops(model, catalogue)
        self.trends = np.zeros(0, np.bool_)
        self._writer, self._in_words = ListWriter(), False
        self._tell_writer(range(1, len(catalogue)))
        self._place()

    def _place(self) -> None:
        """Build the placements for the item table's present size.

        An item that the model never saw has the median item's bias: a neutral prior.
        """
        trained = self._model.bundle.biases
        neutral = np.median(trained[1:]) if len(trained) > 1 else 0.0
        self.item_bias = np.full(self._model.rows, neutral, np.float32)
        self.item_bias[: len(trained)] = trained
        model, catalogue = self._model, self._catalogue
        self._placements, self._arranging = [], []
        for name, rules in self._rules.items():
            explorer = self._explorers.get(name)
            if explorer is not None:
                explorer.item_bias = self.item_bias
            pool = pool_of(rules, exploring=explorer is not None)
            placement = Placement(name, rules, model, catalogue, self.item_bias, pool)
            self._placements.append(placement)
            self._arranging.append(Arranging(rules, placement, model, catalogue, explorer))

    def _tell_writer(self, rows: Sequence[int]) -> None:
        ids, prices = self._catalogue.ids, self._catalogue.prices
        titles = [self._catalogue.title(row) for row in rows] if self._in_words else ()
        told = ([ids[row] for row in rows], [prices[row] for row in rows], titles)
        self._writer.put_items(rows, *told)

    def put_into_words(self, words: Words) -> None:
        """Have records say their reasons in words, too."""
        self._writer, self._in_words = ListWriter(words.templates), True
        self._tell_writer(range(len(self._catalogue)))

    @property
    def explores(self) -> bool:
        """Whether any list goes by counts of items."""
        return bool(self._explorers)

    @property
    def placements(self) -> list[str]:
        """Names of the placements, in the order of a record's lists."""
        return list(self._rules)

    def placement(self, name: str) -> Placement:
        """One of them; it is another one after the item table grew."""
        return self._placements[self.placements.index(name)]

    def k(self, name: str) -> int:
        """How long a placement's lists are."""
        return self._rules[name].k

    def follow_catalogue(self) -> None:
        """Make changed catalogue rows count from the next list on."""
        catalogue = self._catalogue
        if not catalogue.changed:
            return
        rows = np.fromiter(catalogue.changed, np.int64, len(catalogue.changed))
        catalogue.changed.clear()
        self._tell_writer(rows.tolist())
        if len(catalogue) > self._model.rows:
            self._model.grow(int(len(catalogue) * _ROWS_GROW_BY))
            self._place()
        if catalogue.embeddings:
            at = np.fromiter(catalogue.embeddings, np.int64, len(catalogue.embeddings))
            vectors = np.array(list(catalogue.embeddings.values()), np.float32)
            self._model.set_embeddings(at, vectors)
            catalogue.embeddings.clear()
        self._shops.follow(rows)
        for placement in self._placements:
            placement.refresh(rows, self.item_bias)

    def of_placement(
        self,
        name: str,
        audience: Audience,
        k: int | None,
        lift: NDArray[np.float32] | None = None,
    ) -> tuple[Picked, ReasonColumns]:
        """Lists of one placement and why each item is there.

        Parameters
        ----------
        k : length of the lists; None: the placement's
        lift : float32, shape (n,); added to the logits of the first n rows; None: nothing is
        """
        number = self.placements.index(name)
        rules, placement = self._rules[name], self._placements[number]
        arranging, explorer = self._arranging[number], self._explorers.get(name)
        if k is not None and k != rules.k:
            rules = msgspec.structs.replace(rules, k=k)
        if lift is not None:
            bias = self.item_bias.copy()
            bias[: len(lift)] += lift
            size = pool_of(rules, exploring=explorer is not None)
            placement = Placement(name, rules, self._model, self._catalogue, bias, size)
        if rules.k != self._rules[name].k or lift is not None:
            arranging = Arranging(rules, placement, self._model, self._catalogue, explorer)
        basis = placement.basis(audience)
        pool = placement.find(audience, pool_of(rules, exploring=explorer is not None), basis)
        shown = arranging.arrange(*pool, audience)
        return shown, self._why(placement, shown, basis, audience)

    def why(
        self, placement: Placement, rows: NDArray[np.int64], basis: Basis, audience: Audience
    ) -> ReasonColumns:
        """Why items may be listed: int64, shape (users, k)."""
        reasons = self.reasons.of(rows, basis.ring, basis.states)
        name_others(reasons.types, rows, placement, audience, self.trends)
        return reasons

    def _why(
        self, placement: Placement, shown: Picked, basis: Basis, audience: Audience
    ) -> ReasonColumns:
        reasons = self.why(placement, shown.rows, basis, audience)
        if shown.codes is not None:
            reasons.types[:] = np.where(shown.codes > 0, shown.codes, reasons.types)
        return reasons

    def learn(
        self,
        users: Users,
        who: NDArray[np.int64],
        events: Events,
        counts: NDArray[np.bool_],
        now_ms: int,
    ) -> None:
        """Take note of what came of the lists of placements that explore.

        Parameters
        ----------
        who : int64, shape (n,); number of each event's user
        counts : bool, shape (n,); whether the event does
        """
        if not self._explorers:
            return
        answers = np.flatnonzero(counts & np.isin(events.types, _ANSWERS))
        if not len(answers):
            return
        events, who = events.take(answers), who[answers]
        shown = events.types == EventType.IMPRESSION
        for name, explorer in self._explorers.items():
            named = [placement == name for placement in events.placements]
            at = np.flatnonzero(named) if explorer.learns else answers[:0]
            some, number = np.unique(who[at], return_inverse=True)
            if len(some):
                ring = Ring.of(self._model, self._catalogue, users, some)
                audience = Audience(users, some, users.vectors[some], ring, [], now_ms)
                impressions = np.bincount(number[shown[at]], minlength=len(some))
                clicks = np.bincount(number[~shown[at]], minlength=len(some))
                explorer.learn(audience, impressions, clicks)

    def make(self, users: Users, some: slice, causes: list[Cause], now_ms: int) -> EncodedLists:
        """Fresh lists for a few users.

        Parameters
        ----------
        some : which of the users, about `USERS_AT_ONCE`
        causes : one each, the newest event that the user's lists reflect
        """
        started = perf_counter()
        states = users.vectors[some]
        ring = Ring.of(self._model, self._catalogue, users, some)
        audience = Audience(users, some, states, ring, causes, now_ms)
        bases = [placement.basis(audience) for placement in self._placements]
        ranked = [
            placement.find(audience, basis=basis)
            for placement, basis in zip(self._placements, bases, strict=True)
        ]
        scored = perf_counter()
        picked = [
            arranging.arrange(*pool, audience)
            for arranging, pool in zip(self._arranging, ranked, strict=True)
        ]
        lists: list[dict[str, msgspec.Raw]] = [{} for _ in causes]
        for placement, basis, shown in zip(self._placements, bases, picked, strict=True):
            reasons = self._why(placement, shown, basis, audience)
            written = self._writer.ranked_lists(
                shown.rows, shown.scores, *reasons, shown.explored, shown.propensities
            )
            for user_lists, ranked_list in zip(lists, written, strict=True):
                user_lists[placement.name] = ranked_list
        bundle_id = self._model.bundle.bundle_id
        records = [
            encode_record(
                RawRecommendation(
                    user_id=user_id.decode(),
                    lists=user_lists,
                    model=bundle_id,
                    variant=VARIANT,
                    cause=cause,
                    generated_ms=now_ms,
                )
            )
            for user_id, cause, user_lists in zip(users.ids[some], causes, lists, strict=True)
        ]
        filled = np.column_stack([shown.scores[:, 0] > 0 for shown in picked])
        return EncodedLists(records, filled, picked, scored - started, perf_counter() - scored)
