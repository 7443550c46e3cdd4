"""Whether work moves. In: what waits, what was begun. Out: for how long nothing of it moved.

Knows nothing of batches, states and brokers.
"""

from __future__ import annotations

import time

# Of the time between two looks so much counts at most: a process that was stopped (SIGSTOP, a
# frozen container) gets its chance to go on before it is taken for stuck.
MOST_BETWEEN_LOOKS_S = 10.0

# What a worker begins and must bring to an end, in words that follow "no progress for 60 s:".
STARTING = "the topics are being looked at"
JOINING = "it waits for the group to give it partitions"
GIVING_BACK = "a rebalance waits for batches in hand, which are not acknowledged"
TAKING_OVER = "partitions are being taken over"
POLLING = "the thread of the consumer group does not answer"


class Stillness:
    """How long work has waited without moving.

    Parameters
    ----------
    most_s : counts at most between two looks
    """

    def __init__(self, most_s: float = MOST_BETWEEN_LOOKS_S) -> None:
        self._most_s = most_s
        self._seen: object = None
        self._looked_s = time.monotonic()
        self._still_s = 0.0

    def moved(self) -> None:
        """Count from now on."""
        self._looked_s = time.monotonic()
        self._still_s = 0.0

    def seconds(self, waiting: bool, seen: object) -> float:
        """Time since something moved: none while nothing waits, or when `seen` is another."""
        now_s = time.monotonic()
        if waiting and seen == self._seen:
            self._still_s += min(now_s - self._looked_s, self._most_s)
        else:
            self._still_s = 0.0
        self._seen, self._looked_s = seen, now_s
        return self._still_s


class Undertakings:
    """What the worker has begun and must end, each by its words above."""

    def __init__(self) -> None:
        self._steps: dict[str, int] = {}
        self._limits: dict[str, float] = {}
        self._stillness: dict[str, Stillness] = {}

    def begin(self, what: str, times: float = 1.0) -> None:
        """Begin `what`, or begin it anew; it may stand still `times` as long as others."""
        self._steps[what] = 0
        self._limits[what] = times
        self._stillness[what] = Stillness()

    def moved(self, what: str) -> None:
        """Note a step towards the end of `what`, if it is under way."""
        if what in self._steps:
            self._steps[what] += 1

    def end(self, what: str) -> None:
        """`what` is done, or was not under way."""
        self._steps.pop(what, None)
        self._stillness.pop(what, None)

    def __contains__(self, what: str) -> bool:
        return what in self._steps

    def stuck(self, limit_s: float) -> str | None:
        """What has not moved for `limit_s`, in words; to be asked about once a second."""
        for what, steps in self._steps.items():
            still_s = self._stillness[what].seconds(waiting=True, seen=steps)
            if still_s > limit_s * self._limits[what]:
                return f"no progress for {still_s:.0f} s: {what}"
        return None
