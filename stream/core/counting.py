"""What a step's events did with items, counted. In: folded events. Out: changelog records.

What is counted is what was folded: nothing twice, nothing that was forgotten. Knows nothing of how
counts fade.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Events
from stream.core.fold import Folded
from stream.core.micro_batch import Decoded
from stream.core.statistics.counts import Columns, Records


def count_items(parts: Sequence[Decoded], folded: Folded, events: Events) -> list[Records]:
    """Count the new events of each part in its shard.

    Parameters
    ----------
    events : the new ones of all parts, one part after the other, as in `folded`

    Returns
    -------
    for each part keys and values that the changelog must have with the states
    """
    if not len(events):
        return [([], []) for _ in parts]
    sent_ms = [_sent_ms(part) for part in parts]
    columns = Columns(
        folded.items,
        events.types,
        events.times_ms,
        np.concatenate(sent_ms),
        folded.repeated | folded.forgotten,
        folded.unknown,
    )
    records, first = [], 0
    for part in parts:
        stop = first + len(part.events) - part.skipped
        records.append(part.given.shard.counts.fold(columns.some(first, stop)))
        first = stop
    return records


def _sent_ms(part: Decoded) -> NDArray[np.int64]:
    """int64, shape (new events,); timestamps of their records."""
    batch, events = part.given.batch, part.events
    sent_ms = np.array(batch.timestamps_ms, np.int64)
    if len(sent_ms) != len(events):  # there are records that could not be used
        sent_ms = sent_ms[np.searchsorted(batch.offsets, events.offsets)]
    return sent_ms[part.skipped :]
