"""Which users leave a shard: those inactive for too long, and the least active beyond a limit.

In: newest event times by slot, and the time up to which the partition's events have come. Out: a
few users a step. Who is inactive is found by a look at a few slots a step; for the least active one
step in many looks at the times of all users, once for each 1/64 of the limit that has to go. Knows
nothing of states and Kafka.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Set
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.user_keys import UserKeys

_LEAVE_AT_LEAST: Final = 64  # a step lets so many users go, and as many more as it has events
# A step looks at so many slots, and at so many more an event, so that the hand comes round.
_LOOK_AT_LEAST: Final = 64
_LOOK_PER_EVENT: Final = 4
# All slots are looked at once while the events' time goes on by this share of `expire_after_ms`.
_ROUNDS: Final = 100
# The users to be evicted next are found for so many evictions at once: 1/64 of the limit.
_EVICT_SHARE: Final = 64


class Limits(NamedTuple):
    """When users leave.

    Attributes
    ----------
    expire_after_ms : of event time without an event of the user; 0 = never
    max_users : of one partition; 0 = no limit
    """

    expire_after_ms: int = 0
    max_users: int = 0


class Lifecycle:
    """The hand that goes round a shard's slots, and the queue of its least active users.

    Parameters
    ----------
    newest_ms : newest event time of each user in a range of slots
    """

    def __init__(self, limits: Limits, newest_ms: Callable[[slice], NDArray[np.int64]]) -> None:
        self.limits = limits
        self._newest_ms = newest_ms
        self._hand = 0
        self._round_ms = 0  # the clock when the hand last began
        self._resting = False  # until the clock has gone on
        # Newest event times by key, the least active first.
        self._queue: OrderedDict[bytes, int] = OrderedDict()

    def expired(
        self, keys: UserKeys, clock_ms: int, events: int, most: int, stay: Set[bytes]
    ) -> list[bytes]:
        """The next few users that are inactive for too long, at most `most`.

        Parameters
        ----------
        keys : of all slots
        clock_ms : time up to which the partition's events have come
        events : in this step
        stay : users that the step has to do with
        """
        users = len(keys)
        limit_ms = self.limits.expire_after_ms
        if self._resting and clock_ms - self._round_ms >= limit_ms // _ROUNDS:
            self._resting = False
        if not limit_ms or self._resting:
            return []
        if self._hand == 0:
            self._round_ms = clock_ms
        start = min(self._hand, users)
        stop = min(start + _LOOK_AT_LEAST + _LOOK_PER_EVENT * events, users)
        old = start + np.flatnonzero(self._newest_ms(slice(start, stop)) < clock_ms - limit_ms)
        found = [key for key in keys.of_slots(old) if key not in stay]
        if found:  # whoever takes their slots comes from the end: look here again
            self._hand = start
        elif stop == users:
            self._hand = 0
            self._resting = True
        else:
            self._hand = stop
        return found[:most]

    def evicted(
        self,
        keys: UserKeys,
        most: int,
        stay: Set[bytes],
    ) -> list[bytes]:
        """The least active users beyond the limit, at most `most`.

        Least active at the time of the last look: who was active since stays.

        Parameters
        ----------
        keys : of all slots
        """
        excess = min(len(keys) - self.limits.max_users, most) if self.limits.max_users else 0
        found: list[bytes] = []
        looked = False
        while len(found) < excess:
            if not self._queue:
                if looked:
                    break  # the rest of them stay
                looked = True
                self._look_for_the_least_active(keys, keys.find(found))
                continue
            next_few = min(len(self._queue), excess - len(found))
            due = [self._queue.popitem(last=False) for _ in range(next_few)]
            slots = keys.find([key for key, _ in due])
            active_ms = np.where(slots < 0, -1, self._newest_ms(slice(0, len(keys)))[slots])
            found += [
                key
                for (key, newest_ms), ms in zip(due, active_ms.tolist(), strict=True)
                if ms == newest_ms and key not in stay
            ]
        return found

    def forget(self, key: bytes) -> None:
        """Hold the key of a user no longer who was erased."""
        self._queue.pop(key, None)

    def _look_for_the_least_active(self, keys: UserKeys, taken: NDArray[np.int64]) -> None:
        newest_ms = self._newest_ms(slice(0, len(keys))).copy()
        newest_ms[taken] = np.iinfo(np.int64).max
        wanted = len(keys) - len(taken) - self.limits.max_users
        wanted += self.limits.max_users // _EVICT_SHARE
        wanted = min(wanted, len(keys) - len(taken))
        if wanted <= 0:
            return
        at = np.argpartition(newest_ms, wanted - 1)[:wanted]
        at = at[np.argsort(newest_ms[at], kind="stable")]
        self._queue.update(zip(keys.of_slots(at), newest_ms[at].tolist(), strict=True))


def leave_at_most(events: int) -> int:
    """Users that a step with so many events may let go."""
    return events + _LEAVE_AT_LEAST
