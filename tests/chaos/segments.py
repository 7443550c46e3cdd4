"""What came of a placement's lists in a partition, event by event: what the changelog must hold.

Plain Python. In which segment and under which multiplier an event counts depends on the lists of
all workers, which no reference knows: so each cell may only grow, beside fading, and all of them
together must have grown by the events that were folded, each once. A row may go when next to
nothing is left of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from stream.settings.weights import UNSET, Weights
from tests.chaos.counts import DIGITS, LEAST
from tests.chaos.decode import SEGMENTS, SEGMENTS_ROW, TYPES, Event
from tests.chaos.verdict import Verdict

PLACEMENT: Final = "home"  # of the run's settings
TEMPERATURE: Final = 0.25
HALF_LIFE_MS: Final = 20_000.0
SHAPE: Final = (3, 4)
COLUMNS: Final = {TYPES["impression"]: 0, TYPES["view"]: 1, TYPES["click"]: 1}
LAYOUT: Final = 1
_TERMS: Final = {
    "arm": PLACEMENT,
    "edges": [0.5, 2.0],
    "multipliers": [0.0, 0.5, 1.0, 2.0],
    "temperature": TEMPERATURE,
    "sure_after": 0.5,
    "fresh": 0.0,
    "drift": 0.0,
    "look_back": 16,
    "session_gap_s": 1800.0,
}


def key(manifest: Mapping[str, Any], others: Weights = UNSET) -> bytes:
    """Under which the placement's counts stand.

    Parameters
    ----------
    manifest : of a bundle whose states are fading sums, as its file has it
    others : in the place of the bundle's weights
    """
    weights = manifest["event_weights"] | others.event_weights()
    half_lives_s = [fading["half_life_s"] for fading in manifest["additive"]["sums"]]
    model = {
        "model": manifest["model"],
        "event_weights": {name: float(weight) for name, weight in weights.items()},
        "half_lives_s": [float(of) for of in others.half_lives_s or half_lives_s],
    }
    told = json.dumps(_TERMS | model, sort_keys=True, separators=(",", ":")).encode()
    return SEGMENTS + hashlib.blake2b(told, digest_size=8).digest()


class Row(NamedTuple):
    """A row as the changelog has it: impressions and clicks of all cells."""

    time_ms: int
    cells: tuple[tuple[float, ...], tuple[float, ...]]

    @classmethod
    def of(cls, value: bytes | None) -> Row | None:
        """None where it is not what it must be."""
        if value is None or len(value) != SEGMENTS_ROW.size:
            return None
        layout, segments, multipliers, time_ms, half_life_ms, *cells = SEGMENTS_ROW.unpack(value)
        if (layout, (segments, multipliers), half_life_ms) != (LAYOUT, SHAPE, HALF_LIFE_MS):
            return None
        return cls(time_ms, (tuple(cells[:12]), tuple(cells[12:])))


def _faded(count: float, age_ms: int) -> float:
    return count * 2.0 ** (-age_ms / HALF_LIFE_MS)


class Segments:
    """The reference of a partition's rows, as its changelog goes on.

    Parameters
    ----------
    manifest : of the bundle
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._manifest = manifest
        self._newest_ms = 0
        self._cells: dict[bytes, _Cells] = {}
        self.weigh(UNSET)

    def weigh(self, weights: Weights) -> None:
        """Count in the row of these weights from here on; the others fade, and go."""
        self._now = self._cells.setdefault(key(self._manifest, weights), _Cells())

    def count(self, event: Event, verdict: Verdict) -> None:
        """An event that was folded."""
        self._newest_ms = max(self._newest_ms, min(event.time_ms, event.sent_ms))
        column = COLUMNS.get(event.kind)
        if column is None or event.placement != PLACEMENT:
            return
        verdict.list_events += 1
        self._now.count(column, min(event.time_ms, event.sent_ms))

    def check(self, there: Mapping[bytes, bytes | None], where: str, verdict: Verdict) -> None:
        """Judge the rows that came with the events counted since the last call."""
        verdict.count("wrong_segments", where, len(there.keys() - self._cells.keys()))
        for of, cells in self._cells.items():
            verdict.count("wrong_segments", where, cells.wrong(of, there, self._newest_ms))


class _Cells:
    """What one row must come to: in all, since nobody knows in which of its cells."""

    def __init__(self) -> None:
        self._touched = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._time_ms = 0
        self._sums = [0.0, 0.0]
        self._before = Row(0, ((0.0,) * 12,) * 2)

    def count(self, column: int, time_ms: int) -> None:
        """An impression or a click."""
        self._touched = True
        newest_ms = max(self._time_ms, time_ms)
        self._sums = [_faded(count, newest_ms - self._time_ms) for count in self._sums]
        self._sums[column] += _faded(1.0, newest_ms - time_ms)
        self._time_ms = newest_ms

    def wrong(self, of: bytes, there: Mapping[bytes, bytes | None], now_ms: int) -> int:
        """How much is wrong with what came of the row by now, if anything did."""
        gone = of in there and there[of] is None
        faults = int((of in there and not gone) != self._touched)
        self._touched = False
        if gone:
            faults += _faded(sum(self._sums), now_ms - self._time_ms) >= LEAST
            self._begin_anew()
        elif of in there:
            row = Row.of(there[of])
            faults += row is None or not self._is(row)
            self._before = row or self._before
        return faults

    def _is(self, row: Row) -> bool:
        age_ms = row.time_ms - self._before.time_ms
        if row.time_ms != self._time_ms or age_ms < 0:
            return False
        for before, after, wanted in zip(self._before.cells, row.cells, self._sums, strict=True):
            least = [_faded(count, age_ms) * (1 - DIGITS) for count in before]
            if any(count < low for count, low in zip(after, least, strict=True)):
                return False
            if not math.isclose(math.fsum(after), wanted, rel_tol=DIGITS):
                return False
        return True
