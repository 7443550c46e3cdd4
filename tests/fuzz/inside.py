"""Fuzzing in process: through decode, engine and catalogue feed, and the good ones once more.

In: records. Out: counts, and what went wrong. A second engine and a second feed get only what was
not rejected; states, lists and catalogue must come out the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from stream.config import Placement, load_settings
from stream.contracts import REASONS, Headers
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.model import Model
from stream.feed import CatalogueFeed
from stream.kafka.batches import RecordBatch
from stream.kafka.letters import Letter
from tests.fuzz.judge import Verdict, judge
from tests.fuzz.records import NOW_MS, Record
from tests.support.bundles import random_decay_bundle
from tests.support.parts import Part

DIM = 16
ITEMS = 400


COMPARED = (
    *("changelog", "list_keys", "list_values", "folded"),
    *("answer_keys", "answer_values"),
)


class Place(NamedTuple):
    """A record of the items topic, as the feed takes it."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int
    headers: Headers


class Side:
    """An engine with one shard, and a catalogue's feed."""

    def __init__(self, bundle: Bundle) -> None:
        self.catalogue = Catalogue(bundle.item_ids)
        self.engine = Engine(
            Model(bundle, "cpu"),
            self.catalogue,
            kinds={
                "clicks": "clicks",
                "purchases": "purchases",
                "erasures": "erasures",
                "requests": "requests",
            },
            placements={"home": Placement(k=5)},
            ring=20,
        )
        self.shard = self.engine.new_shard(0, 1)
        self.shard.marks._draw_salt = bytes  # both sides' marks must be alike
        self.letters: list[Letter] = []
        self.feed = CatalogueFeed(
            load_settings(environ={}), self.catalogue, DIM, owns=lambda partition: True
        )
        self.feed._letters = self  # type: ignore[assignment]

    async def send(self, letters: Sequence[Letter]) -> bool:
        """Stands for the producer of the feed's letters."""
        self.letters += letters
        return True

    def step(self, batch: RecordBatch) -> Any:
        (part,) = self.engine.step([Part(self.shard, batch)], NOW_MS).parts
        return part


class Inside:
    """Both sides, and what was found.

    Attributes
    ----------
    made : (topic, how it was made) -> records
    verdicts : (topic, verdict) -> records
    reasons : (topic, reason) -> letters
    wrong : what must not be, a line each
    """

    def __init__(self, folder: Path) -> None:
        bundle = random_decay_bundle(folder / "bundle", ITEMS, dim=DIM)
        self.mixed, self.alone = Side(bundle), Side(bundle)
        self.made: Counter[tuple[str, str]] = Counter()
        self.verdicts: Counter[tuple[str, Verdict]] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.step_s = 0.0
        self._offsets: Counter[str] = Counter()

    def put(self, topic: str, records: Sequence[Record]) -> None:
        """One batch of one topic."""
        base = self._offsets[topic]
        self._offsets[topic] += len(records)
        self.made.update((topic, record.made) for record in records)
        if topic == "items":
            rejected = self._items(records, base)
        else:
            rejected = self._events(topic, records, base)
        for offset, record in enumerate(records, base):
            verdict = judge(topic, record.key, record.value, NOW_MS, DIM)
            self.verdicts[topic, verdict] += 1
            reason = rejected.get(offset)
            if reason is not None:
                self.reasons[topic, reason] += 1
            if verdict != "open" and (verdict == "bad") != (reason is not None):
                self._report(f"judged {verdict}, rejected for {reason}", record)

    def _report(self, what: str, record: Record) -> None:
        shown = ascii((record.value or b"")[:200])
        self.wrong.append(f"{what}: {record.topic}, {record.made}, key {record.key!a}: {shown}")

    def _events(self, topic: str, records: Sequence[Record], base: int) -> dict[int, str]:
        offsets = list(range(base, base + len(records)))
        batch = batch_of(topic, records, offsets)
        started = perf_counter()
        part = self.mixed.step(batch)
        self.step_s += perf_counter() - started
        letters = zip(part.dead_keys, part.dead_values, part.dead_headers, strict=True)
        rejected = self._letters(topic, records, base, [Letter(k, v, 0, h) for k, v, h in letters])
        kept = [offset for offset in offsets if offset not in rejected]
        if kept:
            alone = self.alone.step(batch_of(topic, [records[o - base] for o in kept], kept))
            for name in COMPARED:
                if getattr(part, name) != getattr(alone, name):
                    self.wrong.append(f"{topic}, offset {base}: {name} differ from the good alone")
        elif part.state_keys or part.list_keys or part.answer_keys or part.folded:
            self.wrong.append(f"{topic}, offset {base}: bad records alone changed something")
        return rejected

    def _items(self, records: Sequence[Record], base: int) -> dict[int, str]:
        rows = [
            Place(record.key, record.value, 0, offset, record.headers)
            for offset, record in enumerate(records, base)
        ]
        started = perf_counter()
        self.mixed.feed._put(rows)
        asyncio.run(self.mixed.feed._publish())
        self.step_s += perf_counter() - started
        letters, self.mixed.letters = self.mixed.letters, []
        rejected = self._letters("items", records, base, letters)
        self.alone.feed._put([row for row in rows if row.offset not in rejected])
        mixed, alone = self.mixed.catalogue, self.alone.catalogue
        if mixed.ids != alone.ids or mixed.prices != alone.prices:
            self.wrong.append(f"items, offset {base}: ids or prices differ from the good alone")
        for name in ("_kind", "_available", "_listed"):
            if not np.array_equal(getattr(mixed, name), getattr(alone, name)):
                self.wrong.append(f"items, offset {base}: {name} differs from the good alone")
        if mixed.embeddings != alone.embeddings:
            self.wrong.append(f"items, offset {base}: embeddings differ from the good alone")
        return rejected

    def _letters(
        self, topic: str, records: Sequence[Record], base: int, letters: Sequence[Letter]
    ) -> dict[int, str]:
        """Offset -> reason; looks whether each letter is its record."""
        rejected: dict[int, str] = {}
        for letter in letters:
            offset, reason, sent = read_headers(letter.headers)
            record = records[offset - base]
            came = (letter.key, letter.value, sent)
            if came != (record.key, record.value, record.headers):
                self._report("a letter is not what was sent", record)
            if reason not in REASONS or offset in rejected:
                self._report(f"a second letter, or an unknown reason: {reason}", record)
            rejected[offset] = reason
        return rejected


def read_headers(headers: Headers) -> tuple[int, str, Headers]:
    """Offset and reason of a letter, and the headers that its record had."""
    told = dict(headers)  # of each name the last
    count = int(told["freshet-headers"] or 0)
    return (
        int(told["freshet-offset"] or -1),
        (told["freshet-reason"] or b"").decode(),
        headers[:count],
    )


def batch_of(topic: str, records: Sequence[Record], offsets: list[int]) -> RecordBatch:
    """A batch of partition 0."""
    return RecordBatch(
        topic,
        0,
        offsets[0],
        offsets[-1] + 1,
        [record.key for record in records],
        [record.value for record in records],
        offsets,
        [NOW_MS] * len(records),
        {at: record.headers for at, record in enumerate(records) if record.headers},
    )
