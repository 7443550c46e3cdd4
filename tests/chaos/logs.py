"""What stands in the brokers' logs, batch by batch. In: a cluster. Out: records and writers.

Read from the files, since no client tells who wrote a batch: the producer id and epoch are what
marks an owner of a partition. aiokafka's reader of record batches takes the bytes apart; nothing
here knows what a record means.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.record import MemoryRecords
from kafka import KafkaAdminClient

Headers = list[tuple[str, bytes | None]]


class Record(NamedTuple):
    """A record as it stands in its partition."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Writer(NamedTuple):
    """Who wrote a batch; -1 and -1 is anyone."""

    producer_id: int
    epoch: int


class Batch(NamedTuple):
    """What the broker appended at once."""

    base: int
    writer: Writer
    records: list[Record]


class Logs:
    """The partitions that brokers of this machine have on disk; the brokers tell where."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._folders: set[Path] = set()

    def find(self) -> None:
        """Ask the brokers for their folders; before the first reading."""
        admin = KafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            found = [told["log_dirs"] for told in admin.describe_log_dirs()]
        finally:
            admin.close()
        self._folders = {Path(folder["log_dir"]) for folders in found for folder in folders}

    def batches(self, topic: str, partition: int) -> Iterator[Batch]:
        """Every record batch of a partition, in order.

        Raises
        ------
        ValueError : records are missing, by compaction or retention: there is nothing to judge by
        """
        after = 0
        for file in self._segments(topic, partition):
            records = MemoryRecords(file.read_bytes())
            while records.has_next():
                found: Any = records.next_batch()
                if found.base_offset != after:
                    raise ValueError(f"{topic}-{partition} lacks offsets {after} on")
                after = found.next_offset
                if not found.is_control_batch:
                    yield Batch(
                        found.base_offset,
                        Writer(found.producer_id, found.producer_epoch),
                        [Record(r.offset, r.key, r.value, list(r.headers)) for r in found],
                    )

    def records(self, topic: str, partition: int) -> Iterator[Record]:
        """Every record of a partition, in order."""
        for batch in self.batches(topic, partition):
            yield from batch.records

    def writers(self, topic: str, partition: int) -> Writers:
        """Who wrote what of a partition."""
        found = [(batch.base, batch.writer) for batch in self.batches(topic, partition)]
        return Writers([base for base, _ in found], [writer for _, writer in found])

    def _segments(self, topic: str, partition: int) -> list[Path]:
        """Its files, of the replica that has most of it."""
        replicas = [
            sorted((folder / f"{topic}-{partition}").glob("*.log")) for folder in self._folders
        ]
        return max(replicas, key=lambda files: sum(file.stat().st_size for file in files))


class Writers(NamedTuple):
    """First offsets of batches, and who wrote each."""

    bases: list[int]
    names: list[Writer]

    def of(self, offset: int) -> Writer:
        return self.names[bisect_right(self.bases, offset) - 1]
