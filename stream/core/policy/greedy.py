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

Listing an item leaves most of the others as like the list as they were, and so what they weigh in
the draw: weights are found anew of those alone whose values fell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.compiled import FLOAT64, NOTHING, array, compiled, part_of_compiled, sum_in_any_order
from stream.core.policy.pools import Caps, Chance, Likeness, Made, Pins, Pool

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]

_FALLEN = 30.0  # temperatures by which the best fell, when all weights are found anew


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
def _direct(table: Singles, at: Rows, directions: Singles) -> None:
    """Some of the vectors with a length of 1, or as they are where they have none."""
    for entry in range(len(at)):
        row, square = at[entry], np.float32(0.0)
        for number in range(table.shape[1]):
            square += table[row, number] * table[row, number]
        scale = np.float32(1.0) / np.sqrt(square) if square > 0 else np.float32(1.0)
        for number in range(table.shape[1]):
            directions[entry, number] = table[row, number] * scale


@sum_in_any_order
def _compare(
    directions: Singles,
    listed: Singles,
    strength: float,
    left: Floats,
    likeness: Singles,
    cosines: Singles,
    changed: Rows,
    value: Floats,
) -> int:
    """Count the entries' likeness to what was just listed, where that is their largest.

    Answers of how many it is, and which ones they are into `changed`.
    """
    for entry in range(len(cosines)):
        cosine = np.float32(0.0)
        for number in range(listed.shape[1]):
            cosine += directions[entry, number] * listed[0, number]
        cosines[entry] = cosine
    # Apart, and without a branch: nobody could foretell it.
    count = 0
    for entry in range(len(cosines)):
        changed[count] = entry
        count += cosines[entry] > likeness[entry]
    for entry in range(len(cosines)):
        likeness[entry] = max(likeness[entry], cosines[entry])
        value[entry] = left[entry] - strength * np.float64(likeness[entry])
    return count


@part_of_compiled
def _weigh(
    entries: Rows, value: Floats, measure: float, temperature: float, weights: Floats
) -> None:
    """Some of the softmax's weights, but for a factor that `measure` makes common to all."""
    for entry in entries if temperature > 0 else entries[:0]:
        weights[entry] = np.exp((value[entry] - measure) / temperature)


@part_of_compiled
def _open(
    worth: Floats,
    allowed: Flags,
    pin_rows: Rows,
    pin_scores: Singles,
    rows: Rows,
    scores: Singles,
    left: Floats,
    value: Floats,
    likeness: Singles,
) -> None:
    """What may be listed at first, like nothing yet; what is pinned waits for its place."""
    for entry in range(len(rows)):
        left[entry] = worth[entry] if allowed[entry] and scores[entry] > 0 else -np.inf
    for place in range(len(pin_rows)):
        if pin_scores[place] > 0:
            for entry in range(len(rows)):
                if rows[entry] == pin_rows[place]:
                    left[entry] = -np.inf
    value[:], likeness[:] = left, 0


@part_of_compiled
def _close(
    row: np.int64,
    listed: Rows,
    rows: Rows,
    codes: NDArray[np.int32],
    limits: Rows,
    left: Floats,
    value: Floats,
    weights: Floats,
) -> None:
    """Close what may not be listed any more, once `row`, the last of `listed`, is."""
    for entry in range(len(rows)):
        if rows[entry] == row:
            left[entry], value[entry], weights[entry] = -np.inf, -np.inf, 0.0
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
                    left[entry], value[entry], weights[entry] = -np.inf, -np.inf, 0.0


@part_of_compiled
def _best(value: Floats) -> np.int64:
    """The first entry of the highest value, -1 when none is open."""
    best, top = np.int64(-1), -np.inf
    for entry in range(len(value)):
        if value[entry] > top:
            best, top = np.int64(entry), value[entry]
    return best


@sum_in_any_order
def _draw(
    best: np.int64,
    uniform: float,
    weights: Floats,
    explored: Flags,
    propensities: Singles,
    place: int,
) -> np.int64:
    """The entry for a place; notes what drawing it says of the place."""
    total, chosen, below = 0.0, best, 0.0
    for entry in range(len(weights)):
        total += weights[entry]
    for entry in range(len(weights)):
        below += weights[entry]
        if below > uniform * total:
            chosen = np.int64(entry)
            break
    explored[place] = chosen != best
    propensities[place] = weights[chosen] / total
    return chosen


@part_of_compiled
def _pin(pin_rows: Rows, pin_scores: Singles, listed: Rows, first: int, stop: int) -> np.int64:
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
    rows: Rows,
    scores: Singles,
    worth: Floats,
    allowed: Flags,
    whole: Flags,
    pin_rows: Rows,
    pin_scores: Singles,
    temperatures: Singles,
    uniforms: Floats,
    codes: NDArray[np.int32],
    limits: Rows,
    strength: float,
    table: Singles,
    pool_at: Rows,
    pinned_at: Rows,
    listed_at: Rows,
    made_rows: Rows,
    made_scores: Singles,
    made_pinned: Flags,
    explored: Flags,
    propensities: Singles,
    length: Rows,
) -> None:
    """`go_on`, with the columns of its arguments."""
    users, size = rows.shape
    k = made_rows.shape[1]
    # `left`: worth of what is open; `likeness`: to what is listed, at least 0
    left, value, weights = np.empty(size), np.empty(size), np.empty(size)
    likeness, cosines = np.empty(size, np.float32), np.empty(size, np.float32)
    entries, changed = np.arange(size), np.empty(size, np.int64)
    directions = np.empty((size if strength > 0 else 0, table.shape[1]), np.float32)
    listed_direction = np.empty((1, table.shape[1]), np.float32)
    vector_at = np.empty(k, np.int64)
    for user in range(users):
        pool = (worth[user], allowed[user], pin_rows[user], pin_scores[user], rows[user])
        _open(*pool, scores[user], left, value, likeness)
        measure, temperature = np.inf, np.float64(temperatures[user])
        vector_at[:] = listed_at[user]
        if strength > 0:
            _direct(table, pool_at[user], directions)
        for place in range(k):
            if place >= length[user]:
                pins = (pin_rows[user], pin_scores[user], made_rows[user, :place])
                chosen, pin = np.int64(-1), _pin(*pins, place, place + 1)
                if pin < 0:
                    chosen = _best(value)
                if chosen >= 0 and temperature > 0:
                    if measure - value[chosen] > _FALLEN * temperature:
                        measure = value[chosen]
                        _weigh(entries, value, measure, temperature, weights)
                    into = (explored[user], propensities[user])
                    chosen = _draw(chosen, uniforms[user, place], weights, *into, place)
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
            _close(listed[place], listed, rows[user], codes, limits, left, value, weights)
            if strength > 0 and place + 1 < k:
                _direct(table, vector_at[place : place + 1], listed_direction)
                so_far = (left, likeness, cosines, changed, value)
                count = _compare(directions, listed_direction, strength, *so_far)
                _weigh(changed[:count], value, measure, temperature, weights)
