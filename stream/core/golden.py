"""Golden sequences: what a bundle's graphs must compute. In: a replay of them. Out: how it is off.

Must not know: how they are replayed, where they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream.core.recent import Recent

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """G sequences of T events, and what the reference implementation made of them.

    `item_rows`, `event_types`: int64 [G, T]; `gaps_s`: float32 [G, T]; `states`: float32 [G, T, S]
    after each event; then one score of the last state: `recent` interactions [G, R], None where the
    score graph takes none; `excluded` int64 [G, M], `rows` int64 [G, k], `scores` float32 [G, k].
    """

    item_rows: Int64
    event_types: Int64
    gaps_s: Float32
    states: Float32
    recent: Recent | None
    excluded: Int64
    rows: Int64
    scores: Float32

    def fault(self, states: Float32, rows: Int64, scores: Float32, tolerance: float) -> str | None:
        """How a replay is off by more than `tolerance` (absolute), or None.

        Parameters
        ----------
        states, rows, scores : in the place of those of the reference
        """
        if scores.shape != self.scores.shape:
            return "lists other items"
        # Another row at a rank is a fault unless the two tie there within the tolerance.
        other = (rows != self.rows) & (scores > 0)
        previous = np.abs(np.diff(self.scores, axis=1, prepend=2.0))
        following = np.abs(np.diff(self.scores, axis=1, append=self.scores[:, -1:]))
        tied = np.minimum(previous, following) <= 2 * tolerance
        if (other & ~tied).any():
            return "lists other items"
        worst = np.maximum(_largest(states - self.states), _largest(scores - self.scores))
        return None if worst <= tolerance else f"differs by up to {worst:.3g}"  # NaN differs


def _largest(values: Float32) -> np.float32:
    """Of absolute values; NaN where there is one."""
    largest: np.float32 = np.max(np.abs(values), initial=0.0)
    return largest
