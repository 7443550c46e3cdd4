"""The micro-batch step: records in; state writes, lists and dead letters out.

    decode    bytes -> events, and what cannot be used     stream/contracts
    fold      events -> user states                        users.py, fold.py
    score     states -> item rows and scores               policy/placement.py, model.py
    policy    rows -> lists with reasons                   policy/lists.py, policy/reasons.py

Changelog values are encoded at the end of fold, recommendation records at the end of policy.
A micro-batch has a part from each partition that has records waiting: states and offsets stay
apart, the arithmetic is done once for all.

NumPy, Numba and ONNX Runtime. Knows nothing of Kafka or asyncio, and reads no clock but the one
for stage times: the time that goes into records is passed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from time import perf_counter
from typing import NamedTuple, Protocol

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
)
from stream.core.catalogue import Catalogue
from stream.core.fold import Folded, fold, rebuild
from stream.core.model import Model
from stream.core.policy.lists import USERS_AT_ONCE, Lists
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout

Headers = list[tuple[str, bytes]]


class Batch(Protocol):
    """Records of one topic partition, as columns in offset order."""

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


class Part(Protocol):
    """A partition's one of a micro-batch.

    `applied` is the offset from which on events are not in the states yet. Events below it were
    folded before a crash; their lists are made again, their states do not change.
    """

    @property
    def shard(self) -> UserShard: ...
    @property
    def batch(self) -> Batch: ...
    @property
    def applied(self) -> int: ...


@dataclass(slots=True)
class PartResult:
    """What a part of a micro-batch changes, and the numbers behind it.

    Attributes
    ----------
    state_keys, state_values : changelog records, each touched user once
    list_keys, list_values : recommendation records, one per user of the part
    dead_keys, dead_values, dead_headers : records that cannot be used, as they came, and why
    rejections : the reasons once more, for counting
    folded, skipped, repeated, unknown_items, misrouted : events counted; skipped ones were folded
        before a crash, repeated ones came with an event_id that the user's ring still holds
    lists_by_placement : lists made that hold anything
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
    lists_by_placement: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class StepResult:
    """What a micro-batch changes.

    Attributes
    ----------
    parts : a result for each part, in the order given
    records : in all parts, the dead letters too
    refused_states : states that were not finite and so not stored
    stage_s : seconds by stage: decode, fold, score, policy
    """

    parts: list[PartResult]
    records: int
    refused_states: int = 0
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

    def step(self, parts: Sequence[Part], now_ms: int) -> StepResult:
        """Fold a micro-batch and make a fresh list for each of its users.

        Parameters
        ----------
        parts : one a shard at most
        now_ms : wall-clock time, for `generated_ms` and to refuse events from the future
        """
        records = sum(len(part.batch.offsets) for part in parts)
        result = StepResult([PartResult() for _ in parts], records)
        started = perf_counter()
        events = [
            self._decode(part.batch, now_ms, changes)
            for part, changes in zip(parts, result.parts, strict=True)
        ]
        result.stage_s["decode"] = perf_counter() - started
        if not any(map(len, events)):
            return result
        self._lists.follow_catalogue()
        decoded_at = perf_counter()
        decoded = _number_users(parts, events)
        users = self._fold(decoded, result)
        result.stage_s["fold"] = perf_counter() - decoded_at
        self._recommend(decoded, users, now_ms, result)
        return result

    def _decode(self, batch: Batch, now_ms: int, changes: PartResult) -> Events:
        kind = self._kinds[batch.topic]
        events, rejections = decode_events(kind, batch.keys, batch.values, batch.offsets, now_ms)
        for at, reason, at_field in rejections:
            changes.dead_keys.append(batch.keys[at])
            changes.dead_values.append(batch.values[at])
            changes.dead_headers.append(
                dead_letter_headers(
                    reason, at_field, batch.topic, batch.partition, batch.offsets[at]
                )
            )
        changes.rejections = rejections
        return events

    def _fold(self, decoded: Sequence[_Decoded], result: StepResult) -> Users:
        """Fold what is not in the states yet; answers the users of all parts, in their order."""
        users = Users(self.layout, [(part.given.shard, list(part.last)) for part in decoded])
        stale = np.flatnonzero(users.model != self.layout.model)
        if len(stale):
            rebuild(self.model, self.catalogue, users, stale)
        new = [part.events.tail(part.skipped) for part in decoded]
        who = np.concatenate([part.who[part.skipped :] for part in decoded])
        folded = fold(self.model, self.catalogue, users, who, Events.join(new))
        values = users.store()
        result.refused_states = users.refused
        first_event = 0
        for part, changes in zip(decoded, result.parts, strict=True):
            stop_event = first_event + len(part.events) - part.skipped
            self._count(part, folded, slice(first_event, stop_event), users, changes)
            first_event = stop_event
            changes.list_keys = users.keys[part.users]
            if part.skipped:
                touched = np.unique(part.who[part.skipped :]).tolist()
                changes.state_keys = [users.keys[number] for number in touched]
                changes.state_values = [values[number] for number in touched]
            else:
                changes.state_keys = changes.list_keys
                changes.state_values = values[part.users]
        return users

    @staticmethod
    def _count(
        part: _Decoded, folded: Folded, events: slice, users: Users, changes: PartResult
    ) -> None:
        """Count a part's events; `events` are those of `folded` that are its own."""
        changes.skipped = part.skipped
        changes.repeated = int(np.count_nonzero(folded.repeated[events]))
        changes.folded = events.stop - events.start - changes.repeated
        changes.unknown_items = int(np.count_nonzero(folded.unknown[events]))
        changes.misrouted = int(np.count_nonzero(users.misrouted[part.who]))

    def _recommend(
        self, decoded: Sequence[_Decoded], users: Users, now_ms: int, result: StepResult
    ) -> None:
        """A record for each user, with the newest event that it reflects."""
        causes = [cause for part in decoded for cause in part.causes()]
        values: list[bytes] = []
        filled: list[NDArray[np.bool_]] = []
        for start in range(0, len(users), USERS_AT_ONCE):
            some = slice(start, min(start + USERS_AT_ONCE, len(users)))
            made = self._lists.make(users, some, causes[some], now_ms)
            values += made.records
            filled.append(made.filled)
            result.stage_s["score"] += made.score_s
            result.stage_s["policy"] += made.policy_s
        all_filled = np.concatenate(filled)
        for part, changes in zip(decoded, result.parts, strict=True):
            changes.list_values = values[part.users]
            counts = all_filled[part.users].sum(axis=0).tolist()
            changes.lists_by_placement = dict(zip(self._lists.placements, counts, strict=True))


class _Decoded(NamedTuple):
    """A part, decoded.

    Attributes
    ----------
    skipped : events that are in the states already
    last : user key -> position of the user's last event in `events`
    who : int64, shape (len(events),); number of each event's user among those of all parts
    users : numbers of this part's users
    """

    given: Part
    events: Events
    skipped: int
    last: dict[bytes, int]
    who: NDArray[np.int64]
    users: slice

    def causes(self) -> list[Cause]:
        """The newest event of each of the part's users."""
        at = list(self.last.values())
        topic, partition = self.given.batch.topic, self.given.batch.partition
        offsets, times_ms = self.events.offsets[at].tolist(), self.events.times_ms[at].tolist()
        return [
            Cause(topic, partition, offset, time_ms)
            for offset, time_ms in zip(offsets, times_ms, strict=True)
        ]


def _number_users(parts: Sequence[Part], decoded: Sequence[Events]) -> list[_Decoded]:
    """Number the users of all parts, those of one part in the order of their first event."""
    lasts = [dict(zip(events.users, range(len(events)), strict=True)) for events in decoded]
    numbered = []
    edges = pairwise(accumulate(map(len, lasts), initial=0))
    for part, events, last, (first, stop) in zip(parts, decoded, lasts, edges, strict=True):
        if len(last) == len(events):
            who = np.arange(first, stop)
        else:
            number = dict(zip(last, range(first, stop), strict=True))
            who = np.array([number[user] for user in events.users], np.int64)
        skipped = int(np.searchsorted(events.offsets, part.applied))
        numbered.append(_Decoded(part, events, skipped, last, who, slice(first, stop)))
    return numbered
