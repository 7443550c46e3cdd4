"""Keys to partitions: as the Java client, one by one and many at once."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from stream.contracts import murmur2, partition_of, partitions_of

keys = st.binary(max_size=300)

# From Apache Kafka's own UtilsTest.testMurmur2, as signed 32-bit numbers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_java_vectors(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


@given(keys)
def test_agrees_with_the_clients(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key) % 2**32 == kafka_python_murmur2(key) % 2**32


@given(st.lists(keys, max_size=40), st.integers(1, 10_000))
def test_many_at_once_equals_one_by_one(many: list[bytes], partitions: int) -> None:
    found = partitions_of(many, partitions)
    assert found.dtype == np.int32
    assert found.tolist() == [partition_of(key, partitions) for key in many]


def test_partitions_fill_evenly() -> None:
    counts = np.bincount(partitions_of([b"user-%d" % n for n in range(60_000)], 6), minlength=6)
    assert counts.min() > 9_500
    assert counts.max() < 10_500
