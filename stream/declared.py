"""How metrics are declared. In: name, help, labels, registry. Out: a metric, and its row.

Knows no metric: those stand in `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """A row of the README's table of metrics."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


DESCRIBED: Final[list[Described]] = []
PARTITIONED: Final[list[tuple[Gauge, tuple[str, ...]]]] = []  # with their labels

BY_ARM: Final[list[BulkCounter]] = []  # by placement and variant first

# The gateway's own: it shows none of a worker's, a worker none of these.
GATEWAY: Final = CollectorRegistry()
ProcessCollector(registry=GATEWAY)
PlatformCollector(registry=GATEWAY)


def counter(
    name: str, documentation: str, *labels: str, registry: CollectorRegistry = REGISTRY
) -> Counter:
    """A counter."""
    DESCRIBED.append(Described(name, "counter", labels, documentation))
    return Counter(name, documentation, labels, registry=registry)


def bulk_counter(name: str, documentation: str, *labels: str) -> BulkCounter:
    """A counter that takes many at a time; one by placement and variant leaves with these."""
    DESCRIBED.append(Described(name, "counter", labels, documentation))
    made = BulkCounter(name, documentation, labels)
    if labels[:2] == ("placement", "variant"):
        BY_ARM.append(made)
    return made


def gauge(
    name: str, documentation: str, *labels: str, registry: CollectorRegistry = REGISTRY
) -> Gauge:
    """A gauge; one by partition leaves with its partition."""
    DESCRIBED.append(Described(name, "gauge", labels, documentation))
    made = Gauge(name, documentation, labels, registry=registry)
    if "partition" in labels:
        PARTITIONED.append((made, labels))
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


def drop_series(
    metric: Counter | Gauge, labels: Sequence[str], unwanted: Callable[[Mapping[str, str]], bool]
) -> None:
    """Serve no series any more whose labels are unwanted, until one is asked for again."""
    for family in metric.collect():
        for sample in family.samples:
            if unwanted(sample.labels):
                metric.remove(*(sample.labels[label] for label in labels))
