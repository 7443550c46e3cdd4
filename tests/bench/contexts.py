"""What it costs to count items by context, and what a flood of new contexts adds.

    python -m tests.bench.contexts [--items 10000] [--events 200000]

Clicks of a shop in three contexts, 2 countries, 2 campaigns and the hour, are counted in one
partition, 2,048 a step: with contexts and without, in turns. Then each click brings a country that
nobody saw before, once the room for such counts is full. Last what the first guest of a second
waits for: the lift of every item in three contexts. CPU time of this process; no broker, no model.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from stream.contracts import Events, EventType
from stream.contracts.events import Properties
from stream.core.catalogue import Catalogue
from stream.core.statistics import room
from stream.core.statistics.adding import Columns
from stream.core.statistics.contexts import hour_of, lifts, with_contexts
from stream.core.statistics.counts import Counts
from stream.core.statistics.merged import Merged
from tests.support import runs

NAMES = ("country", "campaign", "hour")
BATCH = 2048
NOW_MS = 1_795_000_000_000


class Shop:
    """Clicks on some items, the first ones more often than others."""

    def __init__(self, items: int) -> None:
        self.catalogue = Catalogue(["", *(f"i{number}" for number in range(items))])
        self._rng = np.random.default_rng(7)
        self._clicks = 0

    def clicks(self, *, new_countries: bool = False) -> tuple[Events, Columns]:
        """A step's."""
        rows = 1 + (len(self.catalogue) - 1) * self._rng.random(BATCH) ** 3
        rows = rows.astype(np.int64)
        draws = self._rng.integers(0, [[2], [2]], (2, BATCH)).tolist()
        properties: list[Properties | None] = [
            {"country": f"new {self._clicks + at}" if new_countries else f"C{country}"}
            | {"campaign": f"spring {campaign}"}
            for at, (country, campaign) in enumerate(zip(*draws, strict=True))
        ]
        types, times_ms = np.full(BATCH, EventType.CLICK, np.uint8), np.full(BATCH, NOW_MS)
        times_ms += self._clicks + np.arange(BATCH)
        self._clicks += BATCH
        ids = self.catalogue.ids
        numbers = np.zeros(BATCH, np.int64)
        events = Events(
            [b"u"] * BATCH,
            [ids[row] for row in rows.tolist()],
            types,
            times_ms,
            numbers.astype(np.uint32),
            numbers,
            numbers.astype(np.float64),
            [None] * BATCH,
            [None] * BATCH,
            properties,
        )
        nothing = np.zeros(BATCH, np.bool_)
        hashes = self.catalogue.hashes[rows]
        return events, Columns(hashes, types, times_ms, nothing, nothing)

    def count(self, counts: Counts, clicks: tuple[Events, Columns]) -> float:
        """Seconds of CPU that a step's counting takes."""
        events, columns = clicks
        began_s = time.process_time()
        counts.fold(with_contexts(columns, events, counts.contexts), self.catalogue.know)
        return time.process_time() - began_s


def us(took_s: Sequence[float]) -> float:
    """Microseconds an event, median of the steps."""
    return float(np.median(took_s)) / BATCH * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=runs.whole(1), default=10_000)
    parser.add_argument("--events", type=runs.whole(1), default=200_000)
    options = parser.parse_args(arguments)
    shop, steps = Shop(options.items), max(2, options.events // BATCH)
    plain, counts = Counts(), Counts(tell_every_ms=0, contexts=NAMES)
    took: dict[str, list[float]] = {"without": [], "with": [], "flood": []}
    for _ in range(steps):
        clicks = shop.clicks()
        took["without"].append(shop.count(plain, clicks))
        took["with"].append(shop.count(counts, clicks))
    usual, there = us(took["with"]), len(counts)
    while len(counts) < room.STRANGERS_UP_TO:
        shop.count(counts, shop.clicks(new_countries=True))
    for _ in range(steps):
        took["flood"].append(shop.count(counts, shop.clicks(new_countries=True)))
    merged = Merged(counts.fading)
    while (told := counts.untold(NOW_MS)) is not None:
        merged.load(0, *told)
    print(f"{steps * BATCH:,} clicks on {options.items:,} items in {', '.join(NAMES)}")
    print(f"  counted without contexts: {us(took['without']):.2f} us an event")
    more = (usual - us(took["without"])) / len(NAMES)
    print(f"  each context adds {more:.2f} us; {there:,} counts")
    flood = us(took["flood"])
    print(f"  with a new country in each: {flood:.2f} us an event; {len(counts):,} counts")
    bias = np.zeros(len(shop.catalogue), np.float32)
    contexts = {"country": "C1", "campaign": "spring 1", "hour": hour_of(NOW_MS)}
    guests = []
    for _ in range(20):
        began_s = time.process_time()
        lifts(merged, shop.catalogue, bias, contexts, NOW_MS)
        guests.append(time.process_time() - began_s)
    print(f"  the first guest of a second: {np.median(guests) * 1000:.1f} ms")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    raise SystemExit(runs.told(main))
