"""When a topic is compacted, as its configuration: within a second, or not while a test runs.

A segment is compacted once it is closed, and closed when something follows it: with SOON, append a
record from time to time.
"""

from __future__ import annotations

_DAY_MS = str(24 * 3_600_000)

SOON = {
    "segment.ms": "500",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "500",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "500",
    "file.delete.delay.ms": "100",
}
NOT_NOW = {
    "segment.ms": _DAY_MS,
    "min.compaction.lag.ms": _DAY_MS,
    "max.compaction.lag.ms": _DAY_MS,
}
