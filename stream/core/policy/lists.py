"""User states become recommendation records.

In: a shard, users, the newest event of each. Out: one record per user with the lists of all
placements. Knows nothing of Kafka; the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import numpy as np

from stream.config import Placement as PlacementRules
from stream.contracts import Cause, ListedItem, RankedList, Reason, Recommendation
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.model import Model
from stream.core.policy.placement import Placement, Ring
from stream.core.policy.reasons import Reasons
from stream.core.state import Slots, UserShard

# Users scored at once: 16 to 64 cost least per user on a CPU (27.6 us at 32, 32.2 us at 64,
# 131 us at 1; 10,112 items, 64 dimensions, one core).
USERS_AT_ONCE = 32
_ROWS_GROW_BY = 1.5
_VARIANT = "default"


class Made(NamedTuple):
    """Records of a few users, and what making them took.

    Attributes
    ----------
    records : one per user, in the order asked for
    score_s, policy_s : seconds spent in the model's score graph, and in everything after it
    """

    records: list[Recommendation]
    score_s: float
    policy_s: float


class Lists:
    """Makes the lists of every placement for one model and one catalogue.

    Parameters
    ----------
    rules : settings by placement name
    """

    def __init__(
        self, model: Model, catalogue: Catalogue, rules: Mapping[str, PlacementRules]
    ) -> None:
        self._model = model
        self._catalogue = catalogue
        self._rules = dict(rules)
        self._reasons = Reasons(model, catalogue)
        self._place()

    def _place(self) -> None:
        """Build the placements for the item table's present size.

        An item that the model never saw has the median item's bias: a neutral prior.
        """
        trained = self._model.bundle.biases
        neutral = np.median(trained[1:]) if len(trained) > 1 else 0.0
        self._item_bias = np.full(self._model.rows, neutral, np.float32)
        self._item_bias[: len(trained)] = trained
        self._placements = [
            Placement(name, rules, self._model, self._catalogue, self._item_bias)
            for name, rules in self._rules.items()
        ]

    def follow_catalogue(self) -> None:
        """Make changed catalogue rows count from the next list on."""
        catalogue = self._catalogue
        if not catalogue.changed:
            return
        rows = np.fromiter(catalogue.changed, np.int64, len(catalogue.changed))
        catalogue.changed.clear()
        if len(catalogue) > self._model.rows:
            self._model.grow(int(len(catalogue) * _ROWS_GROW_BY))
            self._place()
        if catalogue.embeddings:
            at = np.fromiter(catalogue.embeddings, np.int64, len(catalogue.embeddings))
            vectors = np.array(list(catalogue.embeddings.values()), np.float32)
            self._model.set_embeddings(at, vectors)
            catalogue.embeddings.clear()
        for placement in self._placements:
            placement.refresh(rows, self._item_bias)

    def make(self, shard: UserShard, users: Slots, causes: list[Cause], now_ms: int) -> Made:
        """Fresh lists for a few users.

        Parameters
        ----------
        users : int64, shape (n,), n of about `USERS_AT_ONCE`
        causes : n, the newest event that each user's lists reflect
        """
        started = perf_counter()
        states = shard.vectors(users)
        ring = self._ring(shard, users)
        ranked = [placement.rank(states, ring) for placement in self._placements]
        scored = perf_counter()
        lists: list[dict[str, RankedList]] = [{} for _ in users]
        for placement, (rows, scores) in zip(self._placements, ranked, strict=True):
            reasons = self._reasons.of(rows, ring)
            columns = zip(rows.tolist(), scores.tolist(), reasons, strict=True)
            for user_lists, (user_rows, user_scores, user_reasons) in zip(
                lists, columns, strict=True
            ):
                user_lists[placement.name] = self._list(user_rows, user_scores, user_reasons)
        records = [
            Recommendation(
                user_id=shard.keys[slot].decode(),
                lists=user_lists,
                model=self._model.bundle.bundle_id,
                variant=_VARIANT,
                cause=cause,
                generated_ms=now_ms,
            )
            for slot, cause, user_lists in zip(users.tolist(), causes, lists, strict=True)
        ]
        return Made(records, scored - started, perf_counter() - scored)

    def _list(self, rows: list[int], scores: list[float], reasons: list[Reason]) -> RankedList:
        """One list; scores are descending, and 0 means not to be listed."""
        ids = self._catalogue.ids
        return RankedList(
            [
                ListedItem(ids[row], round(score, 6), rank, reason)
                for rank, (row, score, reason) in enumerate(
                    zip(rows, scores, reasons, strict=True), 1
                )
                if score > 0.0
            ]
        )

    def _ring(self, shard: UserShard, users: Slots) -> Ring:
        """The users' last interactions, newest first, as rows of the item table."""
        order = shard.ring_order(users)
        at = users[:, None]
        there = np.arange(order.shape[1]) < shard.ring_used[users, None]
        ages_s = shard.newest_ms[at] // 1000 - shard.ring_time_s[at, order]
        return Ring(
            np.where(there, self._catalogue.rows_of_hashes(shard.ring_item[at, order]), NO_ITEM),
            np.where(there, shard.ring_type[at, order], np.uint8(0)),
            np.maximum(ages_s, 0).astype(np.float32),
        )
