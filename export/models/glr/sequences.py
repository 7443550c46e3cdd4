"""A log as windows of consecutive events of one user. In: a `Log`. Out: batches for a network.

Everything is a column of the whole log in the order of users; a batch is cut out of it by index
arithmetic. The order of batches depends on seed and epoch alone. NumPy; knows no network.

A moment is what a user does at one time: an order, where a log stamps all its lines with one
minute. Its events have no order, so what comes "next" is drawn: from the rest of the moment, or
from the user's next one. Where moments are single events that is the next event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from export.data.dataset import Log
from export.models.base import Float32, Int64
from export.weights import EVENT_WEIGHTS, TOWARDS, turns_towards
from stream.contracts import EventType
from stream.core.weighing import weight_table

# Upper ends of the buckets of a time gap: a second, a minute, ... The graphs compare with the same
# float32 numbers, so that no rounding can tell training and serving apart.
GAP_EDGES_S: Float32 = np.exp(np.arange(18)).astype(np.float32)
GAPS = len(GAP_EDGES_S) + 1
TYPES = 16
_POOL = 8192  # windows that are sorted by length together: batches without much padding


class Batch(NamedTuple):
    """Windows side by side, time first. All of shape [L, B]; 0 and False where a window has ended.

    Attributes
    ----------
    rows, types, gaps : int64; item row, trained type and gap bucket of each event but the last
    targets : int64; row of the event after it, 0 where that is none to be predicted
    weights : float32; of the targets
    """

    rows: Int64
    types: Int64
    gaps: Int64
    targets: Int64
    weights: Float32


@dataclass(slots=True, eq=False)
class Sequences:
    """Events that a state folds, users one after the other, each in time order.

    Attributes
    ----------
    user, row, kind, gap : int64, shape (n,); `kind` is the event type that its type is trained as
    wanted : bool, shape (n,); may be a target: the user turned towards the item
    weight : float32, shape (n,); by recency
    time_ms, position : int64, shape (n,); `position` is that of the event in the log
    starts : int64, shape (users + 1,); where each user's events begin
    begins, ends : int64, shape (n,); where the moment of each event begins and ends
    """

    user: Int64
    row: Int64
    kind: Int64
    gap: Int64
    wanted: npt.NDArray[np.bool_]
    weight: Float32
    time_ms: Int64
    position: Int64
    starts: Int64
    begins: Int64
    ends: Int64

    @classmethod
    def of(cls, log: Log, row_by_code: Int64, kinds: Int64, recency: float = 0.0) -> Sequences:
        """The log's events that change a state.

        Parameters
        ----------
        row_by_code : int64, shape (len(log.items),); 0 for an item without a row
        kinds : from `trained_kinds`
        recency : see `Parameters`
        """
        order = np.argsort(log.user, kind="stable")
        order = order[(row_by_code[log.item[order]] > 0) & (kinds[log.event_type[order]] > 0)]
        user, time_ms = log.user[order].astype(np.int64), log.time_ms[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = np.diff(user) != 0
        gap_s = np.zeros(len(order), np.float32)
        gap_s[1:] = (np.diff(time_ms) / 1000.0).astype(np.float32)
        gap_s[first] = 0
        age = 1 - order / max(len(log), 1)  # by rank: a quiet summer is not older than it is
        begin = np.flatnonzero(first | (np.diff(time_ms, prepend=-1) != 0))
        moment = np.diff(np.append(begin, len(order)))
        return cls(
            user=user,
            row=row_by_code[log.item[order]],
            kind=kinds[log.event_type[order]],
            gap=gap_bucket(gap_s),
            wanted=turns_towards(log.event_type[order]),
            weight=np.exp(-recency * age).astype(np.float32),
            time_ms=time_ms,
            position=order,
            starts=np.append(np.flatnonzero(first), len(order)),
            begins=np.repeat(begin, moment),
            ends=np.repeat(begin + moment, moment),
        )

    def __len__(self) -> int:
        return len(self.row)

    def digest(self) -> str:
        """BLAKE2b of all that is trained on, hex."""
        found = hashlib.blake2b(digest_size=16)
        for column in (self.user, self.row, self.kind, self.gap, self.wanted, self.weight):
            found.update(np.ascontiguousarray(column).data)
        return found.hexdigest()

    def windows(self, longest: int) -> Int64:
        """Windows of at most `longest` + 1 events, the last of a user ending with its last event.

        Neighbours share one event, so that each event but a user's first comes after another one
        once: a target once where targets are the next events. `pack` may draw those of an order.

        Returns
        -------
        int64, shape (windows, 2): first position, and the one after the last; two events or more
        """
        begin, end = self.starts[:-1], self.starts[1:]
        count = np.maximum(-(-(end - begin - 1) // longest), 0)
        user = np.repeat(np.arange(len(begin)), count)
        back = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
        stop = end[user] - back * longest
        return np.stack([np.maximum(begin[user], stop - longest - 1), stop], axis=1)

    def later(self, at: Int64, draw: np.random.Generator) -> Int64:
        """An event after each one at `at`: half of them of the same moment, half of the next.

        All are of the other half where a moment has no rest, or the user no next one. An event that
        nothing follows gets itself.
        """
        end = self.ends[at]
        last = self.starts[np.searchsorted(self.starts, at, side="right")]
        following = self.ends[np.minimum(end, last - 1)]
        rest = at + 1 < end
        same = rest & ((end >= last) | (draw.random(at.shape) < 0.5))
        low = np.where(same, at + 1, end)
        high = np.where(same, end, following)
        drawn = low + (draw.random(at.shape) * (high - low)).astype(np.int64)
        return np.where(same | (end < last), drawn, at)

    def until(self, stops: Int64, longest: int) -> Int64:
        """Windows that end before the events at `stops`, which are the last of their windows."""
        user = np.searchsorted(self.starts, stops, side="right") - 1
        return np.stack([np.maximum(self.starts[user], stops - longest), stops + 1], axis=1)

    def batches(
        self, windows: Int64, events: int, shuffle: np.random.Generator | None = None
    ) -> Iterator[Int64]:
        """Indices of `windows` by batch: windows times the longest is at most `events`."""
        length = windows[:, 1] - windows[:, 0] - 1
        if shuffle is None:
            order = np.argsort(length, kind="stable")
        else:
            order = shuffle.permutation(len(windows))
            pools = np.arange(len(order)) // _POOL
            order = order[np.lexsort((length[order], pools))]
        cuts, longest, first = [0], 0, 0
        for at, of in enumerate(length[order].tolist()):
            longest = max(longest, of)
            if at > first and longest * (at + 1 - first) > events:
                cuts.append(at)
                first, longest = at, of
        cuts.append(len(order))
        parts = [order[a:b] for a, b in pairwise(cuts) if b > a]
        for at in shuffle.permutation(len(parts)) if shuffle is not None else range(len(parts)):
            yield parts[at]

    def pack(self, windows: Int64, draw: np.random.Generator | None = None) -> Batch:
        """Cut windows out. int64, shape (B, 2).

        Parameters
        ----------
        draw : targets are drawn as `later` does; None: a target is the next event
        """
        begin, end = windows[:, 0], windows[:, 1]
        steps = np.arange(int((end - begin).max()) - 1)[:, None]
        at = begin + steps
        there = at < end - 1
        at = np.where(there, at, 0)
        after = np.where(there, at + 1, 0) if draw is None else self.later(at, draw)
        wanted = there & self.wanted[after] & (after > at)
        return Batch(
            rows=np.where(there, self.row[at], 0),
            types=np.where(there, self.kind[at], 0),
            gaps=np.where(there, self.gap[at], 0),
            targets=np.where(wanted, self.row[after], 0),
            weights=np.where(wanted, self.weight[after], 0).astype(np.float32),
        )


def trained_kinds(log: Log) -> Int64:
    """As which event type each one is trained: int64, shape (16,); 0 = it changes no state.

    A type that the log never shows is taken for its most frequent one that turns towards an item,
    if it does so itself; a "dislike" that nobody has shown the network says nothing.
    """
    counts = np.bincount(log.event_type, minlength=TYPES)
    weights = weight_table(EVENT_WEIGHTS)
    counts[[t for t in EventType if weights[t] == 0]] = 0  # shown is not done
    towards = np.where(TOWARDS, counts, 0)
    kinds = np.where(TOWARDS, int(np.argmax(towards)), 0)
    return np.where(counts > 0, np.arange(TYPES), kinds).astype(np.int64)


def gap_bucket(gap_s: Float32) -> Int64:
    """Logarithmic bucket of time gaps, float32 seconds; negative ones are 0. int64."""
    return np.searchsorted(GAP_EDGES_S, gap_s, side="right").astype(np.int64)
