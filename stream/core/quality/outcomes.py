"""What users did, looked up in the lists that were made before it.

In: events as columns, remembered lists. Out: counts by arm. Knows nothing of metrics.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import NOTHING, array, compiled, part_of_compiled
from stream.contracts import EventType
from stream.core.quality.memory import Memory

LOOKED_UP: Final = (EventType.VIEW, EventType.CLICK, EventType.PURCHASE)
EXPLORED: Final = ("false", "true")
# Upper bounds of the stated probabilities that are counted together.
BOUNDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BOUNDS: Final = np.array(BOUNDS, np.float32)
IMPRESSION: Final = 3  # behind those of `LOOKED_UP`
_PURCHASE: Final = 2
_NOWHERE: Final = -1


class Arm(NamedTuple):
    """A placement's lists of one variant: what is counted apart."""

    placement: str
    variant: str


class Acts(NamedTuple):
    """What n events did.

    Attributes
    ----------
    entries : int64; the user's entry in the memory, -1: there is none
    arms : int64; number of the arm whose list the event names, -1: it names none
    shows : uint64; hash of what that list shows, 0: it names none
    codes : int64; position in `LOOKED_UP`, or `IMPRESSION`
    times_ms : int64; event time
    rows : int64; of the items
    kinds : int64; of the items
    placed : int64; number of the placement of that list, or else that the event names; -1: none
    """

    entries: NDArray[np.int64]
    arms: NDArray[np.int64]
    shows: NDArray[np.uint64]
    codes: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    rows: NDArray[np.int64]
    kinds: NDArray[np.int64]
    placed: NDArray[np.int64]


class Outcomes(NamedTuple):
    """What a step tells of lists, by arm.

    Of every event that is looked up, the list that it is looked up in counts as shown, once.

    Attributes
    ----------
    arms : whose counts these are
    made : int64, shape (arms, 2); places of the lists made in the step: not explored, explored
    looked_up : int64, shape (arms, looked up types); events
    hits : int64, shape (arms, looked up types, 2); those whose item the list held, by its place
    reciprocal_rank : float64, shape (arms, looked up types, 2); sum of 1 / place of the hits
    expected : float64, shape (arms, 2); sum of the stated probabilities of the places shown
    shown : int64, shape (arms, 2, bounds); places shown, by stated probability
    clicked : int64, shape (arms, 2, bounds); those of them that were hits
    impressions, clickthroughs : int64, shape (arms,); of events that name the list or placement
        themselves
    """

    arms: tuple[Arm, ...]
    made: NDArray[np.int64]
    looked_up: NDArray[np.int64]
    hits: NDArray[np.int64]
    reciprocal_rank: NDArray[np.float64]
    expected: NDArray[np.float64]
    shown: NDArray[np.int64]
    clicked: NDArray[np.int64]
    impressions: NDArray[np.int64]
    clickthroughs: NDArray[np.int64]

    @classmethod
    def none(cls, arms: tuple[Arm, ...]) -> Outcomes:
        """Nothing happened yet."""
        n, types, ways, bounds = len(arms), len(LOOKED_UP), len(EXPLORED), len(BOUNDS)
        return cls(
            arms,
            np.zeros((n, ways), np.int64),
            np.zeros((n, types), np.int64),
            np.zeros((n, types, ways), np.int64),
            np.zeros((n, types, ways)),
            np.zeros((n, ways)),
            np.zeros((n, ways, bounds), np.int64),
            np.zeros((n, ways, bounds), np.int64),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
        )

    def look_up(
        self,
        acts: Acts,
        memory: Memory,
        edges: NDArray[np.int64],
        listable: NDArray[np.bool_],
    ) -> None:
        """Look events up in their users' lists, and count.

        An event that names its list is looked up in that one, or in none of the placement where it
        is remembered no more. Others are in the newest of the placement, but for late ones: they
        are older than what that list reflects, so their users saw another one. Left out are items
        of a kind that the placement does not list.

        Parameters
        ----------
        edges : int64, shape (placements + 1,); where each placement's places begin
        listable : bool, shape (placements, kinds)
        """
        kept = [*memory.shown, memory.newest_ms, memory.named]
        known: list[Any] = [edges, listable, _BOUNDS, *kept]
        arguments: list[Any] = [*acts, *known, *self[2:]]
        _look_up(*arguments)


@part_of_compiled
def _kept_at(
    entry: np.int64,
    placement: int,
    shows: np.uint64,
    kept_shows: NDArray[np.uint64],
    older: int,
) -> np.int64:
    """Where a user's list that shows this is kept: among the newest, the older ones, or nowhere.

    Parameters
    ----------
    older : from which entry on the older lists stand
    """
    if kept_shows[entry, placement] == shows:
        return entry
    if kept_shows[entry + older, placement] == shows:
        return entry + older
    return np.int64(_NOWHERE)


@part_of_compiled
def _bucket(score: np.float32, bounds: NDArray[np.float32]) -> int:
    """Which of the stated probabilities that are counted together."""
    bucket = 0
    while bucket < len(bounds) - 1 and score > bounds[bucket]:
        bucket += 1
    return bucket


@compiled(
    NOTHING,
    *[array("i8")] * 2,
    array("u8"),
    *[array("i8")] * 6,
    array("?", 2),
    array("f4"),
    array("i4", 2),
    array("f4", 2),
    array("u2", 2),
    array("u8", 2),
    array("i8"),
    array("?", written=True),
    array("i8", 2, written=True),
    array("i8", 3, written=True),
    array("f8", 3, written=True),
    array("f8", 2, written=True),
    array("i8", 3, written=True),
    array("i8", 3, written=True),
    array("i8", written=True),
    array("i8", written=True),
)
def _look_up(
    entries: NDArray[np.int64],
    arms: NDArray[np.int64],
    shows: NDArray[np.uint64],
    codes: NDArray[np.int64],
    times_ms: NDArray[np.int64],
    rows: NDArray[np.int64],
    kinds: NDArray[np.int64],
    placed: NDArray[np.int64],
    edges: NDArray[np.int64],
    listable: NDArray[np.bool_],
    bounds: NDArray[np.float32],
    kept_rows: NDArray[np.int32],
    kept_scores: NDArray[np.float32],
    kept_arms: NDArray[np.uint16],
    kept_shows: NDArray[np.uint64],
    newest_ms: NDArray[np.int64],
    named: NDArray[np.bool_],
    looked_up: NDArray[np.int64],
    hits: NDArray[np.int64],
    reciprocal_rank: NDArray[np.float64],
    expected: NDArray[np.float64],
    shown: NDArray[np.int64],
    clicked: NDArray[np.int64],
    impressions: NDArray[np.int64],
    clickthroughs: NDArray[np.int64],
) -> None:
    """`Outcomes.look_up`, event by event."""
    older = len(newest_ms)
    for event in range(len(entries)):
        entry, code, here = entries[event], codes[event], placed[event]
        arm = arms[event]
        if arm < 0 and here >= 0 and entry >= 0:
            arm = kept_arms[entry, here]
        if arm >= 0:
            impressions[arm] += code == IMPRESSION
            clickthroughs[arm] += code < _PURCHASE
        if entry >= 0 and arms[event] >= 0 and kept_shows[entry, here] == shows[event]:
            named[entry] = True
        if entry < 0 or code == IMPRESSION:
            continue
        for placement in range(len(edges) - 1):
            which = entry
            if arms[event] >= 0 and placement == here:
                which = _kept_at(entry, placement, shows[event], kept_shows, older)
            elif times_ms[event] < newest_ms[entry]:
                which = _NOWHERE
            first, stop = edges[placement], edges[placement + 1]
            listed = which != _NOWHERE and kept_rows[which, first] != 0
            if not listed or not listable[placement, kinds[event]]:
                continue
            arm = kept_arms[which, placement]
            looked_up[arm, code] += 1
            for at in range(first, stop):
                row, score = kept_rows[which, at], kept_scores[which, at]
                if row == 0:
                    break
                to_learn = 1 if row < 0 else 0
                bucket = _bucket(score, bounds)
                expected[arm, to_learn] += score
                shown[arm, to_learn, bucket] += 1
                if abs(row) == rows[event]:
                    hits[arm, code, to_learn] += 1
                    reciprocal_rank[arm, code, to_learn] += 1.0 / (at - first + 1)
                    clicked[arm, to_learn, bucket] += 1
