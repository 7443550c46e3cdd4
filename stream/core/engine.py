"""The micro-batch step: records in; state writes, lists, answers and dead letters out.

    decode    bytes -> events, and what cannot be used     stream/contracts
    fold      events -> user states                        users.py, fold.py
              erasures -> users forgotten                  marks.py
    quality   events -> hits in lists that were shown      quality/live.py
    count     events -> counts of items, rewards of lists  counting.py, policy/learning.py
    score     states -> item rows and scores               policy/placement.py, model.py
    policy    rows -> lists with reasons and names         policy/lists.py, reasons.py, naming.py
              lists that need not be sent again            standing.py
    answer    requests -> answers                          answers/answering.py

Changelog values are encoded at the end of fold, recommendation records at the end of policy.
A micro-batch has a part from each partition that has records waiting: states and offsets stay
apart, the arithmetic is done once for all.

NumPy, Numba and ONNX Runtime. Knows nothing of Kafka or asyncio, and reads no clock but the one
for stage times: the time that goes into records is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Literal

import numpy as np

from stream.contracts import Events, Kind, Rejection, decode_erasures, decode_events
from stream.core.answers.answering import Answers
from stream.core.catalogue import Catalogue
from stream.core.counting import count_events, count_items, count_segments, counted_times
from stream.core.fold import fold, rebuild
from stream.core.lifecycle import Limits
from stream.core.micro_batch import Decoded, ErasedUser, Part, PartResult, StepResult
from stream.core.model import USERS_AT_ONCE, Model
from stream.core.numbering import number_users
from stream.core.policy.changing import Change
from stream.core.policy.exploring import ShopCounts
from stream.core.policy.learning import Happened
from stream.core.policy.lists import Lists
from stream.core.policy.made import EncodedLists
from stream.core.pseudonyms import Pseudonyms
from stream.core.quality.live import Quality
from stream.core.state import UserShard
from stream.core.statistics.counts import Counts
from stream.core.statistics.merged import Merged
from stream.core.users import Users
from stream.core.weighing import Weighing
from stream.core.wire import Layout
from stream.placements import Placement as PlacementRules
from stream.settings.quality import Quality as QualityRules

Source = Kind | Literal["erasures", "requests"]


class Engine:
    """One model, one catalogue, any number of shards.

    Parameters
    ----------
    kinds : topic name -> what its records are
    placements : settings by placement name
    ring, impressions : interactions, and impressions of ads, remembered per user
    limits : when users leave, of all partitions together
    pseudonyms : user ids to the keys of their states
    new_counts : makes the empty counts of a partition
    resend_after_s : lists that show the same as those before are sent after so long; 0: at once
    counts : of the whole shop, for placements that explore; None: those of this engine's shards
    quality : how much of lists is remembered, to see what comes of them; None: nothing

    Attributes
    ----------
    quality : watches what comes of lists
    """

    def __init__(
        self,
        model: Model,
        catalogue: Catalogue,
        *,
        kinds: Mapping[str, Source],
        placements: Mapping[str, PlacementRules],
        ring: int,
        impressions: int = 0,
        limits: Limits | None = None,
        pseudonyms: Pseudonyms | None = None,
        new_counts: Callable[[], Counts] = Counts,
        counts: ShopCounts | None = None,
        quality: QualityRules | None = None,
        resend_after_s: float = 0.0,
    ) -> None:
        self.model, self.catalogue = model, catalogue
        storage = model.bundle.manifest.state.storage
        self.layout = Layout(model.state_size, storage, ring, model.bundle.version, impressions)
        self._kinds = dict(kinds)
        own = Merged(new_counts().fading)
        self._own_counts = own if counts is None else None
        self._lists = Lists(model, catalogue, placements, own if counts is None else counts)
        self._lists.hashes = resend_after_s > 0
        self._resend_after_ms = 1000 * resend_after_s
        self._limits, self.pseudonyms = limits or Limits(), pseudonyms or Pseudonyms()
        self.answers = Answers(model, catalogue, self._lists, self.layout, self.pseudonyms)
        self._new_counts = new_counts
        self.quality = Quality(catalogue, placements, quality or QualityRules(users=0))

    def adopt(self, change: Change, weighing: Weighing | None = None) -> None:
        """Go by other settings from the next step on, and by other weights; None: as before."""
        self.model.weigh(weighing or self.model.weighing)
        self._lists.adopt(change)
        self.quality.follow(change.rules)

    def new_shard(self, partition: int, partitions: int) -> UserShard:
        """An empty shard that fits this engine's model, with its share of the users allowed."""
        limits = self._limits._replace(max_users=-(-self._limits.max_users // partitions))
        shard = UserShard(self.layout, partition, partitions, limits)
        shard.counts = self._new_counts()
        shard.shown = self.quality.new_memory(partitions)
        return shard

    def step(self, parts: Sequence[Part], now_ms: int) -> StepResult:
        """Fold a micro-batch and make a fresh list for each of its users.

        Parameters
        ----------
        parts : one a shard at most
        now_ms : wall-clock time, for `generated_ms`, to refuse events from the future and to let
            nobody expire for an event from it
        """
        records = sum(len(part.batch.offsets) for part in parts)
        result = StepResult([PartResult() for _ in parts], records)
        started = perf_counter()
        events = [
            self._take_in(part, now_ms, changes)
            for part, changes in zip(parts, result.parts, strict=True)
        ]
        result.stage_s["decode"] = perf_counter() - started
        if any(map(len, events)):
            self._lists.follow_catalogue(now_ms)
            self._personalize(parts, events, now_ms, result)
        if any(changes.asked for changes in result.parts):
            answer_at = perf_counter()
            self._lists.follow_catalogue(now_ms)
            self.answers.fill(result.parts, now_ms + int(1000 * (answer_at - started)))
            result.stage_s["answer"] = perf_counter() - answer_at
        return result

    def _personalize(
        self, parts: Sequence[Part], events: Sequence[Events], now_ms: int, result: StepResult
    ) -> None:
        """Fold events, and make lists of their users' states."""
        decoded_at = perf_counter()
        decoded = number_users(parts, events, self.pseudonyms)
        users = self._fold(decoded, now_ms, result)
        result.stage_s["fold"] = perf_counter() - decoded_at
        self._recommend(decoded, users, now_ms, result)

    def _take_in(self, part: Part, now_ms: int, changes: PartResult) -> Events:
        """Decode a part and carry its erasures out; answers the events to be folded."""
        batch, kind = part.batch, self._kinds[part.batch.topic]
        if kind == "erasures":
            self._erase(part, now_ms, changes)
            return Events.none()
        if kind == "requests":
            changes.reject(batch, self.answers.take_in(part, now_ms, changes))
            return Events.none()
        events, rejections = decode_events(kind, batch.keys, batch.values, batch.offsets, now_ms)
        changes.reject(batch, rejections)
        return self._without_strangers(part, events, changes)

    def _erase(self, part: Part, now_ms: int, changes: PartResult) -> None:
        """Forget users, with all that they did before and since the time of their erasure.

        An erasure from before a crash changes no state: its user may be back. One that left no mark
        then was refused, for a time too far ahead, which it may not be any more: it is again.
        """
        batch, shard, users = part.batch, part.shard, len(part.shard)
        erasures, rejections = decode_erasures(batch.keys, batch.values, now_ms)
        states: dict[bytes, bytes | None] = {}
        lists: dict[bytes, None] = {}
        for at, erasure in erasures:
            user_id = erasure.user.encode()
            key = self.pseudonyms.key_of(user_id)
            if batch.offsets[at] >= part.applied:
                states.update(shard.erase(key, erasure.event_time_ms))
            elif shard.marks.erased_ms(key) < erasure.event_time_ms:
                rejections.append(Rejection(at, "event_time_ahead", "event_time_ms"))
                continue
            if shard.find(key) is None:
                lists[user_id] = None
            user_hash = shard.marks.hash_of(key)
            changes.erased.append(ErasedUser(user_id, user_hash, erasure, batch.offsets[at]))
        changes.removed += users - len(shard)
        changes.state_keys, changes.state_values = list(states), list(states.values())
        changes.list_keys, changes.list_values = list(lists), list(lists.values())
        changes.reject(batch, rejections)

    def _without_strangers(self, part: Part, events: Events, changes: PartResult) -> Events:
        """Leave out events that must not make a state for a user who has none.

        Those from before the user's erasure (users with a state know their erasure: `Users.note`),
        and those that were folded before a crash, whose user has left since.
        """
        shard = part.shard
        folded = len(events) > 0 and events.offsets[0] < part.applied
        if not len(events) or not (folded or len(shard.marks)):
            return events
        keys = self.pseudonyms.keys_of(events.users)
        strangers = {key: shard.marks.erased_ms(key) for key in shard.unknown(keys)}
        if not strangers:
            return events
        never_ms = np.iinfo(np.int64).min
        until_ms = np.array([strangers.get(key, never_ms) for key in keys], np.int64)
        known = until_ms == never_ms
        gone = ~known & (events.offsets < part.applied)
        forgotten = ~known & ~gone & (events.times_ms <= until_ms)
        changes.forgotten = int(np.count_nonzero(forgotten))
        changes.skipped = int(np.count_nonzero(gone))
        return events.take(np.flatnonzero(~(gone | forgotten)))

    def _fold(self, decoded: Sequence[Decoded], now_ms: int, result: StepResult) -> Users:
        """Fold what is not in the states yet; answers the users of all parts, in their order."""
        users = Users(self.layout, [(part.given.shard, part.ids, part.keys) for part in decoded])
        stale = np.flatnonzero(users.model != self.layout.model)
        if len(stale):
            rebuild(self.model, self.catalogue, users, stale)
        who = np.concatenate([part.who[part.skipped :] for part in decoded])
        events = Events.join([part.events.tail(part.skipped) for part in decoded])
        folded = fold(self.model, self.catalogue, users, who, events)
        new_ones = ~(folded.repeated | folded.forgotten)
        named = self._lists.naming.read(events.list_names)
        happened = Happened(users, who, events, named, new_ones, now_ms)
        seen = self._lists.learn(happened)
        result.outcomes = self.quality.look_up(decoded, happened, folded.items)
        values = users.store()
        result.refused_states = users.refused
        times_ms = counted_times(decoded, events)
        counted = count_items(decoded, folded, events, times_ms, self.catalogue)
        count_segments(decoded, seen, times_ms, counted)
        first_event = 0
        for part, changes, counts in zip(decoded, result.parts, counted, strict=True):
            stop_event = first_event + len(part.events) - part.skipped
            count_events(part, folded, slice(first_event, stop_event), users, changes)
            first_event = stop_event
            if not len(part.events):
                continue
            changes.list_keys = users.ids[part.users]
            if part.skipped:
                touched = np.unique(part.who[part.skipped :]).tolist()
                changes.state_keys = [users.keys[number] for number in touched]
                changes.state_values = [values[number] for number in touched]
            else:
                changes.state_keys = users.keys[part.users]
                changes.state_values = [*values[part.users]]
            changes.count_keys, changes.count_values = counts
            if self._own_counts is not None and self._lists.by_counts:
                self._own_counts.load(part.given.batch.partition, *counts)
            self._let_go(part, now_ms, changes)
        return users

    @staticmethod
    def _let_go(part: Decoded, now_ms: int, changes: PartResult) -> None:
        """Let a few users go that are inactive for too long, or too many."""
        shard = part.given.shard
        expired, evicted = shard.leave(len(part.events), busy=part.keys, now_ms=now_ms)
        gone = expired + evicted
        if gone:
            changes.state_keys += gone
            changes.state_values += [None] * len(gone)
            changes.expired, changes.evicted = len(expired), len(evicted)

    def _recommend(
        self, decoded: Sequence[Decoded], users: Users, now_ms: int, result: StepResult
    ) -> None:
        """A record for each user, with the newest event that it reflects."""
        causes = [cause for part in decoded for cause in part.causes()]
        values: list[bytes] = []
        lists: list[EncodedLists] = []
        for start in range(0, len(users), USERS_AT_ONCE):
            some = slice(start, min(start + USERS_AT_ONCE, len(users)))
            made = self._lists.make(users, some, causes[some], now_ms)
            values += made.records
            lists.append(made)
            result.stage_s["score"] += made.score_s
            result.stage_s["policy"] += made.policy_s
        self.quality.remember(decoded, users, lists, result.outcomes, now_ms)
        all_filled = np.concatenate([few.filled for few in lists])
        all_show = np.concatenate([few.record_hashes for few in lists])
        for part, changes in zip(decoded, result.parts, strict=True):
            if not len(part.events):
                continue
            changes.list_values = [*values[part.users]]
            sent = all_filled[part.users]
            if self._resend_after_ms:
                shard, show = part.given.shard, all_show[part.users]
                slots = shard.slots(part.keys)
                due = shard.standing.renew(slots, show, now_ms, self._resend_after_ms)
                changes.send_only(due)
                sent = sent[due]
            changes.lists_by_arm = dict(zip(self._lists.arms, sent.sum(0).tolist(), strict=True))
