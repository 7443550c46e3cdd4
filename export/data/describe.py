"""What a log holds. In: a log and what cleaning dropped. Out: figures for people and programs.

Must not know: models.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.data.cleaning import DAY_MS, Report
from export.data.columns import AnyColumn
from export.data.dataset import COLUMNS, Log
from stream.contracts import EventType


@dataclass(frozen=True, slots=True)
class Spread:
    """How events are shared out over users, items or sessions.

    Attributes
    ----------
    number : of those with events
    median, most : events of one
    """

    number: int
    median: float
    most: int

    @classmethod
    def of(cls, codes: AnyColumn) -> Spread:
        """Of a column of codes."""
        counts = np.bincount(codes)
        counts = counts[counts > 0]
        return cls(len(counts), float(np.median(counts)), int(counts.max()))

    def __str__(self) -> str:
        return f"{self.number:,}, of {self.median:,g} events in the median, {self.most:,} at most"


@dataclass(frozen=True, slots=True)
class Description:
    """Figures of a log.

    Attributes
    ----------
    begins, ends : ISO 8601 times of the oldest and the newest event
    days : between them
    types : event type -> events
    repeats : share of the events whose user had an event with the item before
    top_tenth : share of the events that the most frequent tenth of the items have
    titles : share of the items with a title
    attributes : name -> share of the items that have it
    event_bytes : that an event takes of memory, in columns
    dropped : reason -> events or lines left out
    """

    events: int
    begins: str
    ends: str
    days: float
    types: dict[str, int]
    users: Spread
    items: Spread
    sessions: Spread
    repeats: float
    top_tenth: float
    titles: float
    attributes: dict[str, float]
    event_bytes: int
    dropped: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        types = ", ".join(f"{n:,} {name}" for name, n in self.types.items())
        known = {"title": self.titles, **self.attributes}
        megabytes = self.event_bytes * self.events / 1e6
        about = ", ".join(f"{name} {share:.0%}" for name, share in known.items() if share)
        return [
            f"events    {self.events:,}: {types}",
            f"time      {self.begins} to {self.ends}, {self.days:,.1f} days",
            f"users     {self.users}",
            f"items     {self.items}; a tenth of them has {self.top_tenth:.0%}",
            f"sessions  {self.sessions}",
            f"repeats   {self.repeats:.1%} of the events, of items that the user had before",
            f"memory    {self.event_bytes} bytes an event, {megabytes:,.1f} MB",
            f"known     {about or 'nothing of the items; --items names a catalogue'}",
        ]


def describe(log: Log, report: Report) -> Description:
    """Figures of a log that `report` is the cleaning of; it holds an event."""
    counts = np.bincount(log.event_type)
    types = {EventType(code).name.lower(): int(n) for code, n in enumerate(counts) if n}
    pairs = log.user.astype(np.int64) * len(log.items) + log.item
    present = [log.items[code] for code in np.unique(log.item).tolist()]
    by_item = np.sort(np.bincount(log.item, minlength=1))[::-1][: len(present)]
    names = sorted({name for item in present for name in log.attributes.get(item, ())})
    return Description(
        events=len(log),
        begins=log.begins,
        ends=log.ends,
        days=round(int(log.time_ms[-1] - log.time_ms[0]) / DAY_MS, 3),
        types=dict(sorted(types.items(), key=lambda pair: -pair[1])),
        users=Spread.of(log.user),
        items=Spread.of(log.item),
        sessions=Spread.of(log.session),
        repeats=round(1 - len(np.unique(pairs)) / len(log), 4),
        top_tenth=round(float(by_item[: -(-len(present) // 10)].sum() / len(log)), 4),
        titles=_share(sum(item in log.titles for item in present), len(present)),
        attributes={
            name: _share(
                sum(name in log.attributes.get(item, ()) for item in present), len(present)
            )
            for name in names
        },
        event_bytes=sum(getattr(log, name).dtype.itemsize for name in COLUMNS),
        dropped=dict(report.in_order()),
    )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4)
