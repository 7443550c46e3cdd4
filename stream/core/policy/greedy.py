"""One list after the other, place by place: the best of what a pool has left, or a draw from it.

In: pools as columns, and what is asked of a list. Out: lists. Knows nothing of settings, users or
items but rows and codes.

At a place stands, first, what is pinned there. Else one of the pool's entries that may still be
listed, each worth

    value = worth - strength * max(likeness to what is listed, 0)

with the cosine of two item vectors as their likeness (maximal marginal relevance, Carbonell and
Goldstein 1998, in logits). Without a temperature that is the one of the highest value. With one, an
entry is drawn with probability softmax(value / temperature) over those entries: place by place
that is Plackett and Luce's model, and the probability of what was drawn, given the places before
it, is its propensity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.compiled import FLOAT64, NOTHING, array, compiled, part_of_compiled, sum_in_any_order
from stream.core.policy.pools import Caps, Chance, Likeness, Made, Pins, Pool


def go_on(
    made: Made, pool: Pool, pins: Pins, chance: Chance, caps: Caps, likeness: Likeness
) -> None:
    """Fill lists up from their present length on, in place.

    A list stops where its pool has nothing left, to be gone on with from a larger one. Where the
    pool is whole, what is pinned to later places moves up, and then the list ends. Pins count for
    caps and are never capped.
    """
    columns: tuple[Any, ...] = (*pool, *pins, *chance, *caps, *likeness, *made)
    _go_on(*columns)


@sum_in_any_order
def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = np.float32(0.0)
    for at in range(len(a)):
        total += a[at] * b[at]
    return total


@part_of_compiled
def _find_lengths(
    table: NDArray[np.float32], pool_at: NDArray[np.int64], lengths: NDArray[np.float32]
) -> None:
    for entry in range(len(pool_at)):
        vector = table[pool_at[entry]]
        lengths[entry] = np.sqrt(_dot(vector, vector))


@part_of_compiled
def _penalize(
    table: NDArray[np.float32],
    pool_at: NDArray[np.int64],
    lengths: NDArray[np.float32],
    listed_at: np.int64,
    strength: float,
    is_open: NDArray[np.bool_],
    penalty: NDArray[np.float64],
) -> None:
    """Count an entry's likeness to what was just listed, where that is its largest."""
    listed = table[listed_at]
    length = np.sqrt(_dot(listed, listed))
    for entry in range(len(pool_at)):
        if is_open[entry] and length * lengths[entry] > 0:
            cosine = _dot(table[pool_at[entry]], listed) / (length * lengths[entry])
            penalty[entry] = max(penalty[entry], strength * np.float64(cosine))


@part_of_compiled
def _open(
    scores: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    rows: NDArray[np.int64],
    pin_rows: NDArray[np.int64],
    pin_scores: NDArray[np.float32],
    is_open: NDArray[np.bool_],
) -> None:
    """What may be listed at first; what is pinned waits for its place."""
    for entry in range(len(rows)):
        is_open[entry] = allowed[entry] and scores[entry] > 0
    for place in range(len(pin_rows)):
        if pin_scores[place] > 0:
            for entry in range(len(rows)):
                is_open[entry] = is_open[entry] and rows[entry] != pin_rows[place]


@part_of_compiled
def _close(
    row: np.int64,
    listed: NDArray[np.int64],
    rows: NDArray[np.int64],
    codes: NDArray[np.int32],
    limits: NDArray[np.int64],
    is_open: NDArray[np.bool_],
) -> None:
    """Close what may not be listed any more, once `row`, the last of `listed`, is."""
    for entry in range(len(rows)):
        if rows[entry] == row:
            is_open[entry] = False
    for cap in range(len(limits)):
        code = codes[cap, row]
        if code == 0:
            continue
        count = 0
        for other in listed:
            count += codes[cap, other] == code
        if count >= limits[cap]:
            for entry in range(len(rows)):
                if codes[cap, rows[entry]] == code:
                    is_open[entry] = False


@part_of_compiled
def _draw(
    worth: NDArray[np.float64],
    penalty: NDArray[np.float64],
    is_open: NDArray[np.bool_],
    temperature: float,
    uniform: float,
    weights: NDArray[np.float64],
    explored: NDArray[np.bool_],
    propensities: NDArray[np.float32],
    place: int,
) -> np.int64:
    """The entry for a place, -1 when none is open; notes what drawing it says of the place."""
    best = np.int64(-1)
    top = -np.inf
    for entry in range(len(worth)):
        if is_open[entry] and worth[entry] - penalty[entry] > top:
            best, top = np.int64(entry), worth[entry] - penalty[entry]
    if best < 0 or not temperature > 0:
        return best
    total = 0.0
    for entry in range(len(worth)):
        weights[entry] = 0.0
        if is_open[entry]:
            weights[entry] = np.exp((worth[entry] - penalty[entry] - top) / temperature)
        total += weights[entry]
    chosen, below = best, 0.0
    for entry in range(len(worth)):
        below += weights[entry]
        if below > uniform * total:
            chosen = np.int64(entry)
            break
    explored[place] = chosen != best
    propensities[place] = weights[chosen] / total
    return chosen


@part_of_compiled
def _pin(
    pin_rows: NDArray[np.int64],
    pin_scores: NDArray[np.float32],
    listed: NDArray[np.int64],
    first: int,
    stop: int,
) -> np.int64:
    """The first of these places with a pin that is not listed yet, -1 when there is none."""
    for place in range(first, stop):
        known = pin_scores[place] <= 0
        for row in listed:
            known = known or row == pin_rows[place]
        if not known:
            return np.int64(place)
    return np.int64(-1)


@compiled(
    NOTHING,
    array("i8", 2),
    array("f4", 2),
    array("f8", 2),
    array("?", 2),
    array("?"),
    array("i8", 2),
    array("f4", 2),
    array("f4"),
    array("f8", 2),
    array("i4", 2),
    array("i8"),
    FLOAT64,
    array("f4", 2, contiguous=True),
    array("i8", 2),
    array("i8", 2),
    array("i8", 2),
    array("i8", 2, written=True),
    array("f4", 2, written=True),
    array("?", 2, written=True),
    array("?", 2, written=True),
    array("f4", 2, written=True),
    array("i8", written=True),
)
def _go_on(
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    worth: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    pin_rows: NDArray[np.int64],
    pin_scores: NDArray[np.float32],
    temperatures: NDArray[np.float32],
    uniforms: NDArray[np.float64],
    codes: NDArray[np.int32],
    limits: NDArray[np.int64],
    strength: float,
    table: NDArray[np.float32],
    pool_at: NDArray[np.int64],
    pinned_at: NDArray[np.int64],
    listed_at: NDArray[np.int64],
    made_rows: NDArray[np.int64],
    made_scores: NDArray[np.float32],
    made_pinned: NDArray[np.bool_],
    explored: NDArray[np.bool_],
    propensities: NDArray[np.float32],
    length: NDArray[np.int64],
) -> None:
    """`go_on`, with the columns of its arguments."""
    users, size = rows.shape
    k = made_rows.shape[1]
    is_open = np.empty(size, np.bool_)
    penalty = np.empty(size, np.float64)
    weights = np.empty(size, np.float64)
    lengths = np.empty(size, np.float32)
    vector_at = np.empty(k, np.int64)
    for user in range(users):
        _open(scores[user], allowed[user], rows[user], pin_rows[user], pin_scores[user], is_open)
        penalty[:] = 0.0
        vector_at[:] = listed_at[user]
        if strength > 0:
            _find_lengths(table, pool_at[user], lengths)
        for place in range(k):
            if place >= length[user]:
                pins = (pin_rows[user], pin_scores[user], made_rows[user, :place])
                chosen, pin = np.int64(-1), _pin(*pins, place, place + 1)
                if pin < 0:
                    chosen = _draw(
                        worth[user],
                        penalty,
                        is_open,
                        np.float64(temperatures[user]),
                        uniforms[user, place],
                        weights,
                        explored[user],
                        propensities[user],
                        place,
                    )
                if pin < 0 and chosen < 0 and whole[user]:
                    pin = _pin(*pins, place + 1, k)
                if pin >= 0:
                    made_rows[user, place] = pin_rows[user, pin]
                    made_scores[user, place] = pin_scores[user, pin]
                    made_pinned[user, place] = True
                    vector_at[place] = pinned_at[user, pin]
                elif chosen >= 0:
                    made_rows[user, place] = rows[user, chosen]
                    made_scores[user, place] = scores[user, chosen]
                    vector_at[place] = pool_at[user, chosen]
                else:
                    break
                length[user] = place + 1
            listed = made_rows[user, : place + 1]
            _close(listed[place], listed, rows[user], codes, limits, is_open)
            if strength > 0:
                at = vector_at[place]
                _penalize(table, pool_at[user], lengths, at, strength, is_open, penalty)
