"""The micro-batch step: records in; state writes, lists and dead letters out.

    decode    bytes -> events, and what cannot be used     stream/contracts
    fold      events -> user states                        fold.py
    score     states -> item rows and scores               policy/placement.py, model.py
    policy    rows -> lists with reasons                   policy/lists.py, policy/reasons.py
    encode    -> changelog values, recommendation records

Plain NumPy and ONNX Runtime. Knows nothing of Kafka or asyncio, and reads no clock but the one
for stage times: the time that goes into records is passed in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.config import Placement as PlacementRules
from stream.contracts import (
    Cause,
    Events,
    Kind,
    Rejection,
    dead_letter_headers,
    decode_events,
    encode_record,
)
from stream.core.catalogue import Catalogue
from stream.core.fold import fold, rebuild
from stream.core.model import Model
from stream.core.policy.lists import USERS_AT_ONCE, Lists
from stream.core.state import Slots, UserShard
from stream.core.wire import Layout

Headers = list[tuple[str, bytes]]


class Batch(Protocol):
    """A micro-batch of one topic partition, as columns in offset order."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def keys(self) -> Sequence[bytes | None]: ...
    @property
    def values(self) -> Sequence[bytes | None]: ...
    @property
    def offsets(self) -> Sequence[int]: ...


@dataclass(slots=True)
class StepResult:
    """What one micro-batch changes, and the numbers behind it.

    Attributes
    ----------
    state_keys, state_values : changelog records, each touched user once
    list_keys, list_values : recommendation records, one per user of the batch
    dead_keys, dead_values, dead_headers : records that cannot be used, as they came, and why
    rejections : the reasons once more, for counting
    folded, skipped, repeated, unknown_items, misrouted : events counted; skipped ones were folded
        before a crash, repeated ones came with an event_id that the user's ring still holds
    lists_by_placement : lists made that hold anything
    stage_s : seconds by stage: decode, fold, score, policy
    """

    state_keys: list[bytes] = field(default_factory=list)
    state_values: list[bytes] = field(default_factory=list)
    list_keys: list[bytes] = field(default_factory=list)
    list_values: list[bytes] = field(default_factory=list)
    dead_keys: list[bytes | None] = field(default_factory=list)
    dead_values: list[bytes | None] = field(default_factory=list)
    dead_headers: list[Headers] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    folded: int = 0
    skipped: int = 0
    repeated: int = 0
    unknown_items: int = 0
    misrouted: int = 0
    lists_by_placement: Counter[str] = field(default_factory=Counter)
    stage_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class Engine:
    """One model, one catalogue, any number of shards.

    Parameters
    ----------
    kinds : topic name -> what its records are
    placements : settings by placement name
    ring : interactions remembered per user
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        *,
        kinds: Mapping[str, Kind],
        placements: Mapping[str, PlacementRules],
        ring: int,
    ) -> None:
        self.model = model
        self.catalogue = catalogue
        storage = model.bundle.manifest.state.storage
        self.layout = Layout(model.state_size, storage, ring, model.bundle.version)
        self._kinds = dict(kinds)
        self._lists = Lists(model, catalogue, placements)

    def new_shard(self, partition: int, partitions: int) -> UserShard:
        """An empty shard that fits this engine's model."""
        return UserShard(self.layout, partition, partitions)

    def step(self, shard: UserShard, batch: Batch, applied: int, now_ms: int) -> StepResult:
        """Fold a micro-batch and make a fresh list for each of its users.

        Parameters
        ----------
        applied : offset from which on events are not in the states yet. Events below it were
            folded before a crash; their lists are made again, their states do not change.
        now_ms : wall-clock time, for `generated_ms` and to refuse events from the future
        """
        result = StepResult()
        events = self._decode(batch, now_ms, result)
        if len(events):
            self._lists.follow_catalogue()
            slots = self._fold(shard, events, applied, result)
            users, last = _last_by_user(slots)
            self._recommend(shard, users, _causes(batch, events, last), now_ms, result)
        return result

    def _decode(self, batch: Batch, now_ms: int, result: StepResult) -> Events:
        started = perf_counter()
        kind = self._kinds[batch.topic]
        events, rejections = decode_events(kind, batch.keys, batch.values, batch.offsets, now_ms)
        for at, reason, at_field in rejections:
            result.dead_keys.append(batch.keys[at])
            result.dead_values.append(batch.values[at])
            result.dead_headers.append(
                dead_letter_headers(
                    reason, at_field, batch.topic, batch.partition, batch.offsets[at]
                )
            )
        result.rejections = rejections
        result.stage_s["decode"] = perf_counter() - started
        return events

    def _fold(self, shard: UserShard, events: Events, applied: int, result: StepResult) -> Slots:
        """Fold what is not in the states yet; answers the slot of every event's user."""
        started = perf_counter()
        result.skipped = int(np.searchsorted(events.offsets, applied))
        slots = shard.slots(events.users)
        if result.skipped < len(events):
            new = events.tail(result.skipped)
            folded = fold(self.model, self.catalogue, shard, slots[result.skipped :], new)
            touched = np.unique(slots[result.skipped :])
            result.state_keys = [shard.keys[slot] for slot in touched.tolist()]
            result.state_values = shard.encode(touched)
            result.folded = len(new) - folded.repeated
            result.repeated = folded.repeated
            result.unknown_items = folded.unknown_items
        result.misrouted = int(shard.misrouted[slots].sum())
        result.stage_s["fold"] = perf_counter() - started
        return slots

    def _recommend(
        self, shard: UserShard, users: Slots, causes: list[Cause], now_ms: int, result: StepResult
    ) -> None:
        """A record for each user, with the newest event that it reflects."""
        stale = users[shard.model[users] != shard.layout.model]
        if len(stale):  # only a batch replayed right after a change of model comes here
            rebuild(self.model, self.catalogue, shard, stale)
        result.list_keys = [shard.keys[slot] for slot in users.tolist()]
        for start in range(0, len(users), USERS_AT_ONCE):
            some = slice(start, start + USERS_AT_ONCE)
            made = self._lists.make(shard, users[some], causes[some], now_ms)
            started = perf_counter()
            result.list_values += map(encode_record, made.records)
            result.lists_by_placement.update(made.lists_by_placement)
            result.stage_s["score"] += made.score_s
            result.stage_s["policy"] += made.policy_s + perf_counter() - started


def _last_by_user(slots: Slots) -> tuple[Slots, NDArray[np.int64]]:
    """Distinct users of a batch and the position of each one's last event."""
    users, from_end = np.unique(slots[::-1], return_index=True)
    return users, len(slots) - 1 - from_end


def _causes(batch: Batch, events: Events, at: NDArray[np.int64]) -> list[Cause]:
    """The events at these positions, as causes."""
    offsets, times_ms = events.offsets[at].tolist(), events.times_ms[at].tolist()
    return [
        Cause(batch.topic, batch.partition, offset, time_ms)
        for offset, time_ms in zip(offsets, times_ms, strict=True)
    ]
