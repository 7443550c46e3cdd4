"""The metrics: what is declared is what is served, and nothing of a lost partition stays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from stream import metrics
from stream.bulk import BulkCounter, BulkHistogram
from stream.declared import forget_partitions

BUCKETS = (0.001, 0.01, 0.1, 1.0)
seconds = st.lists(
    st.one_of(st.sampled_from(BUCKETS), st.floats(0, 10, allow_nan=False)), max_size=50
)


@given(st.lists(seconds, max_size=3))
def test_bulk_histogram_equals_single_observations(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "Help.", BUCKETS, registry=ours)
    single = Histogram("x_seconds", "Help.", buckets=BUCKETS, registry=theirs)
    for batch in batches:
        bulk.observe_many(np.array(batch, np.float64))
        for value in batch:
            single.observe(value)

    def series(registry: CollectorRegistry) -> dict[str, float]:
        lines = generate_latest(registry).decode().splitlines()
        return {
            n: round(float(v), 6)
            for n, v in (line.rsplit(" ", 1) for line in lines if line[0] != "#")
        }

    assert series(ours) == series(theirs)


def test_a_clock_ahead_of_ours_counts_as_zero() -> None:
    registry = CollectorRegistry()
    BulkHistogram("x_seconds", "Help.", BUCKETS, registry=registry).observe_many(np.array([-5.0]))
    assert registry.get_sample_value("x_seconds_sum") == 0
    assert registry.get_sample_value("x_seconds_bucket", {"le": "0.001"}) == 1


def test_a_bulk_counter_adds_arrays_to_the_series_of_their_axes() -> None:
    registry = CollectorRegistry()
    counter = BulkCounter("x_total", "Help.", ["a", "b", "c"], registry=registry)
    arms, other, ways = (("p", "1"), ("q", "2")), (("q", "2"),), (("yes",), ("no",))
    counter.add((arms, ways), np.array([[1, 0], [2, 3]]))
    counter.add((arms, ways), np.array([[1, 0], [0.5, 0]]))
    counter.add((other, ways), np.array([[10, 0]]))
    series = {
        tuple(sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }
    assert series == {
        ("p", "1", "yes"): 2,
        ("p", "1", "no"): 0,
        ("q", "2", "yes"): 12.5,
        ("q", "2", "no"): 3,
    }
    assert b"# TYPE x_total counter\n" in generate_latest(registry)


def test_a_bulk_counter_lets_series_go() -> None:
    registry = CollectorRegistry()
    counter = BulkCounter("x_total", "Help.", ["a", "b"], registry=registry)
    both, ways = (("p",), ("q",)), (("yes",), ("no",))
    counter.add((both, ways), np.array([[1, 2], [3, 4]]))
    counter.add(((("q",),), ways), np.array([[10, 0]]))
    counter.add(((("p",),), ways), np.array([[10, 0]]))

    def series() -> dict[tuple[str, ...], float]:
        samples = [sample for metric in registry.collect() for sample in metric.samples]
        return {tuple(sample.labels.values()): sample.value for sample in samples}

    counter.keep({("q",), ("r",)})
    assert series() == {("q", "yes"): 13, ("q", "no"): 4}
    counter.add((both, ways), np.ones((2, 2)))
    assert series() == {
        **{("p", "yes"): 1, ("p", "no"): 1},
        **{("q", "yes"): 14, ("q", "no"): 5},
    }


def test_every_declared_metric_is_served_under_its_name_and_type() -> None:
    served = {
        metric.name: metric
        for registry in (REGISTRY, metrics.GATEWAY)
        for metric in registry.collect()
        if metric.name.startswith("freshet_")
    }
    described = metrics.describe_metrics()
    for row in described:
        metric = served.pop(row.name.removesuffix("_total"))
        assert (metric.type, metric.documentation) == (row.type, row.help)
    assert not served, "declared past _counter, _gauge and the others"
    assert len({row.name for row in described}) == len(described)


def test_names_say_their_unit_and_labels_hold_no_users() -> None:
    for row in metrics.describe_metrics():
        assert row.name.startswith("freshet_")
        assert row.name.endswith("_total") == (row.type == "counter")
        assert not set(row.labels) & {"user", "user_id", "item", "item_id"}
        assert "milli" not in row.name
        assert not row.name.endswith("_ms")


def test_series_of_a_partition_leave_with_it() -> None:
    for partition in (1, 2, 12):
        metrics.STATE_USERS.labels(partition=partition).set(5)
        metrics.STATE_BYTES.labels(partition=partition).set(5)
        metrics.RECOVERY_PROGRESS_RATIO.labels(partition=partition).set(1)
        for topic in ("clicks", "purchases"):
            metrics.set_progress(topic, partition, position=3, lag=7)
    forget_partitions([1, 12, 99])
    lines = generate_latest().decode().splitlines()
    left = [line for line in lines if "partition=" in line]
    assert len(left) == 7
    assert all('partition="2"' in line for line in left)
    forget_partitions([2])


def test_model_info_names_one_bundle() -> None:
    metrics.set_model_info("old", "decay", "cpu", "cpu")
    metrics.set_model_info("new", "decay", "cpu", "cuda")
    lines = [
        n for n in generate_latest().decode().splitlines() if n.startswith("freshet_model_info{")
    ]
    assert lines == [
        'freshet_model_info{bundle="new",model="decay",provider="cpu",wanted="cuda"} 1.0'
    ]
    metrics.MODEL_INFO.clear()


def test_stage_buckets_resolve_1_to_100_ms() -> None:
    metrics.STAGE_SECONDS.labels(stage="poll").observe(0.005)
    bounds = [
        float(sample.labels["le"])
        for metric in metrics.STAGE_SECONDS.collect()
        for sample in metric.samples
        if sample.name.endswith("_bucket")
    ]
    resolved = [bound for bound in bounds if 0.001 <= bound <= 0.1]
    assert len(resolved) >= 12
    assert all(high / low <= 2 for low, high in pairwise(resolved))
