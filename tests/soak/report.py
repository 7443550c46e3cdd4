"""A soak as a table for people and build/soak.json for programs. In: samples. Out: text, a verdict.

What counts as growth, both after the warm-up and with 95% confidence:

- memory: more than a quarter of a byte an event. Python's smallest object takes 16 bytes, so this
  is one object kept of every 64 events: what holds on to anything of each event, or of each list,
  is far above it. The users are a fixed number; the warm-up lasts until all of them are known and
  their rings are full, so that nothing is to be subtracted (the table shows users and states).
- latency: the median more than a tenth of itself an hour.
- lag: more than a thousandth of the events. A worker that cannot keep up falls behind by far more.

Where the number of users changes after the warm-up all the same (new ones came, or a second worker
holds some of them for a while), memory tells nothing, whatever its slope. Latency and lag still do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.soak.samples import Sample
from tests.soak.trend import Slope, Verdict, fit

BYTES_PER_EVENT = 0.25
LATENCY_SHARE = 0.1
LAG_SHARE = 0.001
EXIT_UNDECIDED = 3
_ROWS = 24
_MIB = 1 << 20

_COLUMNS: tuple[tuple[str, Callable[[Sample], str]], ...] = (
    ("minute", lambda s: f"{s.at_s / 60:.1f}"),
    ("events/s", lambda s: f"{s.events_s:,.0f}"),
    ("lists/s", lambda s: f"{s.lists_s:,.0f}"),
    ("p50 ms", lambda s: f"{s.p50_ms:.1f}"),
    ("p90", lambda s: f"{s.p90_ms:.1f}"),
    ("p99", lambda s: f"{s.p99_ms:.1f}"),
    ("max", lambda s: f"{s.max_ms:.0f}"),
    ("late p99", lambda s: f"{s.late_p99_ms:.1f}"),
    ("lag", lambda s: f"{s.lag:,}"),
    ("RSS MiB", lambda s: f"{s.rss_mib:.1f}"),
    ("broker", lambda s: f"{s.broker_rss_mib:.0f}"),
    ("users", lambda s: f"{s.users:,}"),
    ("states", lambda s: f"{s.state_mib:.1f}"),
    ("items", lambda s: f"{s.items:,}"),
    ("letters", lambda s: f"{s.dead_letters:,}"),
    ("rebal.", lambda s: f"{s.rebalances}"),
    ("thr", lambda s: f"{s.threads}"),
    ("fds", lambda s: f"{s.descriptors}"),
    ("gc2", lambda s: f"{s.cyclic_collections}"),
    ("free GiB", lambda s: f"{s.disk_free_gib:.0f}"),
)


class Trend(msgspec.Struct):
    """A figure's slope, its interval, and what it may be, all per hour."""

    what: str
    unit: str
    slope: float
    low: float
    high: float
    limit: float
    verdict: Verdict


class Soak(msgspec.Struct):
    """All that a soak found."""

    machine: str
    peak_events_s: float
    share: float
    rate_events_s: float
    warm_up_s: float
    interrupted: bool
    samples: list[Sample]
    trends: list[Trend]
    verdict: str


def head() -> str:
    return "  ".join(name.rjust(_width(name)) for name, _ in _COLUMNS)


def line(sample: Sample) -> str:
    return "  ".join(cell(sample).rjust(_width(name)) for name, cell in _COLUMNS)


def _width(name: str) -> int:
    return max(len(name), 7)


def table(samples: Sequence[Sample]) -> str:
    """At most two dozen lines, of intervals evenly spaced; the last one always."""
    step = -(-len(samples) // _ROWS) or 1
    shown = samples[::-1][::step][::-1]
    return "\n".join([head(), *map(line, shown)])


def judge(samples: Sequence[Sample], warm_up_s: float) -> tuple[list[Trend], str]:
    """The trends after the warm-up, and the verdict over all of them."""
    warm = [sample for sample in samples if sample.at_s > warm_up_s]
    if fit([s.at_s for s in warm], [s.rss_mib for s in warm]) is None:
        return [], "undecided: fewer than five samples after the warm-up"
    per_hour = 3600 * statistics.fmean(sample.events_s for sample in warm)
    p50_ms = statistics.median(sample.p50_ms for sample in warm)
    bytes_limit = per_hour * BYTES_PER_EVENT / _MIB
    trends = [
        _trend(warm, "memory", "MiB/h", lambda s: s.rss_mib, bytes_limit),
        _trend(warm, "p50", "ms/h", lambda s: s.p50_ms, p50_ms * LATENCY_SHARE),
        _trend(warm, "lag", "records/h", lambda s: s.lag, per_hour * LAG_SHARE),
    ]
    users = {sample.users for sample in warm}
    excused = {"memory"} if len(users) > 1 else set()
    if growing := [t.what for t in trends if t.verdict == "grows" and t.what not in excused]:
        return trends, f"grows: {', '.join(growing)}"
    unsure = [t.what for t in trends if t.verdict == "undecided" and t.what not in excused]
    why = []
    if excused:
        why.append(f"memory, since the users were {min(users)} to {max(users)} after the warm-up")
    if unsure:
        why.append(f"{', '.join(unsure)}; a longer run tells")
    if why:
        return trends, f"undecided: {'; '.join(why)}"
    return trends, "steady: neither memory nor latency nor lag grows"


def exit_code(verdict: str) -> int:
    """0: steady; 1: something grows; 3: it may, and this run cannot tell."""
    word = verdict.partition(":")[0]
    return {"steady": 0, "grows": 1, "undecided": EXIT_UNDECIDED}[word]


def _trend(
    samples: Sequence[Sample],
    what: str,
    unit: str,
    value: Callable[[Sample], float],
    limit: float,
) -> Trend:
    slope = fit([s.at_s for s in samples], [value(s) for s in samples])
    assert isinstance(slope, Slope), "the caller looked whether there are enough"
    return Trend(what, unit, slope.per_hour, slope.low, slope.high, limit, slope.verdict(limit))


def words(trend: Trend) -> str:
    return (
        f"{trend.what:<7} {trend.slope:+,.2f} {trend.unit} (95%: {trend.low:+,.2f} to "
        f"{trend.high:+,.2f}; growth is more than {trend.limit:,.2f}): {trend.verdict}"
    )


def write_json(path: Path, soak: Soak) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(soak), indent=1))
