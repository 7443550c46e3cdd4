"""What record batches that unpack to much cost a worker's memory. In: how many. Out: a table.

    python -m tests.fuzz.bombs [--bombs 3 30 100] [--topics 1 5] [--kinds "zstd, 31 MiB"]

What a broker has of each topic is fetched, unpacked and looked at as a worker does it, and each
record becomes a dead letter. Bombs are above the most that a batch may unpack to, or just below it:
then they are read.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords

from stream.allocator import keep_freed
from stream.kafka.letters import Letter, letter_within
from stream.kafka.reader import FETCH_BYTES, drain
from stream.kafka.unpack import MAX_UNPACKED_BYTES, Stretch
from tests.support.runs import whole
from tests.support.stored import SMALLEST_HEADER, TEXT_HEADER, bomb, bomb_of_headers

LETTER_BYTES = 1 << 20  # that the dead letters take
KINDS = {  # what it is packed by, and MiB; or how many headers
    "gzip, 100 MiB": ("gzip", 100),
    "lz4, 100 MiB": ("lz4", 100),
    "zstd, 100 MiB": ("zstd", 100),
    "gzip, 31 MiB": ("gzip", 31),
    "zstd, 31 MiB": ("zstd", 31),
    "snappy, 20 MiB": ("snappy", 20),
    "15,000,000 headers": ("headers", 15_000_000),
    "500,000 headers": ("headers", 500_000),
    "500,000 headers of text": ("headers of text", 500_000),
    "900,000 headers of text": ("headers of text", 900_000),
}
HEADERS = {"headers": SMALLEST_HEADER, "headers of text": TEXT_HEADER}


class Cost(NamedTuple):
    """Resident memory above what there was, MiB: at most, and once all is read."""

    peak_mib: float
    kept_mib: float


class _Partition:
    """A log of bombs, read from `position` on; as aiokafka's TopicPartitionState."""

    paused = False

    def __init__(self, bomb: bytes, count: int) -> None:
        self._bomb, self.end, self.position = bomb, count, 0

    def consumed_to(self, position: int) -> None:
        self.position = position

    def fetched(self) -> bytes:
        """From the position on, as much as one fetch brings."""
        last = min(self.end, self.position + max(1, FETCH_BYTES // len(self._bomb)))
        offsets = range(self.position, last)
        return b"".join(offset.to_bytes(8, "big") + self._bomb[8:] for offset in offsets)


class Backlog:
    """aiokafka's Fetcher, with a broker that has so many bombs of each topic."""

    reassignment_in_progress = False
    active = True
    _wait_consume_future = None

    def __init__(self, made: bytes, topics: int, bombs: int) -> None:
        self._subscriptions = self
        of_topic = [len(range(number, bombs, topics)) for number in range(topics)]
        self.partitions = {
            TopicPartition(f"t{number}", 0): _Partition(made, count)
            for number, count in enumerate(of_topic)
        }
        self._records: dict[TopicPartition, Any] = {}
        self._notify(None)

    def state_value(self, tp: TopicPartition) -> _Partition:
        return self.partitions[tp]

    def _notify(self, _: None) -> None:
        """Fetch again of what was read."""
        for tp, partition in self.partitions.items():
            if tp not in self._records and partition.position < partition.end:
                stretch = Stretch(partition.fetched())
                records = PartitionRecords(tp, stretch, [], partition.position, None, None, True, 0)
                self._records[tp] = FetchResult(
                    tp, assignment=self, partition_records=records, backoff=0
                )


def read(backlog: Any) -> int:
    """Look at all that there is, and make a letter of each record; how many that were."""
    found = 0
    while backlog._records:
        for batch in drain(backlog, backlog.partitions).values():
            found += len(batch)
            for at, value in enumerate(batch.values):
                sent = batch.headers.get(at, [])
                headers = [*sent, ("freshet-headers", b"%d" % len(sent))]
                letter_within(LETTER_BYTES, Letter(batch.keys[at], value, 0, headers), 0)
    return found


def cost(kind: str, topics: int, bombs: int) -> Cost:
    """What `bombs` of a kind on so many topics take together."""
    made = _made(kind)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before = _mib("VmRSS")
    assert read(Backlog(made, topics, bombs)) == bombs
    return Cost(_mib("VmHWM") - before, _mib("VmRSS") - before)


@cache
def _made(kind: str) -> bytes:
    packed_by, size = KINDS[kind]
    if packed_by in HEADERS:
        return bomb_of_headers(size, header=HEADERS[packed_by])
    return bomb(packed_by, size << 20)


def _mib(name: str) -> float:
    (kib,) = re.findall(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.bombs", description=__doc__)
    parser.add_argument("--bombs", type=whole(1), nargs="+", default=[3, 30, 100])
    parser.add_argument("--topics", type=whole(1), nargs="+", default=[1, 5])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    given = parser.parse_args(arguments)
    keep_freed()  # as a worker does
    print(f"a batch may unpack to {MAX_UNPACKED_BYTES >> 20} MiB; MiB above an idle process\n")
    print("| bombs | topics | how many | at most | kept |\n|---|---|---|---|---|")
    for kind in given.kinds:
        for topics in given.topics:
            for bombs in given.bombs:
                peak_mib, kept_mib = cost(kind, topics, bombs)
                row = f"| {kind} | {topics} | {bombs} | {peak_mib:.0f} | {kept_mib:.0f} |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
