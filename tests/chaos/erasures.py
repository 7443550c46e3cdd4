"""Erasures as they must come out: marks, receipts, lists taken back. In: what stands in the logs.

After an erasure the user has no state. Events up to its time change nothing and bring nobody back,
later ones begin anew. What must be there of each:

    changelog         a tombstone and the mark, in the batch that has the erasure applied
    recommendations   a null by the owner that applied it or a later one, unless the user is back
    receipts          one at least, by the owner that applied it or a later one
    erasures          a null after it
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tests.chaos.decode import MARK, SALT_KEY, At, Erasure, Event
from tests.chaos.logs import Record
from tests.chaos.outputs import Owned
from tests.chaos.verdict import Verdict


class Receipt(NamedTuple):
    """A record of `receipts`, and how many owners its partition had before who sent it."""

    record: Record
    rank: int


class Forgotten:
    """Who was forgotten in a partition, as its changelog goes on.

    Parameters
    ----------
    key_of : the key of a user's state, of which marks are hashes

    Attributes
    ----------
    until_ms : newest event time that stays forgotten, by user
    applied : erasure -> how many owners there were before the one that applied it
    back : users who came back after an erasure
    excused : events that need no list: they changed nothing, or their user was erased after them,
        or left after them while a worker died (`States.finish`)
    """

    def __init__(self, key_of: Callable[[bytes], bytes] = lambda user: user) -> None:
        self._key_of = key_of
        self.until_ms: dict[bytes, int] = {}
        self.applied: dict[At, int] = {}
        self.back: set[bytes] = set()
        self.excused: set[At] = set()
        self._salt: bytes | None = None
        self._since: dict[bytes, list[At]] = defaultdict(list)

    def erase(self, at: At, erasure: Erasure, rank: int) -> None:
        user = erasure.user
        self.applied[at] = rank
        self.until_ms[user] = max(erasure.time_ms, self.until_ms.get(user, 0))
        self.excused.update(self._since.pop(user, ()))

    def heeds(self, at: At, event: Event, here: bool) -> bool:
        """Whether an event has to do with states; `here`: its user has one."""
        if event.time_ms <= self.until_ms.get(event.user, 0):
            self.excused.add(at)
            return here
        if not here and event.user in self.until_ms:
            self.back.add(event.user)
        self._since[event.user].append(at)
        return True

    def let_go(self, user: bytes) -> set[At]:
        """A user left who was not erased; answers the events that made the state."""
        return set(self._since.pop(user, ()))

    def hash_of(self, user: bytes) -> bytes:
        key = self._key_of(user)
        return hashlib.blake2b(key, key=self._salt or b"", digest_size=16).digest()

    def check_marks(
        self, erased: set[bytes], there: Mapping[bytes, bytes | None], where: str, verdict: Verdict
    ) -> None:
        """Judge a batch's records about erasures, given the users that it erased."""
        there = dict(there)
        salt = there.pop(SALT_KEY, self._salt)
        verdict.count("wrong_marks", where, self._salt is not None and salt != self._salt)
        self._salt = salt
        for user in erased:
            mark = there.pop(MARK + self.hash_of(user), None)
            right = salt is not None and mark == self.until_ms[user].to_bytes(8, "little")
            verdict.count("wrong_marks", where, not right)
        verdict.count("wrong_marks", where, len(there))


def check_receipts(
    asked: Mapping[At, Erasure],
    forgotten: Forgotten,
    receipts: Sequence[Receipt],
    partition: int,
    verdict: Verdict,
) -> None:
    """Judge the receipts of a partition, given the erasures asked for in it."""
    verdict.erasures += len(asked)
    verdict.receipts += len(receipts)
    seen = set()
    for record, rank in receipts:
        where = f"receipt {partition}@{record.offset}"
        told = json.loads(record.value or b"{}")
        of = told["erasure"]
        at = (of["topic"], of["offset"])
        erasure = asked.get(at)
        if erasure is None or at not in forgotten.applied:
            verdict.count("false_receipts", where)
            continue
        name = forgotten.hash_of(erasure.user).hex()
        right = record.key == name.encode() and told["user_hash"] == name
        right = right and (of["partition"], of["event_time_ms"]) == (partition, erasure.time_ms)
        verdict.count("false_receipts", where, not right)
        verdict.count("early_receipts", where, rank < forgotten.applied[at])
        seen.add(at)
    for topic, offset in sorted(asked.keys() - seen):
        verdict.count("missing_receipts", f"{topic}-{partition}@{offset}")


def check_done(asked: Mapping[At, Erasure], done: Mapping[bytes, int], verdict: Verdict) -> None:
    """Judge the nulls of `erasures`, given the offset of each user's last one."""
    for (topic, offset), erasure in asked.items():
        verdict.count("kept_erasures", f"{topic}@{offset}", done.get(erasure.user, -1) < offset)


def check_taken_back(
    asked: Mapping[At, Erasure],
    forgotten: Forgotten,
    lists: Sequence[Owned],
    standing: set[bytes],
    verdict: Verdict,
) -> None:
    """Judge the nulls among a partition's lists, and what comes after them.

    Parameters
    ----------
    standing : users whose last list may stand: they have a state in the end, or left with one
    """
    ranks: dict[bytes, list[int]] = defaultdict(list)
    oldest_ms: dict[bytes, int] = {}
    for at, rank in forgotten.applied.items():
        user, time_ms = asked[at]
        ranks[user].append(rank)
        oldest_ms[user] = min(time_ms, oldest_ms.get(user, time_ms))
    taken: dict[bytes, int] = {}  # rank of the last null
    newest_ms: dict[bytes, int] = {}  # of the last list's cause; 0 after a null
    for (offset, user, cause, *_), rank in lists:
        where = f"list @{offset}"
        if cause is None:
            verdict.count("false_nulls", where, user not in ranks)
            taken[user] = max(rank, taken.get(user, -1))
            newest_ms[user] = 0
            continue
        newest_ms[user] = cause[3]
        # A null before any erasure was applied is of an owner whose changelog batch was lost.
        if user in ranks and taken.get(user, -1) >= min(ranks[user]):
            old = cause[3] <= oldest_ms[user] and user not in forgotten.back
            verdict.count("kept_lists", where, old)
    for user in ranks.keys() - standing:
        last_ms = newest_ms.get(user, 0)
        nulled = taken.get(user, -1) >= max(ranks[user])
        # An event since the erasure's time that was erased with the state may have a list again.
        kept = last_ms <= forgotten.until_ms[user] if last_ms else not nulled
        verdict.count("kept_lists", "the last list of an erased user", kept)
