"""A micro-batch and what comes of it, as types. In: nothing. Out: what the engine takes and gives.

A micro-batch has a part from each partition that has records waiting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.contracts import (
    Cause,
    Erasure,
    Events,
    Headers,
    Rejection,
    Request,
    headers_of_rejected,
)
from stream.contracts.letters import Origin
from stream.core.quality.outcomes import Outcomes
from stream.core.state import UserShard


class Batch(Origin, Protocol):
    """Records of one topic partition, as columns in offset order."""

    @property
    def keys(self) -> Sequence[bytes | None]: ...
    @property
    def timestamps_ms(self) -> Sequence[int]: ...


class Part(Protocol):
    """A partition's one of a micro-batch; a worker's is a `Turn` (`stream.kafka.turn`).

    `applied` is the offset from which on events are not in the states yet. Events below it were
    folded before a crash; their lists are made again, their states do not change. Requests change
    none; all of them are answered.
    """

    @property
    def shard(self) -> UserShard: ...
    @property
    def batch(self) -> Batch: ...
    @property
    def applied(self) -> int: ...


class Decoded(NamedTuple):
    """A part, decoded.

    Attributes
    ----------
    skipped : events that are in the states already
    last : user id -> position of the user's last event in `events`
    keys : state keys of these users
    who : int64, shape (len(events),); number of each event's user among those of all parts
    users : numbers of this part's users
    """

    given: Part
    events: Events
    skipped: int
    last: dict[bytes, int]
    keys: list[bytes]
    who: NDArray[np.int64]
    users: slice

    @property
    def ids(self) -> list[bytes]:
        return list(self.last)

    def causes(self) -> list[Cause]:
        """The newest event of each of the part's users."""
        at = list(self.last.values())
        topic, partition = self.given.batch.topic, self.given.batch.partition
        offsets, times_ms = self.events.offsets[at].tolist(), self.events.times_ms[at].tolist()
        return [
            Cause(topic, partition, offset, time_ms)
            for offset, time_ms in zip(offsets, times_ms, strict=True)
        ]


class ErasedUser(NamedTuple):
    """A user that was forgotten.

    Attributes
    ----------
    user_id : for the tombstone of the erasure itself
    user_hash : salted; all that stays
    erasure : the record that asked for it
    offset : of that record
    """

    user_id: bytes
    user_hash: bytes
    erasure: Erasure
    offset: int


class Asked(NamedTuple):
    """A request.

    Attributes
    ----------
    key : of the user's state
    cause : where the request stands, with the time of the step
    """

    shard: UserShard
    request: Request
    key: bytes
    cause: Cause


@dataclass(slots=True)
class PartResult:
    """What a part of a micro-batch changes, and the numbers behind it.

    Attributes
    ----------
    state_keys, state_values : changelog records, each touched user once; None for users that left
    count_keys, count_values : the same of items, and of rewards of exploring
    list_keys, list_values : recommendation records, one per user of the part; None for forgotten
    dead_keys, dead_values, dead_headers : records that cannot be used, as they came, and why
    asked : the part's requests
    answer_keys, answer_values : records that answer the part's requests
    answered : type and status of each answer, for counting
    rejections : the reasons once more, for counting
    folded, skipped, repeated, forgotten, unknown_items, misrouted : events counted; skipped ones
        were folded before a crash, repeated ones came with an event_id that the user's ring still
        holds, forgotten ones are older than their user's erasure
    expired, evicted, removed : users that left: inactive for too long, the least active beyond the
        limit, or by an erasure that found a state of theirs
    unchanged : users whose lists are not sent, since they show the same as those before
    lists_by_arm : lists published that hold anything, by placement, or placement/variant
    erased : users whom the part's erasures forgot, with a state or not, now or before a crash;
        their receipts are due once all of the above is acknowledged
    """

    state_keys: list[bytes] = field(default_factory=list)
    state_values: list[bytes | None] = field(default_factory=list)
    count_keys: list[bytes] = field(default_factory=list)
    count_values: list[bytes | None] = field(default_factory=list)
    list_keys: list[bytes] = field(default_factory=list)
    list_values: list[bytes | None] = field(default_factory=list)
    dead_keys: list[bytes | None] = field(default_factory=list)
    dead_values: list[bytes | None] = field(default_factory=list)
    dead_headers: list[Headers] = field(default_factory=list)
    answer_keys: list[bytes] = field(default_factory=list)
    answer_values: list[bytes] = field(default_factory=list)
    answered: list[tuple[str, str]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    folded: int = 0
    skipped: int = 0
    repeated: int = 0
    forgotten: int = 0
    unknown_items: int = 0
    misrouted: int = 0
    expired: int = 0
    evicted: int = 0
    removed: int = 0
    unchanged: int = 0
    lists_by_arm: dict[str, int] = field(default_factory=dict)
    erased: list[ErasedUser] = field(default_factory=list)

    @property
    def changelog(self) -> tuple[list[bytes], list[bytes | None]]:
        """Keys and values of all that the changelog must have in one batch."""
        return self.state_keys + self.count_keys, self.state_values + self.count_values

    def send_only(self, due: NDArray[np.bool_]) -> None:
        """Leave out the lists of the other users."""
        self.unchanged = len(due) - int(np.count_nonzero(due))
        if self.unchanged:
            at = np.flatnonzero(due).tolist()
            self.list_keys = [self.list_keys[user] for user in at]
            self.list_values = [self.list_values[user] for user in at]

    def reject(self, batch: Batch, rejections: list[Rejection]) -> None:
        """Make dead letters of what cannot be used."""
        for rejection in rejections:
            self.dead_keys.append(batch.keys[rejection.position])
            self.dead_values.append(batch.values[rejection.position])
            self.dead_headers.append(headers_of_rejected(batch, *rejection))
        self.rejections = rejections


@dataclass(slots=True)
class StepResult:
    """What a micro-batch changes.

    Attributes
    ----------
    parts : a result for each part, in the order given
    records : in all parts, the dead letters too
    refused_states : states that were not finite and so not stored
    stage_s : seconds by stage: decode, fold, score, policy, answer
    outcomes : what users did with the lists they had; None: nobody looked
    """

    parts: list[PartResult]
    records: int
    refused_states: int = 0
    stage_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    outcomes: Outcomes | None = None
