"""One line of a soak: what the load saw, what /proc and the worker's metrics say at that moment."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from tests.soak.shop import Worker

_MIB = 1 << 20
_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class Seen(msgspec.Struct):
    """What the load's process saw in an interval; times in milliseconds, send to receipt."""

    seconds: float
    sent: int
    answered: int
    lists: int
    waiting: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float


class Sample(msgspec.Struct):
    """One interval. `lag` counts records; memory is resident, in MiB.

    `cyclic_collections` are those of Python's oldest generation since the start.
    """

    at_s: float
    events_s: float
    lists_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float
    lag: int
    rss_mib: float
    broker_rss_mib: float
    users: int
    state_mib: float
    items: int
    dead_letters: int
    rebalances: int
    threads: int
    descriptors: int
    cyclic_collections: int
    disk_free_gib: float


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    return _status(pid, "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The most resident memory that a process ever had."""
    return _status(pid, "VmHWM") / 1024


def threads(pid: int) -> int:
    return _status(pid, "Threads")


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def sums(page: str) -> dict[str, float]:
    """Each metric of a /metrics page, summed over its labels."""
    found: dict[str, float] = {}
    for name, value in _SAMPLE.findall(page):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def oldest_collections(page: str) -> int:
    found = re.search(r'^python_gc_collections_total\{generation="2"\} (\S+)$', page, re.MULTILINE)
    return int(float(found[1])) if found else 0


def look(at_s: float, seen: Seen, worker: Worker, broker_pid: int | None, free: int) -> Sample:
    """Sample the processes; `free` is what is left on the disk, in bytes."""
    page = worker.page()
    told = sums(page)
    return Sample(
        at_s=at_s,
        events_s=seen.sent / seen.seconds,
        lists_s=seen.lists / seen.seconds,
        p50_ms=seen.p50_ms,
        p90_ms=seen.p90_ms,
        p99_ms=seen.p99_ms,
        max_ms=seen.max_ms,
        late_p99_ms=seen.late_p99_ms,
        lag=int(told.get("freshet_consumer_lag", 0)),
        rss_mib=resident_mib(worker.pid),
        broker_rss_mib=resident_mib(broker_pid) if broker_pid else 0.0,
        users=int(told.get("freshet_state_users", 0)),
        state_mib=told.get("freshet_state_bytes", 0.0) / _MIB,
        items=int(told.get("freshet_catalogue_items", 0)),
        dead_letters=int(told.get("freshet_dead_letters_total", 0)),
        rebalances=int(told.get("freshet_rebalances_total", 0)),
        threads=threads(worker.pid),
        descriptors=descriptors(worker.pid),
        cyclic_collections=oldest_collections(page),
        disk_free_gib=free / (1 << 30),
    )
