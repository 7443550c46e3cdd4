"""How metrics are declared, and which series leave. In: name, help, labels. Out: a metric, its row.

Knows no metric: those stand in `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from stream.bulk import BulkCounter, BulkHistogram

# Each `_total` would have a twin `_created` otherwise.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Described(NamedTuple):
    """A row of the table in METRICS.md."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


DESCRIBED: Final[list[Described]] = []
# What leaves with its partition, or with its placement and variant; labels where they are needed.
_BY_PARTITION: Final[list[tuple[Gauge, tuple[str, ...]]]] = []
_BY_ARM: Final[list[tuple[Counter, tuple[str, ...]]]] = []
_BULK_BY_ARM: Final[list[BulkCounter]] = []
_ARM: Final = ("placement", "variant")

# The gateway's own: it shows none of a worker's, a worker none of these.
GATEWAY: Final = CollectorRegistry()
ProcessCollector(registry=GATEWAY)
PlatformCollector(registry=GATEWAY)


def counter(
    name: str, documentation: str, *labels: str, registry: CollectorRegistry = REGISTRY
) -> Counter:
    """A counter; one by placement and variant leaves with these."""
    DESCRIBED.append(Described(name, "counter", labels, documentation))
    made = Counter(name, documentation, labels, registry=registry)
    if labels[:2] == _ARM:
        _BY_ARM.append((made, labels))
    return made


def bulk_counter(name: str, documentation: str, *labels: str) -> BulkCounter:
    """A counter that takes many at a time; one by placement and variant leaves with these."""
    DESCRIBED.append(Described(name, "counter", labels, documentation))
    made = BulkCounter(name, documentation, labels)
    if labels[:2] == _ARM:
        _BULK_BY_ARM.append(made)
    return made


def gauge(
    name: str, documentation: str, *labels: str, registry: CollectorRegistry = REGISTRY
) -> Gauge:
    """A gauge; one by partition leaves with its partition."""
    DESCRIBED.append(Described(name, "gauge", labels, documentation))
    made = Gauge(name, documentation, labels, registry=registry)
    if "partition" in labels:
        _BY_PARTITION.append((made, labels))
    return made


def histogram(
    name: str,
    documentation: str,
    *labels: str,
    buckets: Sequence[float],
    registry: CollectorRegistry = REGISTRY,
) -> Histogram:
    """A histogram."""
    DESCRIBED.append(Described(name, "histogram", labels, documentation))
    return Histogram(name, documentation, labels, buckets=buckets, registry=registry)


def bulk_histogram(name: str, documentation: str, buckets: Sequence[float]) -> BulkHistogram:
    """A histogram that takes an array at a time."""
    DESCRIBED.append(Described(name, "histogram", (), documentation))
    return BulkHistogram(name, documentation, buckets)


def forget_partitions(partitions: Iterable[int]) -> None:
    """Drop the series of partitions that this worker no longer owns; of lag, for every topic."""
    gone = set(map(str, partitions))
    for metric, labels in _BY_PARTITION:
        _drop(metric, labels, lambda of: of["partition"] in gone)


def keep_arms(arms: Iterable[tuple[str, str]]) -> None:
    """Drop the series of all other placements and variants."""
    kept = frozenset(arms)
    for metric, labels in _BY_ARM:
        _drop(metric, labels, lambda of: (of["placement"], of["variant"]) not in kept)
    for bulk in _BULK_BY_ARM:
        bulk.keep(kept)


def _drop(
    metric: Counter | Gauge, labels: Sequence[str], unwanted: Callable[[Mapping[str, str]], bool]
) -> None:
    """Serve no series any more whose labels are unwanted, until one is asked for again."""
    for family in metric.collect():
        for sample in family.samples:
            if unwanted(sample.labels):
                metric.remove(*(sample.labels[label] for label in labels))
