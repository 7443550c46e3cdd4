"""The micro-batch step: records in; state writes, lists and dead letters out.

    decode    bytes -> events, and what cannot be used     stream/contracts
    fold      events -> user states                        users.py, fold.py
    score     states -> item rows and scores               policy/placement.py, model.py
    policy    rows -> lists with reasons                   policy/lists.py, policy/reasons.py
    encode    -> changelog values, recommendation records

A micro-batch has a part from each partition that has records waiting: states and offsets stay
apart, the arithmetic is done once for all.

Plain NumPy and ONNX Runtime. Knows nothing of Kafka or asyncio, and reads no clock but the one
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
from stream.core.fold import fold, rebuild
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
    """A partition's share of a micro-batch.

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
            self._decode(part.batch, now_ms, made)
            for part, made in zip(parts, result.parts, strict=True)
        ]
        decoded = perf_counter()
        result.stage_s["decode"] = decoded - started
        if not any(map(len, events)):
            return result
        self._lists.follow_catalogue()
        shares = _shares(parts, events)
        users = self._fold(shares, result)
        result.stage_s["fold"] = perf_counter() - decoded
        self._recommend(shares, users, now_ms, result)
        return result

    def _decode(self, batch: Batch, now_ms: int, made: PartResult) -> Events:
        kind = self._kinds[batch.topic]
        events, rejections = decode_events(kind, batch.keys, batch.values, batch.offsets, now_ms)
        for at, reason, at_field in rejections:
            made.dead_keys.append(batch.keys[at])
            made.dead_values.append(batch.values[at])
            made.dead_headers.append(
                dead_letter_headers(
                    reason, at_field, batch.topic, batch.partition, batch.offsets[at]
                )
            )
        made.rejections = rejections
        return events

    def _fold(self, shares: Sequence[_Share], result: StepResult) -> Users:
        """Fold what is not in the states yet; answers the users of all parts, in their order."""
        users = Users(self.layout, [(share.part.shard, list(share.last)) for share in shares])
        stale = np.flatnonzero(users.model != self.layout.model)
        if len(stale):
            rebuild(self.model, self.catalogue, users, stale)
        new = [share.events.tail(share.skipped) for share in shares]
        who = np.concatenate([share.who[share.skipped :] for share in shares])
        folded = fold(self.model, self.catalogue, users, who, Events.join(new))
        users.store()
        values = users.encode()
        result.refused_states = users.refused
        repeats, unknowns = folded.repeated.any(), folded.unknown.any()
        astray = users.misrouted.any()
        first_event = 0
        for share, made in zip(shares, result.parts, strict=True):
            mine = slice(first_event, first_event + len(share.events) - share.skipped)
            first_event = mine.stop
            made.skipped = share.skipped
            if repeats:
                made.repeated = int(folded.repeated[mine].sum())
            if unknowns:
                made.unknown_items = int(folded.unknown[mine].sum())
            if astray:
                made.misrouted = int(users.misrouted[share.who].sum())
            made.folded = mine.stop - mine.start - made.repeated
            made.list_keys = users.keys[share.first : share.stop]
            if share.skipped:
                touched = np.unique(who[mine]).tolist()
                made.state_keys = [users.keys[number] for number in touched]
                made.state_values = [values[number] for number in touched]
            else:
                made.state_keys = made.list_keys
                made.state_values = values[share.first : share.stop]
        return users

    def _recommend(
        self, shares: Sequence[_Share], users: Users, now_ms: int, result: StepResult
    ) -> None:
        """A record for each user, with the newest event that it reflects."""
        causes = [cause for share in shares for cause in share.causes()]
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
        for share, part in zip(shares, result.parts, strict=True):
            part.list_values = values[share.first : share.stop]
            counts = all_filled[share.first : share.stop].sum(axis=0).tolist()
            part.lists_by_placement = dict(zip(self._lists.placements, counts, strict=True))


class _Share(NamedTuple):
    """A part, decoded.

    Attributes
    ----------
    skipped : events that are in the states already
    last : user key -> position of the user's last event in `events`
    who : int64, shape (len(events),); number of each event's user among those of all parts
    first, stop : numbers of this part's users
    """

    part: Part
    events: Events
    skipped: int
    last: dict[bytes, int]
    who: NDArray[np.int64]
    first: int
    stop: int

    def causes(self) -> list[Cause]:
        """The newest event of each of the part's users."""
        at = list(self.last.values())
        topic, partition = self.part.batch.topic, self.part.batch.partition
        offsets, times_ms = self.events.offsets[at].tolist(), self.events.times_ms[at].tolist()
        return [
            Cause(topic, partition, offset, time_ms)
            for offset, time_ms in zip(offsets, times_ms, strict=True)
        ]


def _shares(parts: Sequence[Part], decoded: Sequence[Events]) -> list[_Share]:
    """Number the users of all parts, those of one part in the order of their first event."""
    lasts = [dict(zip(events.users, range(len(events)), strict=True)) for events in decoded]
    shares = []
    edges = pairwise(accumulate(map(len, lasts), initial=0))
    for part, events, last, (first, stop) in zip(parts, decoded, lasts, edges, strict=True):
        if len(last) == len(events):
            who = np.arange(first, stop)
        else:
            number = dict(zip(last, range(first, stop), strict=True))
            who = np.array([number[user] for user in events.users], np.int64)
        skipped = int(np.searchsorted(events.offsets, part.applied))
        shares.append(_Share(part, events, skipped, last, who, first, stop))
    return shares
