"""The commands without a broker: help, usage, error texts, exit codes, and their pure parts."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wcwidth
from hypothesis import given, settings
from hypothesis import strategies as st

from export.data import dataset
from stream.cli import COMMANDS, ask, main
from stream.cli.common import fit, printable
from stream.cli.lists import Titles
from stream.cli.reflected import Lists
from stream.cli.replay import Log, read_log
from stream.cli.screen import Happened, Screen
from stream.cli.shoppers import (
    LOOKED_AT,
    MISLED,
    TEMPTED,
    Shop,
    Tally,
    category_of,
    is_simulated,
    to_choose_from,
)
from stream.cli.simulate import event_record
from stream.config import Settings
from stream.contracts import (
    EVENT_TYPES,
    Answer,
    AnsweredItem,
    Because,
    Cause,
    Interaction,
    Item,
    Kind,
    ListedItem,
    RankedList,
    Reason,
    Recommendation,
    UserState,
    decode_events,
    encode_record,
    event_hash,
)
from stream.demo import sample
from stream.errors import FreshetError, UsageError
from stream.logs import FORMATS
from stream.words.settings import Wording
from stream.words.templates import Words

WORDS = Words.of(Wording())

LEAVES = [
    *((name,) for name in COMMANDS if name not in ("topics", "bundle", "completion")),
    ("topics", "create"),
    ("topics", "check"),
    ("bundle", "show"),
    ("bundle", "check"),
]
AT_BROKER = {
    "send": ["send", "click", "--user", "u1", "--item", "i1"],
    "watch": ["watch"],
    "ask": ["ask", "list", "--user", "u1"],
    "simulate": ["simulate"],
    "topics create": ["topics", "create"],
    "topics check": ["topics", "check"],
    "replay": ["replay", str(sample.EVENTS)],
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", "BOOTSTRAP", "BUNDLE", "PROVIDER"):
        monkeypatch.delenv(f"FRESHET_{name}", raising=False)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody answers, and nobody else can start to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_names_the_common_options(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--config" in shown
    assert "--bootstrap" in shown


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("freshet")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["send", "click", "--user", "u1"],
        ["send", "clack", "--user", "u1", "--item", "i1"],
        ["send", "click", "--user", "u1", "--item", "i1", "--price", "3"],
        ["send", "click", "--user", "u1", "--item", "i1", "--property", "novalue"],
        ["send", "click", "--user", "u1", "--item", "i1", "--wait", "--timeout", "0"],
        ["ask", "list"],
        ["ask", "best", "--user", "u1"],
        ["ask", "rank", "--user", "u1"],
        [
            "ask",
            "rank",
            "--user",
            "u1",
            "--candidate",
            "i1",
            "--relevance",
            "1",
            "--relevance",
            "2",
        ],
        ["ask", "similar", "--user", "u1"],
        ["ask", "list", "--user", "u1", "--k", "0"],
        ["ask", "list", "--user", "", "--timeout", "1"],
        ["replay", "log", "--speed", "0"],
        ["replay", "log", "--speed", "fast"],
        ["replay", "/no/such/log"],
        ["simulate", "--rate", "-1"],
        ["simulate", "--drift", "2"],
        ["simulate", "--new-items", "0"],
        ["watch", "--count", "0"],
        ["watch", "--bootstrap", "no port"],
        ["watch", "--config", "/no/such/file"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_one_message(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert "rror: " in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("arguments", AT_BROKER.values(), ids=AT_BROKER)
def test_no_broker_is_1_and_says_the_cure(
    arguments: list[str],
    nobody: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main([*arguments, "--bootstrap", nobody]) == 1
    shown = capsys.readouterr().err
    assert f"no Kafka broker answers at {nobody}" in shown
    assert "freshet broker" in shown
    assert "FRESHET_BOOTSTRAP" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (["click", "--user", "", "--item", "i1"], "empty_id in user_id"),
        (["click", "--user", "u" * 257, "--item", "i1"], "user_id"),
        (["click", "--user", "\udcff", "--item", "i1"], "UTF-8"),
        (["click", "--user", "u1", "--item", "i1", "--time-ms", "1700000000"], "event_time"),
        (["purchase", "--user", "u1", "--item", "i1", "--quantity", "-1"], "quantity"),
    ],
)
def test_send_refuses_what_would_be_a_dead_letter(
    event: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *event]) == 2
    assert why in capsys.readouterr().err


def test_worker_without_a_bundle_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["worker"]) == 2
    assert "FRESHET_BUNDLE" in capsys.readouterr().err


# Bundles


def test_bundle_show_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", str(sample.BUNDLE), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    written = json.loads((sample.BUNDLE / "manifest.json").read_text())
    assert manifest == {
        "content": None,
        "exclude_bought": True,
        "item_storage": "float32",
        "recent": 0,
        "head": None,
        **written,
    }  # which a bundle from before it does not say
    assert main(["bundle", "check", str(sample.BUNDLE), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["id"] == manifest["id"]


def test_damaged_bundle_is_1_and_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(sample.BUNDLE, folder)
    damaged = folder / "update.onnx"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for arguments in (["bundle", "check", str(folder)], ["worker", "--bundle", str(folder)]):
        assert main(arguments) == 1
        shown = capsys.readouterr().err
        assert "update.onnx" in shown
        assert "checksum" in shown


# Doctor


def test_doctor_tells_each_fault(
    nobody: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--json", "--bootstrap", nobody]) == 1
    told = json.loads(capsys.readouterr().out)
    status = {finding["check"]: finding["status"] for finding in told["findings"]}
    assert told["ok"] is False
    assert status.pop("worker") in ("note", "ok", "fault"), "whatever runs on this machine"
    assert status == {
        "versions": "ok",
        "machine": "ok",
        "configuration": "ok",
        "broker": "fault",
        **dict.fromkeys(("clock", "topics", "rights", "lag", "partitioner"), "skip"),
        "bundle": "fault",
        "provider": "skip",
        "disk": "skip",
    }


def test_doctor_with_wrong_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_STATE_RING", "many")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "FRESHET_STATE_RING" in shown
    assert shown.count("needs the configuration") == 10


# The list that answers an event


class _Arriving:
    """A consumer of one topic: what `poll` answers, record by record."""

    def __init__(self, *records: tuple[bytes | None, bytes | None]) -> None:
        self._records = [SimpleNamespace(key=key, value=value) for key, value in records]

    def poll(self, timeout_ms: int) -> dict[str, list[SimpleNamespace]]:
        return {"recommendations": [self._records.pop(0)]} if self._records else {}


def _because_of(topic: str, partition: int, offset: int) -> bytes:
    cause = Cause(topic, partition, offset, 1_700_000_000_000)
    return encode_record(Recommendation("u1", {}, "m", "default", cause, 0))


@pytest.mark.parametrize("offset", [7, 9])
def test_the_first_list_that_reflects_the_event_is_the_answer(offset: int) -> None:
    wanted = _because_of("clicks", 2, offset)
    consumer = _Arriving(
        (b"u2", wanted),
        (None, wanted),
        (b"u1", None),
        (b"u1", b"no list"),
        (b"u1", _because_of("clicks", 2, 6)),
        (b"u1", _because_of("clicks", 3, 8)),
        (b"u1", _because_of("purchases", 2, 8)),
        (b"u1", wanted),
        (b"u1", _because_of("clicks", 2, offset + 1)),
    )
    event = SimpleNamespace(topic="clicks", partition=2, offset=7)
    answer = Lists(consumer, Settings()).await_list(b"u1", event, timeout_s=5)
    assert answer.value == wanted
    assert answer.recommendation.cause.offset == offset


def test_no_list_in_time_says_what_to_look_at() -> None:
    event = SimpleNamespace(topic="clicks", partition=2, offset=7)
    lists = Lists(_Arriving((b"u1", _because_of("clicks", 2, 6))), Settings())
    with pytest.raises(FreshetError, match="is a worker running"):
        lists.await_list(b"u1", event, timeout_s=0.01)


# The answer to a request


def _answer(request_id: str, **more: Any) -> Answer:
    told = {"placement": "home", "known_user": True, "model": "m", "variant": "default"}
    return Answer(
        **{
            **told,
            **{"request_id": request_id, "user_id": "u1", "type": "list"},
            **{"status": "answered", "generated_ms": 0},
            **more,
        }
    )


def test_the_answer_with_the_requests_id_is_the_one() -> None:
    wanted = encode_record(_answer("mine"))
    other = encode_record(_answer("other"))
    consumer = _Arriving((b"u1", other), (b"u1", None), (b"u1", b"{"), (b"u1", wanted))
    assert ask._await_answer(consumer, "mine", time.monotonic() + 5) == wanted
    assert ask._await_answer(_Arriving((b"u1", other)), "mine", time.monotonic() + 0.01) is None


def test_an_answer_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    because = (Because("click", "i2", 5, 0.25), Because("view", None, 5, -0.125))
    explained = AnsweredItem("i1\x1b[2J", 0.5, 1, Reason("click", "i2"), because=because)
    marked = AnsweredItem("i9", 0.0, 2, Reason("unknown"), mark="unknown")
    ask._show(_answer("r", items=(explained, marked), known_user=False), 12.34, WORDS)
    assert capsys.readouterr().out.splitlines() == [
        "list for u1, a guest: answered in 12.3 ms",
        "   1. i1\\x1b[2J  0.5000  (You clicked i2)",
        "      +0.2500  You clicked i2",
        "      -0.1250  You viewed an item that is not sold any more",
        "   2. i9  0.0000  (Not known here, unknown)",
    ]
    state = UserState(3, 5, (Interaction("like", "i4", 7),), 99, 2, 7.5, 5)
    ask._show(_answer("r", type="state", state=state), 1.0, WORDS)
    shown = capsys.readouterr().out
    assert "3 events, 99 bytes kept of them; bought 2 times for 7.5" in shown
    assert "like i4 at 7" in shown


# Text for a terminal


@settings(deadline=None)
@given(st.text())
def test_printable_leaves_nothing_that_moves_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()


def test_printable_escapes_and_keeps() -> None:
    assert printable("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"
    assert printable("Grüße 雨 🙂") == "Grüße 雨 🙂"
    assert printable("a\nb", keep="\n") == "a\nb"


@settings(deadline=None)
@given(st.text(), st.integers(1, 60))
def test_fit_fills_exactly(text: str, width: int) -> None:
    shown = fit(text, width)
    assert wcwidth.width(shown) == width
    assert wcwidth.wcswidth(shown) in (-1, width)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("LANTERN", "LANT…"),
        ("雨傘雨傘", "雨傘…"),
        ("é\N{COMBINING CEDILLA}tagère", "é\N{COMBINING CEDILLA}tag…"),
        ("e\N{COMBINING ACUTE ACCENT}t", "e\N{COMBINING ACUTE ACCENT}t   "),
        ("👍🏽👍🏽👍🏽", "👍🏽👍🏽…"),
    ],
)
def test_fit_cuts_between_what_a_reader_sees_as_characters(text: str, shown: str) -> None:
    assert fit(text, 5) == shown


def test_errors_with_hostile_text_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "/no/\x1b[2Jlog"]) == 2
    assert "\x1b" not in capsys.readouterr().err


# The demo's screen


def _recommendation(*items: ListedItem) -> Recommendation:
    cause = Cause("clicks", 0, 1, 1_700_000_000_000)
    return Recommendation("u1", {"home": RankedList(list(items))}, "m", "main", cause, 0)


def test_screen_fits_80_columns_and_marks_what_is_new() -> None:
    titles = Titles(WORDS)
    titles.learn(b"i1", b'{"item_id": "i1", "title": "%s"}' % (b"LONG " * 30))
    titles.learn(
        b"i2", '{"item_id": "i2", "title": "雨傘\\u001b[2J雨傘雨傘雨傘雨傘雨傘雨傘雨傘"}'.encode()
    )
    screen = Screen(titles)
    one = ListedItem("i1", 0.5, 1, Reason("click", "i2"), price=12345.678)
    two = ListedItem("i2", 0.25, 2, Reason("popular"))
    first = screen.render(_recommendation(one), Happened("click", "i1"), 4.25, by_hand=False)
    second = screen.render(_recommendation(one, two), None, 12345.6, by_hand=False)
    assert [line[:1] for line in first[2:]] == [" "]
    assert [line[:1] for line in second[2:]] == [" ", "+"]
    assert "4.2 ms" in first[1]
    assert "12345.68" in first[2]
    for line in first + second:
        plain = line.replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert "\x1b" not in plain
        assert sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in plain) <= 80


def test_reasons_in_words() -> None:
    titles = Titles(WORDS)
    titles.learn(b"i1", b'{"item_id": "i1", "title": "LUNCH BAG"}')
    assert titles.why(Reason("purchase", "i1")) == "You bought LUNCH BAG"
    assert titles.why(Reason("popular")) == "Popular now"
    assert titles.why(Reason("brand_new", "i9")) == "brand new i9"
    titles.learn(b"i1", None)
    assert titles.title("i1") == "i1"
    titles.learn(b"i1", b"not json")
    titles.learn(None, None)


# Logs


def _log(tmp_path: Path, content: bytes, log_format: str = "events") -> Log:
    path = tmp_path / "log"
    path.write_bytes(content)
    return read_log(path, log_format, lambda read_bytes: None)


def _event(user_id: str, time_ms: int, **other: object) -> bytes:
    event = {"user_id": user_id, "item_id": "i", "type": "click", "event_time_ms": time_ms}
    return json.dumps(event | other).encode()


def test_log_comes_in_event_time_order_with_bad_lines_by_number(tmp_path: Path) -> None:
    lines = [
        _event("u1", 1_700_000_000_002),
        b"not json",
        b"",
        _event("u2", 1_700_000_000_001, type="purchase"),
        _event("u3", 1_700_000_000),
        b'["a", "list"]',
        _event("u4", 1_700_000_000_002, type="impression"),
        _event("u5", 1_700_000_000_002, type="nonsense"),
        b'{"user_id": "\\ud800", "type": "click"}',
    ]
    log = _log(tmp_path, b"\n".join(lines))
    assert log.keys == [b"u2", b"u1", b"u4"]
    assert log.kinds == ["purchases", "clicks", "clicks"]
    assert log.values == [lines[3], lines[0], lines[6]]
    assert log.times_ms == sorted(log.times_ms)
    assert [number for number, _ in log.bad] == [2, 5, 6, 8, 9]
    assert all(reason for _, reason in log.bad)


def test_log_may_be_packed_and_is_told_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        gzip.compress(b"\n".join(_event(f"u{n}", 1_700_000_000_000) for n in range(3000)))
    )
    read: list[int] = []
    assert len(read_log(path, "events", read.append)) == 3000
    assert sum(read) == path.stat().st_size


def test_cut_archive_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(_event("u1", 1_700_000_000_000) * 100)[:-20])
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(path, "events", lambda read_bytes: None)


def test_online_retail_lines(tmp_path: Path) -> None:
    content = (
        b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        b"536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
        b"C536366,85123A,WHITE HANGING HEART,-1,2010-12-01 08:27:00,2.55,17850.0,United Kingdom\n"
        b"536367,71053,NO CUSTOMER,6,2010-12-01 08:28:00,3.39,,United Kingdom\n"
        b"536368,POST,POSTAGE,1,2010-12-01 08:29:00,18.0,17850.0,United Kingdom\n"
        b"536369,71053,NO DATE,6,soon,3.39,17850.0,United Kingdom\n"
    )
    log = _log(tmp_path, content, "online-retail")
    bought, cancelled = map(json.loads, log.values)
    assert bought["type"] == "purchase"
    assert bought["unit_price"] == 2.55
    assert cancelled["type"] == "cancel"
    assert cancelled["quantity"] == 1
    assert log.keys == [b"17850"] * 2
    assert [number for number, _ in log.bad] == [6]


SHOP_LOGS = {
    "events": [
        '{"user_id": 7, "item_id": "b", "type": "purchase", "event_time_ms": 1700000000009}',
        '{"user_id": "u", "item_id": 3, "type": "click", "event_time_ms": 1700000000001}',
        '{"user_id": "u", "item_id": "x", "type": "click", "event_time_ms": 17}',
        '{"user_id": "", "item_id": "x", "type": "click", "event_time_ms": 1700000000001}',
        "nonsense",
    ],
    "online-retail": [
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        "2,85123a,HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "2,85123A,HEART,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "1,71053, LANTERN ,6,2010-12-01 08:20:00,3.39,17851.0,United Kingdom",
        "3,POST,POSTAGE,1,2010-12-01 08:29:00,18.0,17850.0,United Kingdom",
        "4,71053,LANTERN,-5,2010-12-01 08:29:00,3.39,17850.0,United Kingdom",
        "5,71053,LANTERN,5,soon,3.39,17850.0,United Kingdom",
        "6,71053",
        "C2,85123a,HEART,-6,2010-12-01 09:26:00,2.55,17850.0,United Kingdom",
    ],
    "rees46": [
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session",
        "2019-10-01 00:00:02 UTC,cart,44600062,2,,shiseido,35.79,541312140,s1",
        "2019-10-01 00:00:01 UTC,purchase,3,2,,shiseido,35.79,541312141,",
        "2019-10-01 00:00:03 UTC,stare,3,2,,shiseido,35.79,541312141,s2",
    ],
    "ratings": ["1::1193::5::978300760", "1::661::bad::978302109", "2::1193::3.5::978300275"],
    "sessions": ["7 8 7", "", "8 " + "x" * 257],
    "histories": ["7 8 7", "8 " + "x" * 257, "8 9"],
}


def test_every_format_of_text_has_an_example() -> None:
    assert {*SHOP_LOGS, "parquet"} == set(FORMATS)


@pytest.mark.parametrize("log_format", SHOP_LOGS)
def test_replay_sends_what_training_sees(tmp_path: Path, log_format: str) -> None:
    content = "\n".join(SHOP_LOGS[log_format]).encode()
    log = _log(tmp_path, content, log_format)
    sent = []
    for key, value in zip(log.keys, log.values, strict=True):
        fields = json.loads(value)
        kind = EVENT_TYPES[fields["type"]]
        sent.append((key.decode(), str(fields["item_id"]), kind, fields["event_time_ms"]))
    told: list[str] = []
    seen = dataset.read_log(tmp_path / "log", log_format, told.append)
    users, items = ([seen.users[u] for u in seen.user], [seen.items[i] for i in seen.item])
    types = seen.event_type.tolist()
    assert len(sent) >= 2
    assert sent == list(zip(users, items, types, seen.time_ms.tolist(), strict=True))
    assert log.bad
    assert all(f"line {number}: " in told[0] for number, _ in log.bad)


def test_rees46_lines(tmp_path: Path) -> None:
    content = (
        b"event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        b"2019-10-01 00:00:00 UTC,view,44600062,2,,shiseido,35.79,541312140,s1\n"
        b"2019-10-01 00:00:01 UTC,cart,44600062,2,,shiseido,35.79,541312140,s1\n"
        b"2019-10-01 00:00:02 UTC,purchase,44600062,2,,shiseido,35.79,541312140,s1\n"
    )
    log = _log(tmp_path, content, "rees46")
    assert [json.loads(value)["type"] for value in log.values] == [
        "view",
        "add_to_cart",
        "purchase",
    ]
    assert log.kinds == ["clicks", "clicks", "purchases"]
    assert not log.bad


@pytest.mark.parametrize("log_format", sorted(set(SHOP_LOGS) - {"events"}))
def test_log_of_another_format_is_a_usage_error(tmp_path: Path, log_format: str) -> None:
    with pytest.raises(UsageError, match="--format"):
        _log(tmp_path, b"a,b\n1,2\n", log_format)


# The sample and the shoppers


def test_sample_has_a_catalogue_and_baskets_worth_watching() -> None:
    catalogue = dict(sample.catalogue())
    baskets = sample.read_baskets()
    steps = list(sample.visits(baskets, shoppers=3))
    assert len(catalogue) > 1000
    assert len({user_id for user_id, _, _ in steps}) == 3
    assert {event_type for _, event_type, _ in steps} == {"click", "purchase"}
    assert len({user_id for user_id, _, _ in steps[:3]}) == 3
    assert all(item_id.encode() in catalogue for item_id in sample.favourite_items(baskets, 2))


def test_missing_sample_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sample, "EVENTS", tmp_path / "gone.gz")
    with pytest.raises(FreshetError, match=r"gone\.gz"):
        sample.read_baskets()


def test_shoppers_of_one_seed_are_the_same_and_click_within_their_tastes() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}") for n in range(400)}
    shops = [Shop(items, 50, seed=7) for _ in range(2)]
    assert [s.tastes for s in shops[0].shoppers] == [s.tastes for s in shops[1].shoppers]
    assert [s.tastes for s in shops[0].shoppers] != [s.tastes for s in Shop(items, 50, 8).shoppers]

    shop, liked, random_lists = shops[0], Tally(), Tally()
    for shopper in shop.shoppers * 40:
        for tally, shown in (
            (liked, [n for n in items if category_of(items[n]) in shopper.tastes][:8]),
            (random_lists, list(items)[: 20 * 8 : 19]),
        ):
            shopper.shown, shopper.wants = shown, None
            shop.act(shopper, tally)
    assert liked.clicks / liked.looks > 0.8
    assert abs(random_lists.clicks / random_lists.looks - shop.chance_of_random_list()) < 0.1


def test_what_shoppers_send_can_be_used() -> None:
    shop = Shop({"i1": Item("i1", title="RED BAG"), "i2": Item("i2", title="BLUE BAG")}, 3, seed=1)
    assert category_of(Item("i1", title="red bag")) == "BAG"
    now_ms, tally, did = 1_700_000_000_000, Tally(), set()
    for number in range(500):
        shopper = shop.next_shopper()
        shopper.shown = ["i2", "i1"]
        done, item_id, listed = shop.act(shopper, tally)
        did.add((done, listed))
        value = event_record(
            shopper.user_id,
            done,
            item_id,
            event_id=f"e{number}",
            time_ms=now_ms,
            placement="home" if listed else None,
        )
        kind: Kind = "purchases" if done == "purchase" else "clicks"
        events, rejections = decode_events(kind, [shopper.user_id.encode()], [value], [0], now_ms)
        assert not rejections
        assert (events.items, events.types.tolist()) == ([item_id], [EVENT_TYPES[done]])
        assert events.event_hashes.tolist() == [event_hash(f"e{number}")]
        assert (b'"placement":"home"' in value) == listed
    assert did == {("view", False), ("click", True), ("purchase", False)}


def test_regret_is_what_the_best_list_for_these_tastes_has_more() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}") for n in range(400)}
    shop = Shop(items, 30, seed=3)
    for shopper in shop.shoppers:
        liked = [n for n in items if category_of(items[n]) in shopper.tastes]
        other = [n for n in items if n not in liked]
        for shown in (liked, liked[:3] + other, other):
            tally = Tally()
            while not tally.looks:
                shopper.shown, shopper.wants = shown, None
                shop.act(shopper, tally)
            fits = sum(n in liked for n in shown[:LOOKED_AT])
            stays = (1 - TEMPTED) ** fits * (1 - MISLED) ** (LOOKED_AT - fits)
            regret = stays - (1 - TEMPTED) ** LOOKED_AT
            assert tally.report()["regret"] == pytest.approx(regret, abs=1e-4)
            assert shopper.saw == shown[: len(shopper.saw)]


def test_tastes_drift_and_new_items_arrive() -> None:
    items = {f"i{n}": Item(f"i{n}", category=f"c{n % 20}", price=n) for n in range(400)}
    still, shop = Shop(items, 5, seed=4), Shop(items, 5, seed=4, drift=0.5)
    before = [shopper.tastes for shopper in shop.shoppers]
    for one in (still, shop):
        for _ in range(200):
            one.act(one.next_shopper(), Tally())
    assert [shopper.tastes for shopper in still.shoppers] == before
    assert all(now.tastes != then for now, then in zip(shop.shoppers, before, strict=True))
    new = [shop.arrive() for _ in range(3)]
    assert [item.item_id for item in new] == ["new-4-0", "new-4-1", "new-4-2"]
    (old,) = {old for old in items.values() if old.price == new[0].price}
    assert new[0].category == old.category
    tally, shopper = Tally(), shop.shoppers[0]
    while not tally.looks:
        shopper.shown, shopper.wants = ["new-4-1", "i1", "i2", "i3"], None
        shop.act(shopper, tally)
    assert tally.report()["new_items"] == 0.25
    assert shop.shown_new == {"new-4-1"}
    total = Tally(sent=1, delays_ms=[5])
    total.add(Tally(sent=2, best=0.5, delays_ms=[7]))
    assert total == Tally(sent=3, best=0.5, delays_ms=[5, 7])


def test_shoppers_choose_among_products() -> None:
    items = {"p": Item("p"), "c": Item("c", kind="coupon"), "a": Item("a", kind="ad")}
    assert set(to_choose_from(items)) == {"p"}
    del items["p"]
    assert set(to_choose_from(items)) == {"c", "a"}


def test_simulated_shoppers_are_known_by_their_names() -> None:
    shop = Shop({"i1": Item("i1", title="RED BAG")}, 3, seed=1)
    assert all(is_simulated(shopper.user_id.encode()) for shopper in shop.shoppers)
    assert not is_simulated(b"you-1a2b3c")
    assert not is_simulated(None)
