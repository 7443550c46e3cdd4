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
    sent_ms: int = 0


class Writer(NamedTuple):
    """Who wrote a batch; -1 and -1 is anyone."""

    producer_id: int
    epoch: int


class Batch(NamedTuple):
    """What the broker appended at once."""

    base: int
    writer: Writer
    records: list[Record]


class Kept(NamedTuple):
    """What stood in a partition before it was compacted, and the offset after it."""

    batches: list[Batch]
    end: int


class Logs:
    """The partitions that brokers of this machine have on disk; the brokers tell where."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._folders: set[Path] = set()
        self._kept: dict[tuple[str, int], Kept] = {}

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
        kept, first = self._kept.get((topic, partition), Kept([], 0))
        yield from kept
        after = first
        for found in self._found(topic, partition):
            if found.base_offset < first:
                continue
            if found.base_offset != after:
                raise ValueError(f"{topic}-{partition} lacks offsets {after} on")
            after = found.next_offset
            if not found.is_control_batch:
                yield Batch(
                    found.base_offset,
                    Writer(found.producer_id, found.producer_epoch),
                    [Record(r.offset, r.key, r.value, list(r.headers), r.timestamp) for r in found],
                )

    def records(self, topic: str, partition: int) -> Iterator[Record]:
        """Every record of a partition, in order."""
        for batch in self.batches(topic, partition):
            yield from batch.records

    def writers(self, topic: str, partition: int) -> Writers:
        """Who wrote what of a partition."""
        found = [(batch.base, batch.writer) for batch in self.batches(topic, partition)]
        return Writers([base for base, _ in found], [writer for _, writer in found])

    # -- a partition that is about to be compacted ---------------------------------------------

    def keep(self, topic: str, partition: int) -> Kept:
        """Keep aside what stands there now; after `resume` it counts as if it still did."""
        kept = Kept(list(self.batches(topic, partition)), self._end(topic, partition))
        self._kept[topic, partition] = kept
        return kept

    def keys_below(self, topic: str, partition: int, end: int) -> list[bytes | None]:
        """Keys of the records that are left below an offset, in order."""
        return [
            record.key
            for found in self._found(topic, partition)
            for record in found
            if record.offset < end
        ]

    def resume(self, topic: str, partition: int) -> None:
        """From here on the log counts; what came since `keep` does not."""
        kept = self._kept[topic, partition]
        self._kept[topic, partition] = kept._replace(end=self._end(topic, partition))

    def _end(self, topic: str, partition: int) -> int:
        return max((found.next_offset for found in self._found(topic, partition)), default=0)

    # -- files -----------------------------------------------------------------------------------

    def _found(self, topic: str, partition: int) -> Iterator[Any]:
        """Batches as aiokafka reads them."""
        for file in self._segments(topic, partition):
            try:
                records = MemoryRecords(file.read_bytes())
            except FileNotFoundError:  # compacted a moment ago
                continue
            while records.has_next():
                yield records.next_batch()

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
