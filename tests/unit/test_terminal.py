"""Nothing of users and catalogue reaches a terminal as it is: every command that prints."""

from __future__ import annotations

import json
import unicodedata
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher

from stream.cli import doctor, forget, replay, screen, send, unpack, watch
from stream.cli.common import fit, print_json
from stream.cli.examining.finding import Finding
from stream.cli.lists import Titles
from stream.cli.reflected import Reflected
from stream.contracts import (
    Cause,
    ListedItem,
    RankedList,
    Reason,
    Receipt,
    Recommendation,
    Unreadable,
    encode_record,
)
from stream.terminal import printable, printable_json
from stream.words.settings import Wording
from stream.words.templates import Words
from tests.fuzz.nasties import IDS
from tests.support.stored import Sent, bomb, stored

ODD_NAME = b"\xff".decode("utf-8", "surrogateescape")


def unsafe(text: str) -> list[str]:
    """What a terminal would obey, besides the end of a line."""
    wrong = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return [one for one in text if unicodedata.category(one) in wrong and one != "\n"]


@pytest.fixture(params=IDS, ids=range(len(IDS)))
def hostile(request: pytest.FixtureRequest) -> str:
    text: str = request.param
    return text


@pytest.fixture
def recommendation(hostile: str) -> Recommendation:
    listed = [
        ListedItem(hostile, 0.5, rank, Reason("click", hostile), price=1.5) for rank in range(1, 4)
    ]
    lists = {"home": RankedList(listed), hostile: RankedList(listed)}
    return Recommendation(hostile, lists, hostile, "default", Cause("clicks", 0, 1, 2), 3)


@pytest.fixture
def titles(hostile: str) -> Titles:
    titles = Titles(Words.of(Wording()))
    value = msgspec.json.encode({"item_id": hostile, "title": hostile * 2})
    titles.learn(hostile.encode(), value)
    assert titles.title(hostile) == hostile * 2
    return titles


def test_json_says_the_same(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = {hostile: [hostile, "plain", "Grüße 雨"]}
    print_json(value)
    line = capsys.readouterr().out
    assert not unsafe(line)
    assert json.loads(line) == value
    assert "Grüße 雨" in line
    assert printable_json('{\n "a": 1}', keep="\n") == '{\n "a": 1}'


def test_watch(recommendation: Recommendation, titles: Titles) -> None:
    value = encode_record(recommendation)
    user = recommendation.user_id
    for as_json in (False, True):
        shown = {"placement": None, "top": 3, "as_json": as_json}
        lines = watch._lines(titles, user, value, **shown)
        lines += watch._lines(titles, user, None, **shown)
        assert not any(map(unsafe, lines)), lines
        assert not any("\n" in line for line in lines)
        if as_json:
            assert json.loads(lines[0]) == json.loads(value)
            assert json.loads(lines[1]) == {"user_id": user, "forgotten": True}


@pytest.mark.parametrize("as_json", [False, True])
def test_send(
    hostile: str,
    recommendation: Recommendation,
    as_json: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = SimpleNamespace(topic="clicks", partition=0, offset=1)
    event = {"type": "click", "user_id": hostile, "item_id": hostile, "properties": {"a": hostile}}
    send._show_sent(sent, event, as_json=as_json)
    answer = Reflected(1.0, recommendation, encode_record(recommendation))
    send._show_list(answer, 2.0, as_json=as_json)
    shown = capsys.readouterr().out
    assert not unsafe(shown)
    assert shown.count("\n") == (2 if as_json else 4)


def test_demo(hostile: str, recommendation: Recommendation, titles: Titles) -> None:
    happened = screen.Happened(hostile, hostile)
    lines = screen.Screen(titles).render(recommendation, happened, 1.0, by_hand=True)
    lines.append(screen.own_click("freshet", "b:1", [(hostile, hostile), (hostile, hostile)]))
    for line in lines:
        plain = line.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "")
        assert not unsafe(plain), line
    assert not unsafe(fit(hostile, 20))


def test_other_commands(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    doctor._print(Finding("broker", "fault", hostile, hostile, (hostile,)))
    log = replay.Log(bad=[(1, hostile)])
    replay._report(log, 1.0, as_json=False)
    replay._report(log, 1.0, as_json=True)
    forget._show(hostile, [receipt()], 1.0)
    captured = capsys.readouterr()
    assert not unsafe(captured.out + captured.err)


def receipt() -> Receipt:
    fields: dict[str, Any] = {
        "user_hash": "00",
        "removed": ["recommendations"],
        "completed_ms": 1,
        "erasure": {"topic": "erasures", "partition": 0, "offset": 1, "event_time_ms": 2},
        "copies_until_ms": {"clicks": None, "purchases": 5},
        "copies_unknown": ["answers"],
    }
    return msgspec.convert(fields, Receipt)


def test_text_that_is_safe_stays(hostile: str) -> None:
    assert not unsafe(printable(hostile))
    assert printable("Grüße 雨 🙂") == "Grüße 雨 🙂"


def poll(data: bytes, start: int) -> list[Any]:
    """What kafka-python's consumer makes of a fetch."""
    records = Fetcher.PartitionRecords(
        start,
        TopicPartition("clicks", 0),
        unpack._Stretch(data),
        on_drain=lambda _: None,
        metric_aggregator=None,
    )
    found: list[Any] = records.take()
    assert records.next_fetch_offset == 9
    return found


def test_the_commands_read_what_a_worker_reads() -> None:
    sent = [Sent(b"a", b"1", [(ODD_NAME, None), ("b", b"\xff")]), Sent(None, None)]
    data = stored(sent, base=3, codec="zstd") + stored(sent, base=5, codec="lz4")
    data += bomb("gzip", 64 << 20, base=7) + stored(sent[:1], base=8, codec="snappy")
    found = poll(data, 4)
    assert [(record.offset, record.key) for record in found] == [
        (4, None),
        (5, b"a"),
        (6, None),
        (7, None),
        (8, b"a"),
    ]
    assert found[1].headers == [("\ufffd", None), ("b", b"\xff")]
    assert isinstance(found[3].value, Unreadable)
