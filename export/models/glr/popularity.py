"""How much more an item is in demand lately than over the whole log. In: `Sequences`. Out: a term
of its bias.

    drift(i) = log(N(i) + DOUBT) - log(T(i) + DOUBT), less the same of all items' sums

N counts the item's events with a weight that halves every few days before the end of the log, T
with the weights that the network was trained with: its biases know those already. What a shop sells
changes faster than a network learns, and what has left the shelf is asked for no more.
"""

from __future__ import annotations

import numpy as np

from export.models.base import Float32
from export.models.glr.sequences import Sequences

DOUBT = 0.5  # events that each item is taken to have had in both
DAY_MS = 86_400_000


def drift(sequences: Sequences, items: int, half_life_days: float) -> Float32:
    """The term for each row: float32 [items], 0 for row 0 and for a half-life of 0."""
    found = np.zeros(items, np.float32)
    rows = sequences.row[sequences.wanted]
    if not half_life_days or not len(rows):
        return found
    time_ms = sequences.time_ms[sequences.wanted]
    newest = np.exp2((time_ms - time_ms.max()) / (half_life_days * DAY_MS))
    shares = []
    for weight in (newest, sequences.weight[sequences.wanted]):
        counts = np.bincount(rows, weight, items)[1:] + DOUBT
        shares.append(np.log(counts / counts.sum()))
    found[1:] = shares[0] - shares[1]
    return found
