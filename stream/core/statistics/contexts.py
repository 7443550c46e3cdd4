"""In which contexts items are wanted: an hour of the day, a placement, a country, a campaign.

In: events, or a request. Out: rows to be counted beside the items' own, or by how much a context
lifts items. Knows nothing of users.

A context's count of an item is a row like that of an item, under a hash of both: folded, written,
told and faded with the others, so it is as exact. Rows of contexts have a room (`room.py`), and are
made only of items that are known; impressions make none.

A guest has nothing to go by but what others want. That is, beside the model's bias, the lift of an
item's interactions over those to be expected by biases, and in each context over those to be
expected of item and context alone, as `policy/appeal.py` has it for click rates:

    log((count + s) / (expected + s))    expected = all interactions * exp(bias) / sum exp(bias)
                                         expected = count of the item * context's share of all

with a prior of s interactions, and all these logarithms added up (naive Bayes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.contracts import Events, EventType
from stream.core.catalogue import Catalogue
from stream.core.mixing import GOLDEN, hash_of, murmur_mix
from stream.core.statistics.adding import Columns
from stream.core.statistics.fading import COLUMN_OF_TYPE, NOT_COUNTED
from stream.core.statistics.merged import Merged

HOUR: Final = "hour"  # of the day, UTC
PLACEMENT: Final = "placement"
PRIOR: Final = 8.0
_HOUR_MS: Final = 3_600_000
_LONGEST: Final = 64  # characters of a property's value; a longer one is no context


def value_of(property_value: Any) -> str | None:
    """A property as a context; None for what can be none."""
    if isinstance(property_value, str):
        return property_value if 0 < len(property_value) <= _LONGEST else None
    if isinstance(property_value, bool | int):
        return str(property_value).lower()
    return None


def hour_of(time_ms: int) -> str:
    """The hour of the day, UTC."""
    return str(time_ms // _HOUR_MS % 24)


@lru_cache(maxsize=4096)
def context_hash(name: str, value: str) -> int:
    """64 bits that stand for a context."""
    return hash_of(f"{name}\0{value}".encode())


def mixed(items: NDArray[np.uint64], contexts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes of items in contexts, never 0: uint64, of one shape."""
    return np.maximum(murmur_mix(items ^ (contexts * GOLDEN)), np.uint64(1))


def with_contexts(columns: Columns, events: Events, names: Sequence[str]) -> Columns:
    """Events to be counted, and those that count in a context once more, behind them.

    Parameters
    ----------
    events : the same
    names : of contexts: `HOUR`, `PLACEMENT`, or a property's
    """
    counts = ~columns.dropped & ~columns.unknown & (events.types != EventType.IMPRESSION)
    counts &= COLUMN_OF_TYPE[events.types] != NOT_COUNTED
    some = np.flatnonzero(counts).tolist()
    at: list[int] = []
    hashes: list[int] = []
    for name in names:
        for number in some:
            if name == HOUR:
                value: str | None = hour_of(int(events.times_ms[number]))
            elif name == PLACEMENT:
                value = value_of(events.placements[number])
            else:
                value = value_of((events.properties[number] or {}).get(name))
            if value is not None:
                at.append(number)
                hashes.append(context_hash(name, value))
    if not at:
        return columns
    more: list[Any] = [column[at] for column in columns]
    more[0] = mixed(more[0], np.array(hashes, np.uint64))
    more[-1] = np.ones(len(at), np.bool_)  # strangers: anybody can invent them
    whole: list[Any] = [*columns]
    both = [np.concatenate(pair) for pair in zip(whole, more, strict=True)]
    return Columns(*both)


def contexts_of(
    names: Sequence[str], properties: Mapping[str, Any], placement: str, time_ms: int
) -> dict[str, str]:
    """The contexts of a request, by name; what it does not tell is none."""
    known: dict[str, str | None] = {HOUR: hour_of(time_ms), PLACEMENT: value_of(placement)}
    found = {name: known.get(name, value_of(properties.get(name))) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def lifts(
    merged: Merged,
    catalogue: Catalogue,
    bias: NDArray[np.float32],
    contexts: Mapping[str, str],
    now_ms: int,
) -> NDArray[np.float32]:
    """What counts add to the logits of items for a guest: float32, shape (len(catalogue),).

    Parameters
    ----------
    bias : float32, shape (at least len(catalogue),); the model's
    """
    items = catalogue.hashes[: len(catalogue)]
    usual = merged.interactions(items, now_ms)
    usual[0] = 0  # no item
    odds = np.exp(np.clip(bias[: len(items)], -30.0, 30.0), dtype=np.float64)
    odds[0] = 0
    foretold = usual.sum() * odds / max(odds.sum(), 1e-9)
    added = np.log((usual + PRIOR) / (foretold + PRIOR))
    for name, value in contexts.items():
        context = np.full(len(items), context_hash(name, value), np.uint64)
        there = merged.interactions(mixed(items, context), now_ms)
        there[0] = 0
        expected = usual * (there.sum() / max(usual.sum(), 1e-9))
        added += np.log((there + PRIOR) / (expected + PRIOR))
    return np.asarray(added, np.float32)
