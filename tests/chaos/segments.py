"""What came of a placement's lists in a partition, event by event: what the changelog must hold.

Plain Python. An event that names its list counts in the cell that the name tells, and nowhere
where no arm of these settings gave it. In which segment and under which multiplier any other counts
depends on the lists of all workers, which no reference knows: so each cell must have grown, beside
fading, by at least what names tell, and all of them together by the events that were folded, each
once. A row may go when next to nothing is left of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from stream.settings.weights import UNSET, Weights
from tests.chaos.counts import DIGITS, LEAST
from tests.chaos.decode import SEGMENTS, SEGMENTS_ROW, TYPES, Event, list_maker, list_name
from tests.chaos.verdict import Verdict

PLACEMENT: Final = "home"  # of the run's settings
TEMPERATURE: Final = 0.25
HALF_LIFE_MS: Final = 20_000.0
SHAPE: Final = (3, 4)
CELLS: Final = SHAPE[0] * SHAPE[1]
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


def told_cell(event: Event, counts_key: bytes) -> int | None:
    """Where an event counts by its list's name; None: nowhere, or it names none.

    Parameters
    ----------
    counts_key : under which the placement's counts stand
    """
    told = list_name(event.list_name)
    if told is None or told.maker != list_maker(PLACEMENT, counts_key):
        return None
    return told.cell if told.cell < CELLS else None


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
        return cls(time_ms, (tuple(cells[:CELLS]), tuple(cells[CELLS:])))


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
        self._key = key(self._manifest, weights)
        self._now = self._cells.setdefault(self._key, _Cells())

    def count(self, event: Event, verdict: Verdict) -> None:
        """An event that was folded."""
        self._newest_ms = max(self._newest_ms, min(event.time_ms, event.sent_ms))
        column = COLUMNS.get(event.kind)
        if column is None:
            return
        cell = told_cell(event, self._key)
        if event.list_name:
            verdict.named_events += cell is not None
            verdict.unknown_names += cell is None
        if cell is None and (event.list_name or event.placement != PLACEMENT):
            return
        verdict.list_events += 1
        self._now.count(column, min(event.time_ms, event.sent_ms), cell)

    def check(self, there: Mapping[bytes, bytes | None], where: str, verdict: Verdict) -> None:
        """Judge the rows that came with the events counted since the last call."""
        verdict.count("wrong_segments", where, len(there.keys() - self._cells.keys()))
        for of, cells in self._cells.items():
            verdict.count("wrong_segments", where, cells.wrong(of, there, self._newest_ms))


class _Cells:
    """What one row must come to: in all, and at least in the cells that names tell."""

    def __init__(self) -> None:
        self._touched = False
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._time_ms = 0
        self._sums = [0.0, 0.0]
        self._before = Row(0, ((0.0,) * CELLS,) * 2)
        self._told: list[tuple[int, int, int]] = []  # column, cell, time_ms; since that row

    def count(self, column: int, time_ms: int, cell: int | None) -> None:
        """An impression or a click; `cell` is where a name says that it counts."""
        self._touched = True
        newest_ms = max(self._time_ms, time_ms)
        self._sums = [_faded(count, newest_ms - self._time_ms) for count in self._sums]
        self._sums[column] += _faded(1.0, newest_ms - time_ms)
        self._time_ms = newest_ms
        if cell is not None:
            self._told.append((column, cell, time_ms))

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
            self._before, self._told = row or self._before, []
        return faults

    def _is(self, row: Row) -> bool:
        age_ms = row.time_ms - self._before.time_ms
        if row.time_ms != self._time_ms or age_ms < 0:
            return False
        least = [[_faded(count, age_ms) for count in before] for before in self._before.cells]
        for column, cell, time_ms in self._told:
            least[column][cell] += _faded(1.0, row.time_ms - time_ms)
        for low, after, wanted in zip(least, row.cells, self._sums, strict=True):
            if any(count < few * (1 - DIGITS) for count, few in zip(after, low, strict=True)):
                return False
            if not math.isclose(math.fsum(after), wanted, rel_tol=DIGITS):
                return False
        return True
