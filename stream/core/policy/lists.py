"""User states become recommendation records.

In: users, the newest event of each. Out: one encoded record per user with the lists of all
placements. Knows nothing of Kafka; the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.contracts import Cause, encode_record
from stream.contracts.writing import ListWriter, RawRecommendation, with_variant
from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.policy.arranging import Arranging, Picked, pool_of
from stream.core.policy.audience import Audience, Basis
from stream.core.policy.biases import Biases, item_biases
from stream.core.policy.candidates import Candidates
from stream.core.policy.changing import Change, place
from stream.core.policy.exploring import ShopCounts
from stream.core.policy.learning import Happened, learn
from stream.core.policy.made import EncodedLists
from stream.core.policy.naming import Naming
from stream.core.policy.pacing import Pacing
from stream.core.policy.placement import Placement
from stream.core.policy.plain import name_others
from stream.core.policy.reasons import ReasonColumns, Reasons
from stream.core.policy.ring import Ring
from stream.core.policy.shares import Shares
from stream.core.policy.shops import Shops
from stream.core.policy.variants import Deal, arms_of, columns_of, together
from stream.core.standing import extended
from stream.core.statistics.segments import Seen
from stream.core.users import Users
from stream.placements import CONTROL
from stream.placements import Placement as PlacementRules
from stream.revision import revision_of
from stream.words.templates import Words

_ROWS_GROW_BY = 1.5


class Lists:
    """Makes the lists of every placement for one model and one catalogue.

    Parameters
    ----------
    rules : settings by placement name
    counts : of items, and rewards, for placements that explore

    Attributes
    ----------
    item_bias : float32, shape (rows,); the model's bias of every row of the item table
    reasons : finds the interaction that speaks for an item
    shares : tells what scores owe to it
    candidates : scores items that are named
    naming : gives and reads the names of lists
    revision : of the settings in force
    trends : bool, shape (n,); what trends in the shop, by row; told from outside
    hashes : somebody asks for hashes of what records show
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        rules: Mapping[str, PlacementRules],
        counts: ShopCounts,
    ) -> None:
        self._model = model
        self._catalogue = catalogue
        self._counts = counts
        self.candidates = Candidates(model)
        self.hashes = False
        self._pacing = Pacing(catalogue, counts)
        self._shops = Shops(model, catalogue)
        self.trends = np.zeros(0, np.bool_)
        self._writer, self._in_words = ListWriter(), False
        self._tell_writer(range(1, len(catalogue)))
        self._change: Change | None = None
        self.item_bias = item_biases(model)
        self._place(rules, {})

    def _place(self, rules: Mapping[str, PlacementRules], biases: Mapping[str, Biases]) -> None:
        """Put placements in the place of those before, with what is kept: biases."""
        self.reasons = Reasons(self._model)
        self.shares = Shares(self.candidates, self.reasons)
        parts = (self._model, self._catalogue, self._counts, self.item_bias)
        arms = arms_of(rules)
        self._explorers, self._placements, self._arranging = place(arms, biases, *parts)
        counted = {arm: of.counted for arm, of in self._explorers.items()}
        self.naming = Naming({arm: counted.get(arm) for arm in arms}, self._catalogue)
        self._settings, self._rules = rules, arms
        self.revision = revision_of(rules, self._model.weighing.given)
        self._deals = [Deal(name, of, list(arms).index(name)) for name, of in rules.items()]

    def change_to(self, rules: Mapping[str, PlacementRules]) -> Change:
        """Other settings by placement name, to be made ready and adopted; one change at a time."""
        parts = (self._model, self._catalogue, self.item_bias)
        self._change = Change(rules, self._placements, *parts)
        return self._change

    def adopt(self, change: Change) -> None:
        """Make lists by other settings from the next step on; what was learned goes on.

        Reasons, what explores and the revision go by the weights that the model has now.
        """
        self._change = None
        self._place(change.rules, change.biases(self._placements, self.item_bias))

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
    def by_counts(self) -> bool:
        """Whether any list goes by counts of items or by rewards."""
        return bool(self._explorers) or any(rules.by_bid for rules in self._rules.values())

    @property
    def placements(self) -> list[str]:
        """Names of the placements, in the order of a record's lists."""
        return [deal.placement for deal in self._deals]

    @property
    def arms(self) -> list[str]:
        """Names of the arms (`variants.py`): a placement without variants is one."""
        return list(self._rules)

    def arm(self, placement: str, key: bytes) -> str:
        """The arm that a user gets of a placement."""
        deal = self._deals[self.placements.index(placement)]
        return self.arms[int(deal.arms([key])[0])]

    def placement(self, arm: str) -> Placement:
        """A placement as an arm has it; it is another one after the item table grew."""
        return self._placements[self.arms.index(arm)]

    def k(self, arm: str) -> int:
        """How long an arm's lists are."""
        return self._rules[arm].k

    def follow_catalogue(self, now_ms: int) -> None:
        """Make changed catalogue rows, and what ads have spent, count from the next list on."""
        catalogue = self._catalogue
        self._pacing.follow(now_ms)
        if not catalogue.changed:
            return
        rows = np.fromiter(catalogue.changed, np.int64, len(catalogue.changed))
        catalogue.changed.clear()
        self._tell_writer(rows.tolist())
        if len(catalogue) > self._model.rows:
            self._model.grow(int(len(catalogue) * _ROWS_GROW_BY))
            self.item_bias = item_biases(self._model)
            self._place(self._settings, {})
        if catalogue.embeddings:
            at = np.fromiter(catalogue.embeddings, np.int64, len(catalogue.embeddings))
            vectors = np.array(list(catalogue.embeddings.values()), np.float32)
            self._model.set_embeddings(at, vectors)
            catalogue.embeddings.clear()
        self._shops.follow(rows)
        for placement in self._placements:
            placement.refresh(rows, self.item_bias)
        if self._change is not None:
            self._change.note(rows.tolist())

    def of_placement(
        self,
        name: str,
        audience: Audience,
        k: int | None,
        lift: NDArray[np.float32] | None = None,
    ) -> tuple[Picked, ReasonColumns, NDArray[np.float32] | None]:
        """Lists of one arm, why each item is there, and the shares of that where they are wanted.

        Parameters
        ----------
        k : length of the lists; None: the arm's
        lift : float32, shape (n,); added to the logits of the first n rows; None: nothing is
        """
        number = self.arms.index(name)
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
        why = self._why(placement, shown, basis, audience)
        return shown, why, self.shares.of(placement, shown, why, basis, audience)

    def why(
        self, placement: Placement, rows: NDArray[np.int64], basis: Basis, audience: Audience
    ) -> ReasonColumns:
        """Why items may be listed: int64, shape (users, k)."""
        reasons = self.reasons.of(rows, basis.as_of_states, basis.states)
        name_others(reasons.types, rows, placement, audience, self.trends)
        return reasons

    def _why(
        self, placement: Placement, shown: Picked, basis: Basis, audience: Audience
    ) -> ReasonColumns:
        reasons = self.why(placement, shown.rows, basis, audience)
        if shown.codes is not None:
            reasons.types[:] = np.where(shown.codes > 0, shown.codes, reasons.types)
            reasons.at[shown.codes > 0] = -1
        return reasons

    def learn(self, happened: Happened) -> list[Seen]:
        """Rewards of placements that explore, to be counted."""
        if not self._explorers:
            return []
        return learn(self._explorers, self._deals, happened, self._model, self._catalogue)

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
        dealt = [of_arm for deal in self._deals for of_arm in deal.deal(audience)]
        bases = [self._placements[one.arm].basis(one.audience) for one in dealt]
        ranked = [
            self._placements[one.arm].find(one.audience, basis=basis)
            for one, basis in zip(dealt, bases, strict=True)
        ]
        scored = perf_counter()
        picked = [
            self._arranging[one.arm].arrange(*pool, one.audience)
            for one, pool in zip(dealt, ranked, strict=True)
        ]
        lists: list[dict[str, msgspec.Raw]] = [{} for _ in causes]
        filled = np.zeros((len(causes), len(self._placements)), np.bool_)
        list_hashes = np.zeros((len(causes), len(self._deals)), np.uint64)
        # By other settings a list is sent once more, since it says which.
        record_hashes = np.full(
            len(causes), int(self.revision, 16) if self.hashes else 0, np.uint64
        )
        for one, basis, shown in zip(dealt, bases, picked, strict=True):
            placement, whose = self._placements[one.arm], one.audience
            why = self._why(placement, shown, basis, whose)
            shares = self.shares.of(placement, shown, why, basis, whose)
            names, hashes = self.naming.name(one.arm, shown)
            columns = (why.rows, why.types, shown.explored, shown.propensities, shares, names)
            written = self._writer.ranked_lists(shown.rows, shown.scores, *columns)
            of_users = lists
            if one.who is not None and one.variant is not None:
                of_users = [lists[user] for user in one.who.tolist()]
                written = [with_variant(ranked_list, one.variant) for ranked_list in written]
            for user_lists, ranked_list in zip(of_users, written, strict=True):
                user_lists[one.placement] = ranked_list
            where = slice(None) if one.who is None else one.who
            filled[where, one.arm] = shown.scores[:, 0] > 0
            list_hashes[where, self.placements.index(one.placement)] = hashes
            if self.hashes:
                seen = columns_of(one.arm, shown, self._catalogue.attributes.prices)
                record_hashes[where] = extended(record_hashes[where], seen)
        bundle_id = self._model.bundle.bundle_id
        records = [
            encode_record(
                RawRecommendation(
                    user_id=user_id.decode(),
                    lists=user_lists,
                    model=bundle_id,
                    variant=CONTROL,
                    cause=cause,
                    generated_ms=now_ms,
                    settings=self.revision,
                )
            )
            for user_id, cause, user_lists in zip(users.ids[some], causes, lists, strict=True)
        ]
        whole = together(dealt, picked, len(causes))
        took = scored - started, perf_counter() - scored
        return EncodedLists(records, filled, *whole, list_hashes, record_hashes, *took)
