"""Who may leave a partition, and when. In: newest event times by user. Out: why one may go.

    expired   the user's newest event is older than the partition's newest one by more than
              `expire_after_ms`
    evicted   there are more users than the partition's share, and since the user's last event the
              user was once among the least recently active ones: as many as there were too many,
              and a 64th of the share, which a worker may choose ahead

Nobody may leave who has an event in the very batch. What must go, and how soon, is not judged here:
a step may let few go, and a silent partition lets nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

AHEAD = 64

Why = Literal["expired", "evicted", ""]


class Limits(NamedTuple):
    """When users of one partition leave; 0: never, and any number."""

    expire_after_ms: int = 0
    users: int = 0


class Leavers:
    """Who may leave, as the changelog of a partition goes on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clock_ms = 0
        self._newest_ms: Mapping[bytes, int] = {}
        self._due: dict[bytes, int] = {}  # newest event time when the user was among the least
        self._excess = 0

    def look(self, newest_ms: Mapping[bytes, int]) -> None:
        """Take in a step: the newest event time of every user with a state, the leavers' too."""
        share = self._limits.users
        self._newest_ms = newest_ms
        self._clock_ms = max(self._clock_ms, *newest_ms.values(), 0)
        self._excess = max(0, len(newest_ms) - share) if share else 0
        if self._excess:
            chosen = min(self._excess + share // AHEAD, len(newest_ms))
            latest_ms = sorted(newest_ms.values())[chosen - 1]
            self._due.update((u, at_ms) for u, at_ms in newest_ms.items() if at_ms <= latest_ms)

    def why(self, user: bytes) -> Why:
        """Why this user may leave now; empty when there is no reason. Once for each who leaves."""
        newest_ms = self._newest_ms.get(user)
        if newest_ms is None:
            return ""
        inactive_ms = self._clock_ms - newest_ms
        if self._limits.expire_after_ms and inactive_ms > self._limits.expire_after_ms:
            return "expired"
        if self._excess > 0 and self._due.get(user) == newest_ms:
            self._excess -= 1
            return "evicted"
        return ""
