"""How fast hostile input is worked through, beside good input. In: records. Out: a table.

A step of the engine without a broker, best of three: decoding, folding, scoring of what is good,
letters for what is not. A kind is too slow when it falls below a tenth of good input's records a
second and of its bytes a second as well: one record may be three hundred times as large as another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from tests.fuzz.inside import DIM, ITEMS, Place, Side, batch_of
from tests.fuzz.judge import judge
from tests.fuzz.nasties import RAW_VALUES, VALUES
from tests.fuzz.records import NOW_MS, Record, Records
from tests.support.bundles import random_decay_bundle

TENTH = 0.1
ONE_USER = "good, of one user alone"
AT_ONCE = 512
LARGE = 2_000  # bytes
TOPICS = ("clicks", "purchases", "items", "requests", "erasures")


class Speed(NamedTuple):
    """Of one kind of input."""

    topic: str
    kind: str
    records_s: float
    bytes_s: float

    def share_of(self, good: Speed) -> float:
        """The better of both shares."""
        return max(self.records_s / good.records_s, self.bytes_s / good.bytes_s)

    def with_share(self, share: float, good: Speed) -> Speed:
        """The same, scaled to a share of `good` that was measured at the same time as this."""
        scale = share / self.share_of(good)
        return self._replace(records_s=scale * self.records_s, bytes_s=scale * self.bytes_s)


def speeds(
    folder: Path, seed: int, batches: int = 4, topics: Sequence[str] = TOPICS, every: int = 1
) -> list[Speed]:
    """Good input of each topic first, then mixed, all bad, and each kind by itself.

    Parameters
    ----------
    every : 1 for the whole corpus, n for an n-th of it
    """
    bundle = random_decay_bundle(folder / "speed", ITEMS, dim=DIM)
    found = []
    for topic in topics:
        side = Side(bundle)
        kinds = list(_kinds(topic, seed, batches * AT_ONCE, every))
        measured = [_measure(side, topic, kind, records) for kind, records in kinds]
        good, (_, good_records) = measured[0], kinds[0]
        for at, (kind, records) in enumerate(kinds):
            # The machine may have been busy elsewhere just then: those near the limit once more.
            if measured[at].share_of(good) < 2 * TENTH:
                again = _measure(side, topic, kind, records, times=9)
                share = again.share_of(_measure(side, topic, "good", good_records, times=5))
                measured[at] = again.with_share(share, good)
        found += measured
    return found


def too_slow(found: Sequence[Speed]) -> list[Speed]:
    good = {speed.topic: speed for speed in found if speed.kind == "good"}
    hostile = [speed for speed in found if speed.kind != ONE_USER]
    return [speed for speed in hostile if speed.share_of(good[speed.topic]) < TENTH]


def _kinds(topic: str, seed: int, count: int, every: int) -> Iterator[tuple[str, list[Record]]]:
    source = Records(seed)
    yield "good", [source.whole(topic) for _ in range(count)]
    mixed = [source.draw(topic) for _ in range(2 * count)]
    yield "mixed", mixed[:count]
    bad = [one for one in mixed if judge(topic, one.key, one.value, NOW_MS, DIM) == "bad"]
    yield "all bad", bad[:count]
    # Good, but a user's events are folded one after the other.
    yield ONE_USER, [source.of_one(topic) for _ in range(AT_ONCE)]
    for way in source.ways:
        yield way, [source.draw(topic, way) for _ in range(AT_ONCE)]
    # A batch as large as good input's, but for large records: a step has a cost of its own.
    for value in VALUES[::every]:
        few = AT_ONCE if len(value or b"") < LARGE else AT_ONCE // 8
        records = [source.whole(topic)._replace(value=value) for _ in range(few)]
        yield f"value {(value or b'')[:12]!a}", records
    for raw in RAW_VALUES[::every]:
        few = AT_ONCE if len(raw) < LARGE else AT_ONCE // 8
        for name in (None, "note"):
            records = [source.spliced(topic, name, raw) for _ in range(few)]
            yield f"{name or 'last field'}: {raw[:12]!a}", records


def _measure(side: Side, topic: str, kind: str, records: list[Record], times: int = 3) -> Speed:
    cuts = [records[at : at + AT_ONCE] for at in range(0, len(records), AT_ONCE)]
    size = sum(len(record.key or b"") + len(record.value or b"") for record in records)
    best = min(_once(side, topic, cuts) for _ in range(times))
    return Speed(topic, kind, len(records) / best, max(size, 1) / best)


def _once(side: Side, topic: str, cuts: list[list[Record]]) -> float:
    if topic == "items":
        rows = [
            [Place(r.key, r.value, 0, at, r.headers) for at, r in enumerate(cut)] for cut in cuts
        ]
        started = perf_counter()
        for cut in rows:
            side.feed._put(cut)
        took_s = perf_counter() - started
        side.feed._bad.clear()
        side.feed._bad_bytes = 0
        return took_s
    batches = [batch_of(topic, cut, list(range(len(cut)))) for cut in cuts]
    started = perf_counter()
    for batch in batches:
        side.step(batch)
    return perf_counter() - started


def table(found: Sequence[Speed]) -> list[str]:
    """Good, mixed and all bad of each topic, and its slowest kind."""
    lines = ["| topic | input | records/s | MB/s | of good |", "|---|---|---|---|---|"]
    for topic in dict.fromkeys(speed.topic for speed in found):
        mine = [speed for speed in found if speed.topic == topic]
        good = mine[0]
        slowest = min(mine[4:], key=lambda speed: speed.share_of(good))
        for speed in (*mine[:4], slowest):
            kind = f"slowest: `{speed.kind}`" if speed is slowest else speed.kind
            lines.append(
                f"| {topic} | {kind} | {speed.records_s:,.0f} | {speed.bytes_s / 1e6:.1f} | "
                f"{speed.share_of(good):.2f} |"
            )
    return lines
