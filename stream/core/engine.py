"""The micro-batch step: events in, state writes and lists out.

    fold      events -> user states                        fold.py
    rank      states -> item rows and scores               policy/placement.py
    explain   rows -> reasons                              policy/reasons.py
    encode    -> changelog values, recommendation records

Plain NumPy and ONNX Runtime. Knows nothing of Kafka or asyncio, and reads no clock but the one
for stage times: the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from stream import config
from stream.contracts import (
    Cause,
    Events,
    ListedItem,
    RankedList,
    Reason,
    Recommendation,
    encode_recommendation,
)
from stream.core.catalogue import NO_ITEM, Catalogue
from stream.core.fold import fold, rebuild
from stream.core.model import Model
from stream.core.policy.placement import Placement, Ring
from stream.core.policy.reasons import Reasons
from stream.core.state import Layout, Slots, UserShard

# Users scored at once: 16 to 64 cost least per user on a CPU (27.6 us at 32, 32.2 us at 64,
# 131 us at 1; 10,112 items, 64 dimensions, one core).
_USERS_PER_SCORING = 32
_ROWS_GROW_BY = 1.5
_VARIANT = "default"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a micro-batch comes from."""

    topic: str
    partition: int


@dataclass(slots=True)
class StepResult:
    """What one micro-batch changes.

    Attributes
    ----------
    state_keys, state_values : changelog records, each touched user once
    list_keys, list_values : recommendation records, one per user of the batch
    folded, skipped, repeated, unknown_items, misrouted : events counted
    lists_by_placement : non-empty lists made
    stage_s : seconds by stage ("fold", "score", "policy")
    """

    state_keys: list[bytes] = field(default_factory=list)
    state_values: list[bytes] = field(default_factory=list)
    list_keys: list[bytes] = field(default_factory=list)
    list_values: list[bytes] = field(default_factory=list)
    folded: int = 0
    skipped: int = 0
    repeated: int = 0
    unknown_items: int = 0
    misrouted: int = 0
    lists_by_placement: dict[str, int] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)


class Engine:
    """One model, one catalogue, any number of shards.

    Parameters
    ----------
    ring : interactions remembered per user
    placements : settings by placement name
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        placements: Mapping[str, config.Placement],
        ring: int,
    ) -> None:
        manifest = model.bundle.manifest
        self.model = model
        self.catalogue = catalogue
        self.layout = Layout(model.state_size, manifest.state.storage, ring, model.bundle.version)
        self._neutral_bias = np.float32(np.median(model.bundle.biases[1:]))
        self._rules = dict(placements)
        self._reasons = Reasons(model, catalogue)
        self._place()

    def _place(self) -> None:
        """Build the placements for the item table's present size."""
        self._item_bias = np.full(self.model.rows, self._neutral_bias, np.float32)
        self._item_bias[: len(self.model.bundle.biases)] = self.model.bundle.biases
        self.placements = [
            Placement(name, rules, self.model, self.catalogue, self._item_bias)
            for name, rules in self._rules.items()
        ]

    def new_shard(self, partition: int, partitions: int) -> UserShard:
        """An empty shard that fits this engine's model."""
        return UserShard(self.layout, partition, partitions)

    # -- the step --------------------------------------------------------------------------

    def step(
        self, shard: UserShard, events: Events, source: Source, applied: int, now_ms: int
    ) -> StepResult:
        """Fold a micro-batch and make a fresh list for each of its users.

        Parameters
        ----------
        events : of one partition, in offset order
        applied : offset from which on events are not in the states yet. Events below it were
            folded before a crash; their lists are made again, their states do not change.
        now_ms : wall-clock time for `generated_ms`
        """
        result = StepResult()
        started = perf_counter()
        self.follow_catalogue()
        first_new = int(np.searchsorted(events.offsets, applied))
        self._fold(shard, events.tail(first_new), result)
        slots = shard.slots(events.users)
        result.skipped = first_new
        result.misrouted = int(shard.misrouted[slots].sum())
        result.stage_s = {"fold": perf_counter() - started, "score": 0.0, "policy": 0.0}
        if len(events):
            users, last = _last_by_user(slots)
            causes = [
                Cause(source.topic, source.partition, offset, time_ms)
                for offset, time_ms in zip(
                    events.offsets[last].tolist(), events.times_ms[last].tolist(), strict=True
                )
            ]
            for start in range(0, len(users), _USERS_PER_SCORING):
                some = slice(start, start + _USERS_PER_SCORING)
                self._recommend(shard, users[some], causes[some], now_ms, result)
        return result

    def _fold(self, shard: UserShard, new: Events, result: StepResult) -> None:
        if not len(new):
            return
        folded = fold(self.model, self.catalogue, shard, new)
        touched = np.unique(folded.slots)
        result.state_keys = [shard.keys[slot] for slot in touched.tolist()]
        result.state_values = shard.encode(touched)
        result.folded = len(new) - folded.repeated
        result.repeated = folded.repeated
        result.unknown_items = folded.unknown_items

    def _recommend(
        self,
        shard: UserShard,
        users: Slots,
        causes: list[Cause],
        now_ms: int,
        result: StepResult,
    ) -> None:
        """Lists for a few users, each with the newest event that it reflects."""
        stale = users[shard.model[users] != shard.layout.model]
        if len(stale):  # only a replayed batch right after a change of model comes here
            rebuild(self.model, self.catalogue, shard, stale)
        started = perf_counter()
        states = shard.vectors(users)
        ring = self._ring(shard, users)
        ranked = [placement.rank(states, ring) for placement in self.placements]
        scored = perf_counter()
        lists: list[dict[str, RankedList]] = [{} for _ in users]
        for placement, (rows, scores) in zip(self.placements, ranked, strict=True):
            reasons = self._reasons.of(rows, ring)
            made = 0
            for user, listed in enumerate(
                zip(rows.tolist(), scores.tolist(), reasons, strict=True)
            ):
                items = self._items(*listed)
                lists[user][placement.name] = RankedList(items=items)
                made += bool(items)
            counts = result.lists_by_placement
            counts[placement.name] = counts.get(placement.name, 0) + made
        for slot, cause, user_lists in zip(users.tolist(), causes, lists, strict=True):
            key = shard.keys[slot]
            record = Recommendation(
                user_id=key.decode(),
                lists=user_lists,
                model=self.model.bundle.bundle_id,
                variant=_VARIANT,
                cause=cause,
                generated_ms=now_ms,
            )
            result.list_keys.append(key)
            result.list_values.append(encode_recommendation(record))
        result.stage_s["score"] += scored - started
        result.stage_s["policy"] += perf_counter() - scored

    def _items(
        self, rows: list[int], scores: list[float], reasons: list[Reason]
    ) -> list[ListedItem]:
        """The items of one list; scores are descending, 0 ends the list."""
        ids = self.catalogue.ids
        return [
            ListedItem(
                item_id=ids[row],
                score=round(score, 6),
                rank=rank,
                reason=reason,
                explored=False,
                propensity=1.0,
            )
            for rank, (row, score, reason) in enumerate(zip(rows, scores, reasons, strict=True), 1)
            if score > 0.0
        ]

    def _ring(self, shard: UserShard, users: Slots) -> Ring:
        """The users' last interactions, newest first, as rows of the item table."""
        order = shard.ring_order(users)
        at = users[:, None]
        there = np.arange(order.shape[1]) < shard.ring_used[users, None]
        ages_s = shard.newest_ms[at] // 1000 - shard.ring_time_s[at, order]
        return Ring(
            np.where(there, self.catalogue.rows_of_hashes(shard.ring_item[at, order]), NO_ITEM),
            np.where(there, shard.ring_type[at, order], np.uint8(0)),
            np.maximum(ages_s, 0).astype(np.float32),
        )

    # -- catalogue -------------------------------------------------------------------------

    def follow_catalogue(self) -> None:
        """Make changed catalogue rows count from the next list on."""
        catalogue = self.catalogue
        if not catalogue.changed:
            return
        rows = np.fromiter(catalogue.changed, np.int64, len(catalogue.changed))
        catalogue.changed.clear()
        if len(catalogue) > self.model.rows:
            self.model.grow(int(len(catalogue) * _ROWS_GROW_BY))
            self._place()
        known = [row for row in rows.tolist() if row in catalogue.embeddings]
        if known:
            vectors = [catalogue.embeddings.pop(row) for row in known]
            self.model.set_embeddings(np.array(known), np.array(vectors, dtype=np.float32))
        for placement in self.placements:
            placement.refresh(rows, self._item_bias)


def _last_by_user(slots: Slots) -> tuple[Slots, NDArray[np.int64]]:
    """Distinct users of a batch and the position of each one's last event."""
    users, from_end = np.unique(slots[::-1], return_index=True)
    return users, len(slots) - 1 - from_end
