"""How the workers of a run keep states: for how long, how many, and under which keys.

In: a seed, or what a test asks for. Out: settings for the workers, and what the checker must know.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from stream.settings import variable
from tests.chaos.decode import pseudonym
from tests.chaos.leaving import Limits


class Keeping(NamedTuple):
    """Settings of the states; the default is that nobody leaves and that ids are the keys.

    Attributes
    ----------
    expire_after_s : of event time without an event, after which a user leaves; 0: never
    max_users : of all partitions; 0: no limit
    secret : makes pseudonyms; empty: there are none
    half_life_s, recent_half_life_s : of items' counts; 0: as by default
    """

    expire_after_s: float = 0.0
    max_users: int = 0
    secret: str = ""
    half_life_s: float = 0.0
    recent_half_life_s: float = 0.0

    @classmethod
    def drawn(cls, seed: int) -> Keeping:
        """Of every two seeds one has users leave, and one has pseudonyms."""
        chance = random.Random(f"keeping of {seed}")
        leave, pseudonyms = chance.random() < 0.5, chance.random() < 0.5
        expire_after_s = round(chance.uniform(5, 30), 1)
        max_users = chance.choice((240, 1_000, 2_000))
        secret = f"secret of the storm that has the seed {seed}"
        return cls(
            expire_after_s if leave else 0.0,
            max_users if leave else 0,
            secret if pseudonyms else "",
            round(expire_after_s / 10, 1) if leave else 0.0,
            0.1 if leave else 0.0,
        )

    def __str__(self) -> str:
        told = []
        if self.expire_after_s:
            told.append(f"users leave after {self.expire_after_s:g} s")
        if self.max_users:
            told.append(f"{self.max_users:,} users at most")
        if self.half_life_s:
            told.append(f"counts fade by half in {self.half_life_s:g} s")
        if self.secret:
            told.append("pseudonyms")
        return ", ".join(told) or "nobody leaves, no pseudonyms"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is told beside its configuration."""
        told = {
            "state.expire_after_s": str(self.expire_after_s or ""),
            "state.max_users": str(self.max_users or ""),
            "privacy.secret": self.secret,
            "statistics.half_life_s": str(self.half_life_s or ""),
            "statistics.recent_half_life_s": str(self.recent_half_life_s or ""),
        }
        return {variable(name): value for name, value in told.items() if value}

    def limits(self, partitions: int) -> Limits:
        """What holds for each of the partitions."""
        return Limits(round(self.expire_after_s * 1000), -(-self.max_users // partitions))

    @property
    def half_lives_ms(self) -> tuple[float, float]:
        """Of items' counts, and of the recent ones."""
        usual_s, recent_s = self.half_life_s or 604_800.0, self.recent_half_life_s or 3_600.0
        return usual_s * 1000, recent_s * 1000

    def key_of(self, user: bytes) -> bytes:
        """The key of a user's state."""
        return pseudonym(user, self.secret.encode()) if self.secret else user


PLAIN = Keeping()
# At some hundred events a second most users leave, some by each of the two, and come back.
BRIEF = Keeping(
    expire_after_s=2.5,
    max_users=480,
    secret="swordfish-" * 4,
    half_life_s=0.2,
    recent_half_life_s=0.1,
)
KEEPINGS = {"plain": PLAIN, "brief": BRIEF}
