"""Dead letters packed: exactly as the record came, and cut only as far as needed."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
)

from stream.contracts import Unreadable, dead_letter_headers
from stream.kafka import reader
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.cluster import Cluster
from stream.kafka.letters import Letter, LetterSender, forms, letter_within
from stream.kafka.packing import PlainBatch
from stream.kafka.unpack import StoredBatch, Stretch
from tests.support.stored import Sent, bomb, stored

NAME = b"\xff\x00name".decode("utf-8", "surrogateescape")
SENT = [("b", b"\xff\x00"), ("a", None), ("freshet-headers", b"77"), ("b", b"")]
NOISE = bytes(range(256)) * 4


def letter(
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    sent: list[tuple[str, bytes | None]] = SENT,
) -> Letter:
    headers = dead_letter_headers("not_json", None, "clicks", 3, 41, sent=sent)
    return Letter(key, value, 3, headers)


def read(batch: PlainBatch) -> Any:
    (record,) = StoredBatch(bytes(batch._build())).take(9)
    return record


@pytest.mark.parametrize("key", [None, b"", b"\xff"])
@pytest.mark.parametrize("value", [None, b"", NOISE])
@pytest.mark.parametrize("sent", [[], SENT, [(NAME, b"1"), ("x", None)]])
def test_a_letter_that_fits_is_the_record(
    key: bytes | None, value: bytes | None, sent: list[tuple[str, bytes | None]]
) -> None:
    given = letter(key, value, sent)
    record = read(letter_within(1 << 20, given, 5)[0])
    assert (record.key, record.value, record.headers) == (key, value, given.headers)
    assert record.headers[: int(dict(record.headers)["freshet-headers"])] == sent


def test_one_odd_name_does_not_hold_up_its_batch() -> None:
    plain, odd = letter().headers, letter(sent=[(NAME, b"1")]).headers
    records = Records([b"a", b"b", b"c", b"d"], [b"1"] * 4, [plain, odd, odd, plain])
    first, found = 0, []
    while first < 4:
        batch = PlainBatch(1 << 20)
        first = batch.fill(records, first, 5)
        batch._set_producer_state(7, 1, 3)
        stored_batch = StoredBatch(bytes(batch._build()))
        assert (stored_batch.producer_id, stored_batch.base_sequence) == (7, 3)
        assert stored_batch.validate_crc()
        found.append([(record.key, record.headers) for record in stored_batch.take(9)])
    assert found == [[(b"a", plain)], [(b"b", odd)], [(b"c", odd)], [(b"d", plain)]]


def cuts(given: Letter) -> list[tuple[bytes | None, bytes | None, dict[str, bytes | None]]]:
    """Key, value and last headers of each form."""
    records = [read(batch) for batch, _ in forms(given, 5)]
    return [(record.key, record.value, dict(record.headers)) for record in records]


def test_what_is_largest_goes_first_and_the_rest_says_how_long_it_was() -> None:
    large = [("a", b"x" * 2000)]
    whole, packed, *shorter = cuts(letter(value=NOISE, sent=large))
    assert whole == packed
    assert [(key, value, told.get("a")) for key, value, told in shorter] == [
        (b"k", NOISE, None),
        (b"k", b"", None),
        (None, b"", None),
    ]
    last = shorter[-1][2]
    assert last["freshet-headers"] == b"0"
    lengths = [last[f"freshet-{part}-bytes"] for part in ("headers", "value", "key")]
    assert lengths == [b"2001", b"1024", b"1"]
    assert last["freshet-offset"] == b"41"
    *_, second = cuts(letter(value=NOISE))[:3]
    assert (second[1], second[2]["b"]) == (b"", b"")  # here the value was larger
    long = letter(b"k" * 100, NOISE, large)
    sizes = [size for _, size in forms(long, 5)]
    assert sizes[2:] == sorted(sizes[2:], reverse=True)


def test_what_came_compressed_goes_compressed() -> None:
    given = letter(value=bytes(1 << 20))
    assert read(letter_within(20_000, given, 5)[0]).value == given.value
    record = read(letter_within(500, given, 5)[0])
    assert (record.value, dict(record.headers)["freshet-value-bytes"]) == (b"", b"1048576")


def test_a_batch_that_cannot_be_read_is_sent_as_it_is_stored() -> None:
    raw = bomb("zstd", 64 << 20)
    rest = Unreadable.of(raw, "batch_too_large", 3, 3)
    record = read(letter_within(1 << 20, letter(None, rest), 5)[0])
    assert (record.key, record.value) == (None, raw)


class Fetched:
    """aiokafka's PartitionRecords, as far as the reader looks."""

    _check_crcs = True

    def __init__(self, data: bytes, start: int) -> None:
        self._records, self.next_fetch_offset = Stretch(data), start


def test_a_fetch_is_taken_some_records_at_a_time() -> None:
    first = [Sent(b"%d" % n, b"v", [("n", b"%d" % n)] if n % 3 else []) for n in range(7)]
    data = stored(first, base=10, codec="lz4") + stored(first[:3], base=17)
    fetched = Fetched(data + bomb("zstd", 64 << 20, base=20) + stored(first[:1], base=21), 12)
    batches: list[RecordBatch] = []
    looks: list[reader.Look] = []
    while not looks or not looks[-1].is_all:
        looks.append(look := reader._unpack(TopicPartition("clicks", 1), fetched, 4))
        assert look.batch is not None
        assert fetched.next_fetch_offset == look.batch.next
        batches.append(look.batch)
    assert [look.seen for look in looks] == [4, 4, 3, 1]
    # Those before the position were looked at, too; the bomb is all that its look unpacks.
    assert [batch.offsets for batch in batches] == [
        [12, 13],
        [14, 15, 16, 17],
        [18, 19, 20],
        [21],
    ]
    assert [batch.next for batch in batches] == [14, 18, 21, 22]
    found = {batch.offsets[at]: sent for batch in batches for at, sent in batch.headers.items()}
    assert found == {
        offset: [("n", b"%d" % n)] for offset, n in [(12, 2), (14, 4), (15, 5), (18, 1), (19, 2)]
    }
    assert isinstance(batches[2].values[-1], Unreadable)
    assert [piece.headers for piece in batches[1].split(2)] == [
        {0: [("n", b"4")], 1: [("n", b"5")]},
        {},
    ]
    assert [piece.headers for piece in batches[1].split(1)][:2] == [
        {0: [("n", b"4")]},
        {0: [("n", b"5")]},
    ]


class Topic:
    """A dead-letter topic of one partition: takes so many bytes a batch, or is away."""

    def __init__(self, takes: int = 1 << 20) -> None:
        self.takes, self.error = takes, MessageSizeTooLargeError
        self.found: list[Any] = []
        self.batches = 0

    async def send_batch(self, batch: PlainBatch, topic: str, partition: int) -> Any:
        self.batches += 1
        answer = asyncio.get_running_loop().create_future()
        raw = bytes(batch._build())
        if len(raw) > self.takes:
            answer.set_exception(self.error())
        else:
            self.found += StoredBatch(raw).take(10_000)
            answer.set_result(None)
        return answer


def send(topic: Topic, letters: list[Letter]) -> bool:
    sender = LetterSender(Cluster("b:1"), "dead")
    sender._producer = topic
    return asyncio.run(sender.send(letters))


def test_many_letters_go_in_few_batches() -> None:
    topic = Topic()
    letters = [letter(b"%d" % n, NOISE) for n in range(2_000)]
    assert send(topic, letters)
    assert [record.key for record in topic.found] == [given.key for given in letters]
    assert topic.batches < 20


def test_a_batch_with_one_too_large_goes_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic(takes=3_000)
    letters = [letter(b"a"), letter(b"b", os.urandom(5_000)), letter(b"c")]
    assert send(topic, letters)
    assert [(record.key, record.value) for record in topic.found] == [
        (b"a", b"v"),
        (b"b", b""),
        (b"c", b"v"),
    ]
    topic = Topic(takes=10)
    assert send(topic, letters[:1])  # given up: it must not be read again for ever
    (warning,) = caplog.messages
    assert "refused a letter" in warning
    assert "'clicks', '3', '41', 'not_json'" in warning


@pytest.mark.parametrize("error", [KafkaTimeoutError, NotLeaderForPartitionError])
def test_a_broker_that_is_away_is_asked_again(error: Any) -> None:
    topic = Topic(takes=10)
    topic.error = error
    assert not send(topic, [letter()])
