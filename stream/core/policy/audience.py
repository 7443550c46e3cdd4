"""Whose lists are made, and what is known of them. In: users of a micro-batch. Out: columns.

Knows nothing of placements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Cause
from stream.core.policy.ring import Ring
from stream.core.users import Users, Who


class Audience(NamedTuple):
    """Whose lists are made.

    Attributes
    ----------
    users, some : the users, and which n of them
    states : float32, shape (n, state_size); of those
    ring : their last interactions
    causes : n events, the newest that each list reflects
    now_ms : wall-clock time
    """

    users: Users
    some: Who
    states: NDArray[np.float32]
    ring: Ring
    causes: list[Cause]
    now_ms: int

    @property
    def keys(self) -> list[bytes]:
        """User keys: n."""
        return [self.users.keys[number] for number in self.users.numbers(self.some).tolist()]

    @property
    def headers(self) -> np.ndarray:
        """What states say besides vector and ring: `HEADER`, shape (n,)."""
        return self.users.headers[self.some]

    @property
    def idle_s(self) -> NDArray[np.float64]:
        """How long ago each user's newest event was: float64, shape (n,), >= 0."""
        ago_ms = self.now_ms - self.headers["newest_ms"].astype(np.int64)
        return np.maximum(ago_ms, 0) / 1000.0

    def take(self, who: NDArray[np.int64]) -> Audience:
        """Some of them: int64, distinct, below n."""
        some = self.users.numbers(self.some)[who]
        causes = [self.causes[at] for at in who.tolist()]
        return Audience(
            self.users, some, self.states[who], self.ring.take(who), causes, self.now_ms
        )


class Basis(NamedTuple):
    """What the items of n users are scored by.

    Attributes
    ----------
    states : float32, shape (n, state_size)
    ring : the interactions that they are of
    struck : int64, shape (n, m); rows to leave out besides those of the ring, padded
        with `NO_ITEM`; None: none
    behind_s : float32, shape (n,); how long before a user's newest event the state is of; None: it
        is of that event
    """

    states: NDArray[np.float32]
    ring: Ring
    struck: NDArray[np.int64] | None = None
    behind_s: NDArray[np.float32] | None = None

    @property
    def as_of_states(self) -> Ring:
        """The ring, with ages against the moment that the states are of."""
        if self.behind_s is None:
            return self.ring
        ages_s = np.maximum(self.ring.ages_s - self.behind_s[:, None], np.float32(0))
        return self.ring._replace(ages_s=ages_s)

    def take(self, who: NDArray[np.int64]) -> Basis:
        """That of some of these users."""
        struck = None if self.struck is None else self.struck[who]
        behind_s = None if self.behind_s is None else self.behind_s[who]
        return Basis(self.states[who], self.ring.take(who), struck, behind_s)
