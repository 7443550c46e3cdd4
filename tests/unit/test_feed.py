"""The catalogue feed: which records it takes, and which become dead letters."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from stream import feed as feed_module
from stream.config import load_settings
from stream.core.catalogue import Catalogue
from stream.feed import CatalogueFeed
from stream.kafka.letters import Letter


@dataclass(frozen=True)
class Record:
    key: bytes | None
    value: bytes | None
    partition: int
    offset: int
    headers: Sequence[tuple[str, bytes | None]] = ()


class Box:
    """Takes letters in place of the broker."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.away = False

    async def send(self, letters: Sequence[Letter]) -> bool:
        if self.away:
            return False
        self.letters += letters
        return True


def record(item_id: str, offset: int = 0, partition: int = 0, **fields: object) -> Record:
    value = msgspec.json.encode({"item_id": item_id, **fields})
    return Record(item_id.encode(), value, partition, offset)


def raw(text: bytes, offset: int = 0, partition: int = 0) -> Record:
    return Record(b"a", text, partition, offset)


class Feed:
    """A feed of two-dimensional embeddings that has no broker."""

    def __init__(self) -> None:
        self.owned: set[int] = set()
        self.catalogue = Catalogue(["", "trained"])
        self.feed = CatalogueFeed(
            load_settings(environ={}), self.catalogue, 2, owns=self.owned.__contains__
        )
        self.box = self.feed._letters = Box()  # type: ignore[assignment]

    def put(self, *records: Record) -> None:
        self.feed._put(records)

    def published(self) -> list[tuple[str, str, int]]:
        """Reason, field and offset of what goes out now."""
        before = len(self.box.letters)
        asyncio.run(self.feed._publish())
        headers = [dict(letter.headers) for letter in self.box.letters[before:]]
        return [
            (
                h["freshet-reason"].decode(),
                h["freshet-field"].decode(),
                int(h["freshet-offset"]),
            )
            for h in headers
        ]


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_good_records_enter_the_catalogue_and_a_null_removes(feed: Feed) -> None:
    feed.put(record("a", embedding=[0, 2]), Record(b"a", None, 0, 1), record("b"))
    row = feed.catalogue.rows(["a"])[0]
    assert feed.catalogue.embeddings == {row: (0.0, 1.0)}
    assert feed.catalogue.count_by_kind()["product"] == 1
    feed.owned.add(0)
    assert feed.published() == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"item_id":"a","embedding":[1e300,0]}', "not_finite"),
        (b'{"item_id":"a","embedding":[-1e39,0]}', "not_finite"),
        (b'{"item_id":"a","embedding":[0,0]}', "out_of_range"),
        (b'{"item_id":"a","embedding":[1e-300,0]}', "out_of_range"),
        (b'{"item_id":"a","embedding":[1,2,3]}', "out_of_range"),
        (b'{"item_id":"a","embedding":[]}', "out_of_range"),
    ],
)
def test_an_embedding_that_would_spoil_states_is_a_dead_letter(
    feed: Feed, text: bytes, reason: str
) -> None:
    feed.owned.add(0)
    feed.put(raw(text, offset=7))
    assert feed.published() == [(reason, "embedding", 7)]
    assert len(feed.catalogue) == 2
    assert feed.catalogue.embeddings == {}


def test_a_letter_is_the_record_as_it_came(feed: Feed) -> None:
    feed.owned.add(3)
    feed.put(raw(b"{", offset=5, partition=3))
    assert feed.published() == [("not_json", "", 5)]
    (letter,) = feed.box.letters
    assert (letter.key, letter.value, letter.partition) == (b"a", b"{", 3)


def test_bad_records_wait_for_their_partition_and_go_out_once(feed: Feed) -> None:
    feed.put(raw(b"{", 1), raw(b"{", 2, partition=1), raw(b"{", 4))
    assert feed.published() == []
    feed.owned.add(0)
    assert [offset for *_, offset in feed.published()] == [1, 4]
    feed.owned.clear()
    feed.owned.update((0, 1))  # a rebalance
    assert [offset for *_, offset in feed.published()] == [2]
    feed.put(raw(b"{", 4), raw(b"{", 5))  # read again
    assert [offset for *_, offset in feed.published()] == [5]
    assert feed.published() == []
    assert feed.feed._bad_bytes == 0


class Again:
    """The items topic, read again."""

    topic = "items"

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.asked: list[tuple[int, int, int]] = []

    async def read_again(
        self, partition: int, first: int, last: int
    ) -> AsyncIterator[list[Record]]:
        self.asked.append((partition, first, last))
        for record in self._records[first : last + 1]:
            yield [record]


def test_what_waits_for_an_owner_is_bounded_and_none_is_lost(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MAX_BACKLOG_BYTES", 20_000)
    bad = (b"{" * 1000, b'{"item_id":"a","embedding":[0,0]}', b'{"item_id":"a"}')
    records = [raw(bad[offset % 3], offset) for offset in range(999)]
    again = Again(records)
    feed.feed._follower = again  # type: ignore[assignment]
    feed.put(*records)
    assert feed.feed._bad_bytes <= 20_000
    feed.owned.add(1)
    assert feed.published() == []
    feed.owned.add(0)
    assert [offset for *_, offset in feed.published()] == [n for n in range(999) if n % 3 < 2]
    ((partition, first, last),) = again.asked
    assert (partition, first) == (0, 0)
    assert 900 < last < 998
    assert feed.published() == []


def test_what_the_broker_does_not_answer_is_sent_again(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_MAX_BACKLOG_BYTES", 20_000)
    records = [raw(b"{" * 1000, offset) for offset in range(100)]
    feed.feed._follower = Again(records)  # type: ignore[assignment]
    feed.owned.add(0)
    feed.box.away = True
    feed.put(*records[:60])
    assert feed.published() == []
    feed.put(*records[60:])
    assert feed.published() == []
    feed.box.away = False
    assert [offset for *_, offset in feed.published()] == list(range(100))
    assert feed.published() == []


@pytest.mark.parametrize("taken", [True, False])
def test_more_that_comes_while_letters_are_sent_repeats_none(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(feed_module, "_MAX_BACKLOG_BYTES", 20_000)
    records = [raw(b"{" * 1000, offset) for offset in range(60)]
    feed.feed._follower = Again(records)  # type: ignore[assignment]
    feed.owned.add(0)
    send = feed.box.send

    async def send_slowly(letters: Sequence[Letter]) -> bool:
        feed.box.send = send  # type: ignore[method-assign]
        feed.put(*records[10:])
        return taken and await send(letters)

    feed.box.send = send_slowly  # type: ignore[method-assign]
    feed.put(*records[:10])
    found = [offset for *_, offset in feed.published()]
    found += [offset for *_, offset in feed.published()]
    assert sorted(found) == list(range(60))
    assert feed.feed._bad_bytes == 0


def test_a_letter_has_the_headers_of_its_record(feed: Feed) -> None:
    sent = (("b", b"\xff"), ("a", None), ("b", b""))
    feed.owned.add(0)
    feed.put(Record(None, None, 0, 3, sent))
    assert feed.published() == [("key_missing", "item_id", 3)]
    (letter,) = feed.box.letters
    assert (letter.key, letter.value, tuple(letter.headers[:3])) == (None, None, sent)


def test_only_the_broker_rooms_import_a_broker_client() -> None:
    tree = ast.parse(Path(feed_module.__file__).read_text())
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith(("aiokafka", "kafka"))]


def test_a_stop_while_the_catalogue_loads_ends_the_loading_first() -> None:
    events: list[str] = []

    class Follower:
        async def read_all(self) -> int:
            try:
                await asyncio.Event().wait()
            finally:
                events.append("read ended")
            return 0

        async def stop(self) -> None:
            events.append("client closed")

    async def scenario() -> None:
        feed = CatalogueFeed(load_settings(environ={}), Catalogue([""]), 2, owns=set().__contains__)
        feed._follower = Follower()  # type: ignore[assignment]
        starting = asyncio.create_task(feed.start())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await feed.stop()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(scenario())
    assert events == ["read ended", "client closed"]
