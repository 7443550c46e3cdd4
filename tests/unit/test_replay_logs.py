"""Logs as `replay` reads them, format by format, beside what training sees of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from export.data import dataset
from stream.cli.replay import Log, read_log
from stream.contracts import EVENT_TYPES
from stream.errors import UsageError
from stream.logs import FORMATS


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
