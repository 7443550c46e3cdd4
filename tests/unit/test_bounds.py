"""Of many partitions with a backlog only some are unpacked at once; the others follow."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from stream.kafka import reader as reader_module
from stream.kafka.reader import drain
from stream.kafka.unpack import Stretch

PARTITIONS = 6
BATCHES = 5  # fetched of each partition
RECORDS = 100  # in each
EACH = BATCHES * RECORDS


class Position:
    """Of one partition, as aiokafka's TopicPartitionState."""

    paused = False

    def __init__(self) -> None:
        self.position = 0

    def consumed_to(self, position: int) -> None:
        self.position = position


class Fetcher:
    """Has fetched all that there is of some partitions, compressed."""

    reassignment_in_progress = False
    active = True
    _wait_consume_future = None

    def __init__(self) -> None:
        self._subscriptions = self
        self._positions = {TopicPartition("t", p): Position() for p in range(PARTITIONS)}
        self._records = {tp: self._fetched(tp) for tp in self._positions}
        self.released: list[TopicPartition] = []

    def state_value(self, tp: TopicPartition) -> Position:
        return self._positions[tp]

    def _fetched(self, tp: TopicPartition) -> FetchResult:
        data = bytearray()
        for first in range(0, EACH, RECORDS):
            builder = DefaultRecordBatchBuilder(
                magic=2,
                compression_type=1,
                is_transactional=False,
                producer_id=-1,
                producer_epoch=-1,
                base_sequence=-1,
                batch_size=1 << 30,
            )
            for number in range(RECORDS):
                builder.append(number, 1, b"%d" % (first + number), b"x", [])
            batch = builder.build()
            batch[0:8] = first.to_bytes(8, "big")
            data += batch
        fetched = PartitionRecords(tp, Stretch(bytes(data)), [], 0, None, None, True, 0)
        return FetchResult(tp, assignment=self, partition_records=fetched, backoff=0)

    def _notify(self, _: None) -> None:
        self.released = [tp for tp in self._positions if tp not in self._records]


def read_all(fetcher: Any) -> tuple[list[int], dict[TopicPartition, list[int]]]:
    """How many records each look took, and the offsets read of each partition."""
    looks: list[int] = []
    offsets: dict[TopicPartition, list[int]] = {}
    while fetcher._records:
        taken = drain(fetcher, fetcher._positions)
        assert taken, "nothing taken, and something is there"
        looks.append(sum(map(len, taken.values())))
        for tp, batch in taken.items():
            assert batch.base == len(offsets.setdefault(tp, []))
            offsets[tp] += batch.offsets
            assert [int(key or b"-1") for key in batch.keys] == batch.offsets
            assert batch.next == len(offsets[tp]) == fetcher._positions[tp].position
    return looks, offsets


def assert_complete(offsets: dict[TopicPartition, list[int]]) -> None:
    assert len(offsets) == PARTITIONS
    assert all(found == list(range(EACH)) for found in offsets.values())


def test_all_is_taken_at_once_where_it_is_little() -> None:
    looks, offsets = read_all(Fetcher())
    assert looks == [PARTITIONS * EACH]
    assert_complete(offsets)


@pytest.mark.parametrize("enough", [1, EACH, EACH + 1, 3 * EACH])
def test_no_further_partition_is_unpacked_once_it_is_enough(
    monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    monkeypatch.setattr(reader_module, "ENOUGH_RECORDS", enough)
    fetcher = Fetcher()
    looks, offsets = read_all(fetcher)
    assert max(looks) < enough + EACH
    assert min(looks[:-1]) >= enough
    assert_complete(offsets)
    assert fetcher.released == list(fetcher._positions)


def test_a_partition_that_waits_does_not_hold_another_ones_fetch() -> None:
    fetcher = Fetcher()
    wanted = list(fetcher._positions)[1:]
    fetcher.is_assigned = lambda _: True  # type: ignore[attr-defined]
    taken = drain(fetcher, wanted)
    assert list(taken) == wanted
    assert list(fetcher._records) == list(fetcher._positions)[:1]


def test_a_partition_packed_small_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ENOUGH_RECORDS", "TAKEN_AT_ONCE"):
        monkeypatch.setattr(reader_module, name, RECORDS - 1)
    fetcher = Fetcher()
    first = [next(iter(drain(fetcher, fetcher._positions))) for _ in range(PARTITIONS)]
    assert first == list(fetcher._positions)
    _, offsets = read_all(Fetcher())
    assert_complete(offsets)
