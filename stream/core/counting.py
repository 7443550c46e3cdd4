"""What a step's events did, counted. In: folded events. Out: numbers; changelog records of counts.

What is counted is what was folded: nothing twice, nothing that was forgotten. Knows nothing of how
counts fade.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.contracts import MIN_EVENT_TIME_MS, Events
from stream.core.catalogue import Catalogue
from stream.core.fold import Folded
from stream.core.micro_batch import Decoded, PartResult
from stream.core.statistics.adding import Columns
from stream.core.statistics.contexts import with_contexts
from stream.core.statistics.fading import KeyedRows
from stream.core.statistics.segments import Seen
from stream.core.users import Users


def count_events(
    part: Decoded, folded: Folded, events: slice, users: Users, changes: PartResult
) -> None:
    """Count a part's events; `events` are those of `folded` that are its own."""
    changes.skipped += part.skipped
    changes.repeated = int(np.count_nonzero(folded.repeated[events]))
    forgotten = int(np.count_nonzero(folded.forgotten[events]))
    changes.forgotten += forgotten
    changes.folded = events.stop - events.start - changes.repeated - forgotten
    changes.unknown_items = int(np.count_nonzero(folded.unknown[events]))
    changes.misrouted += int(np.count_nonzero(users.misrouted[part.who]))


def counted_times(parts: Sequence[Decoded], events: Events) -> NDArray[np.int64]:
    """When events count: int64, shape (len(events),).

    One that is dated ahead counts as one of its record's timestamp: else it would fade what comes
    before it is due. A timestamp from before the year 2000 means nothing.

    Parameters
    ----------
    events : the new ones of all parts, one part after the other
    """
    if not len(events):
        return events.times_ms
    sent_ms = np.concatenate([_sent_ms(part) for part in parts])
    latest_ms = np.where(sent_ms < MIN_EVENT_TIME_MS, events.times_ms, sent_ms)
    return np.minimum(events.times_ms, latest_ms)


def count_items(
    parts: Sequence[Decoded],
    folded: Folded,
    events: Events,
    times_ms: NDArray[np.int64],
    catalogue: Catalogue,
) -> list[KeyedRows]:
    """Count the new events of each part in its shard.

    Parameters
    ----------
    events : the new ones of all parts, one part after the other, as in `folded`
    times_ms : `counted_times`
    catalogue : whose items' counts make no room for others'

    Returns
    -------
    for each part keys and values that the changelog must have with the states
    """
    if not len(events):
        return [([], []) for _ in parts]
    dropped = folded.repeated | folded.forgotten
    columns = Columns(folded.items, events.types, times_ms, dropped, folded.unknown)
    records, first = [], 0
    for part in parts:
        stop = first + len(part.events) - part.skipped
        counts, some = part.given.shard.counts, columns.some(first, stop)
        if counts.contexts:
            some = with_contexts(some, part.events.tail(part.skipped), counts.contexts)
        records.append(counts.fold(some, catalogue.know))
        first = stop
    return records


def count_segments(
    parts: Sequence[Decoded],
    seen: Sequence[Seen],
    times_ms: NDArray[np.int64],
    counted: Sequence[KeyedRows],
) -> None:
    """Count rewards of exploring in the shard of each part; where there are none, old ones fade.

    Events of items are to be counted before: they tell how late it is.

    Parameters
    ----------
    seen : by the numbers of events
    times_ms : `counted_times`
    counted : for each part records for the changelog, to which those of this are added
    """
    first = 0
    for part, (keys, values) in zip(parts, counted, strict=True):
        stop = first + len(part.events) - part.skipped
        if stop > first:
            some = [of.between(first, stop) for of in seen]
            shard = part.given.shard
            more = shard.segments.fold(some, times_ms, shard.counts.newest_ms)
            keys.extend(more[0])
            values.extend(more[1])
        first = stop


def _sent_ms(part: Decoded) -> NDArray[np.int64]:
    """int64, shape (new events,); timestamps of their records."""
    batch, events = part.given.batch, part.events
    sent_ms = np.array(batch.timestamps_ms, np.int64)
    if len(sent_ms) != len(events):  # there are records that could not be used
        sent_ms = sent_ms[np.searchsorted(batch.offsets, events.offsets)]
    return sent_ms[part.skipped :]
