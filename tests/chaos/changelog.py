"""What an engine's changelog says was applied, in order. In: its log. Out: steps.

A step is some events and the states that came of them. Freshet's is a record batch: the states of
a stretch of one source partition, and the `applied` record that says how far it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from tests.chaos import decode
from tests.chaos.decode import At
from tests.chaos.logs import Logs, Writer
from tests.chaos.verdict import Verdict

GATE = 1 << 62  # producer ids from here on only pass a new id on (`Takeover._claim`)


class Step(NamedTuple):
    """Events and erasures in the order in which they were applied, and the states after them.

    Attributes
    ----------
    states : by user; None where one was dropped
    marks : what else stands there, by key: records about erasures
    rank : how many owners the partition had before the one that wrote it
    counts : of items, and of what came of lists, by key; None where one was let go; no dict: the
        engine counts none
    """

    order: Sequence[At]
    states: dict[bytes, bytes | None]
    where: str
    marks: dict[bytes, bytes | None]
    rank: int
    counts: dict[bytes, bytes | None] | None = None


class Changelog(Protocol):
    """How the checker reads an engine's changelog."""

    def steps(self, partition: int, verdict: Verdict) -> Iterator[Step]:
        """Everything that was applied to a partition; notes in `verdict` what is wrong with it."""

    def rank(self, writer: Writer) -> int:
        """How many owners the partition read last had before this one; -1 for a stranger."""


class FreshetChangelog:
    """Batches of states with their `applied` record last, under the epoch of their owner."""

    def __init__(self, logs: Logs, topic: str) -> None:
        self._logs, self._topic = logs, topic
        self._ranks: dict[Writer, int] = {}

    def rank(self, writer: Writer) -> int:
        return self._ranks.get(writer, -1)

    def steps(self, partition: int, verdict: Verdict) -> Iterator[Step]:
        self._ranks = {}
        reached: dict[str, int] = {}
        states: dict[bytes, bytes | None] = {}
        about: dict[bytes, bytes | None] = {}
        counts: dict[bytes, bytes | None] = {}
        for batch in self._logs.batches(self._topic, partition):
            where = f"{self._topic}-{partition}@{batch.base}"
            if batch.writer.producer_id < GATE:
                rank = self._ranks.setdefault(batch.writer, len(self._ranks))
                verdict.count("stale_batches", where, rank < len(self._ranks) - 1)
            is_applied = [record.key == decode.APPLIED_KEY for record in batch.records]
            last_alone = [False] * (len(is_applied) - 1) + [True]
            verdict.count("torn_batches", where, is_applied != last_alone)
            for record, tells_offsets in zip(batch.records, is_applied, strict=True):
                if not tells_offsets:
                    key = record.key or b""
                    told = about if key.startswith(b"\xff") else states
                    told = counts if key[:2] in (decode.COUNTS, decode.SEGMENTS) else told
                    told[key] = record.value
                    continue
                order: list[At] = []
                for topic, following in decode.applied(record.value or b"").following.items():
                    before = reached.get(topic, 0)
                    order += [(topic, offset) for offset in range(before, following)]
                    reached[topic] = max(before, following)
                rank = max(0, self.rank(batch.writer))
                yield Step(order, states, where, about, rank, counts)
                states, about, counts = {}, {}, {}
        if states or about or counts:
            yield Step([], states, f"the end of {self._topic}-{partition}", about, 0, counts)
        verdict.owners = max(verdict.owners, len(self._ranks))
