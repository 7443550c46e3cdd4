"""Which faults happen, and when: drawn from a seed, in rounds, the whole list in each.

The same seed gives the same schedule. What a fault hits is drawn as a share (0 to 1) of what there
is when its time comes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

# A worker that kills itself at a point of `points.py`.
MORTAL = ("sent", "acknowledged", "replay", "claim", "fence", "rebalance", "catalogue")
KILLS = (*(f"kill at {point}" for point in MORTAL), "kill", "kill", "kill")
WORKERS = ("terminate", "sleep", "join", "leave")
NETWORK = ("unreachable", "silent", "delay", "cut")  # between the workers and their broker
PLAIN = (*WORKERS, "broker", *NETWORK)  # that hit any engine
DISK = ("slow disk", "hung disk")  # the broker's
TOPICS = ("narrow changelog", "narrow output", "asked topic", "lists anew")
OTHERS = (*PLAIN, *DISK, "clock", *TOPICS)
AT_ONCE = 0.2  # share of faults that do not wait until the workers serve again


class Fault(NamedTuple):
    """One fault.

    Attributes
    ----------
    kind : what happens
    at_once : the workers may still be starting
    wait_s : time before it, from when they serve unless at once
    victim : which worker, as a share of those there are
    amount : how long or how often, 0 to 1; what it means depends on the kind
    """

    kind: str
    at_once: bool
    wait_s: float
    victim: float
    amount: float

    @property
    def kills(self) -> bool:
        """Whether a worker dies by SIGKILL."""
        return self.kind.startswith("kill")

    def __str__(self) -> str:
        when = "at once" if self.at_once else "once all serve"
        share = f"victim {self.victim:.2f}, amount {self.amount:.2f}"
        return f"{self.kind:21}{self.wait_s:5.2f} s after, {when}; {share}"


def draw(
    seed: int, kills: Sequence[str] = KILLS, others: Sequence[str] = OTHERS
) -> Iterator[list[Fault]]:
    """Rounds without end, each of all `kills` and `others` in some order."""
    chance = random.Random(f"faults of {seed}")
    while True:
        kinds = [*kills, *others]
        chance.shuffle(kinds)
        faults = []
        for kind in kinds:
            at_once = chance.random() < AT_ONCE
            wait_s = chance.uniform(0.1, 3.0) if at_once else chance.uniform(0.02, 2.0)
            faults.append(Fault(kind, at_once, wait_s, chance.random(), chance.random()))
        yield faults


def until(rounds: Iterator[list[Fault]], kills: int) -> Iterator[Fault]:
    """The faults of the rounds that it takes for so many kills, without any kill beyond."""
    while kills > 0:
        for fault in next(rounds):
            if not fault.kills:
                yield fault
            elif kills > 0:
                kills -= 1
                yield fault
