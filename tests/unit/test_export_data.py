"""Logs are read as they are, or refused with the line; the committed sample is made from one."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from export.data import columns, reading
from export.data.catalogue import read_items
from export.data.dataset import SESSION_GAP_MS, read_cases, read_log
from export.data.sample import (
    EVENTS_FILE,
    ITEMS_FILE,
    Sample,
    catalogue_records,
    choose,
    event_records,
)
from export.data.splits import by_session
from stream.contracts import CLICK_TYPES, EventType, Kind, decode_events, decode_item
from stream.core.bundle import Bundle
from stream.errors import UsageError
from stream.logs import sessions
from tests.support.logs import told

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "stream" / "demo" / "data"
RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def line(user: str, item: str, second: int, **fields: object) -> str:
    record = {"user_id": user, "item_id": item, "type": "click", **fields}
    return json.dumps({**record, "event_time_ms": 1_700_000_000_000 + second * 1000})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(text + "\n" for text in lines))
    return path


def real_data(name: str) -> Path:
    """A folder of real logs; skips the test where it is absent."""
    folder = Path(os.environ.get("FRESHET_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"FRESHET_DATA names no folder with {name}/")
    return folder


def test_events_are_read_in_time_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        line("u1", "late", 9, type="purchase", quantity=3, unit_price=1.5),
        "",
        line("u1", "early", 1, unknown={"x": [1]}),
        line("u2", 7, 5),  # type: ignore[arg-type]
    )
    log = read_log(path, "events")
    assert [log.items[i] for i in log.item] == ["early", "7", "late"]
    assert log.event_type.tolist() == [EventType.CLICK, EventType.CLICK, EventType.PURCHASE]
    assert (log.quantity[2], log.price[2]) == (3, 1.5)
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_log(packed, "events").time_ms.tolist() == log.time_ms.tolist()


def test_visits_end_after_a_pause_and_never_mix_users(tmp_path: Path) -> None:
    gap = SESSION_GAP_MS // 1000
    path = write(
        tmp_path / "log",
        line("u1", "a", 0),
        line("u2", "a", 1),
        line("u1", "b", gap),
        line("u1", "c", 2 * gap + 1),
        line("u1", "d", 3, session_id="x"),
        line("u2", "d", 4, session_id="x"),
    )
    log = read_log(path, "events")
    visit = {
        (log.users[u], log.items[i]): s
        for u, i, s in zip(log.user, log.item, log.session, strict=True)
    }
    assert visit["u1", "a"] == visit["u1", "b"]
    assert len(set(visit.values())) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        (line("u", "i", 0, type="stare"), "line 2: unknown_type"),
        (line("", "i", 0), "line 2: empty_id"),
        ('{"user_id":"u","item_id":"i","type":"click"}', "line 2.*event_time_ms"),
    ],
)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, text: str, message: str) -> None:
    told: list[str] = []
    log = read_log(write(tmp_path / "log", line("u", "i", 0), text), "events", told.append)
    assert len(log) == 1
    assert len(told) == 1
    assert re.search(message, told[0])


def test_times_in_seconds_are_told_as_such(tmp_path: Path) -> None:
    record = {"user_id": "u", "item_id": "i", "type": "click"}
    for time, seconds in ((1_700_000_000, True), (946_684_800, True), (5, False), (-1, False)):
        log = write(tmp_path / "log", json.dumps({**record, "event_time_ms": time}))
        hint = ": looks like seconds; write milliseconds" if seconds else ""
        told = re.escape(f"(line 1: event_time_too_old (event_time_ms){hint})")
        with pytest.raises(UsageError, match=f"holds no event .*{told}$"):
            read_log(log, "events")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"x" * 1000)[:15])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "none at all").mkdir()
    (tmp_path / "lines").mkdir()
    for name in ("a", "b"):
        (tmp_path / "lines" / name).write_text("no JSON\n")
    for name, message in [
        ("none", "no such file"),
        ("binary", "holds no event .*line 1"),
        ("cut.gz", "cannot be read"),
        ("empty", "empty: is empty; give a log that holds something"),
        ("none at all", "is a folder without files; give the path of an event log"),
        ("lines", r"lines: is a folder, and none of its 2 files holds an event .* \(a, line 1: is"),
        (".", "cannot be read"),
    ]:
        with pytest.raises(UsageError, match=message):
            read_log(tmp_path / name, "events")
    with pytest.raises(UsageError, match="events, parquet, online-retail"):
        read_log(tmp_path / "none", "xml")
    for format_name in ("rees46", "online-retail", "ratings", "parquet"):
        with pytest.raises(UsageError, match="empty: is empty; give"):
            read_log(tmp_path / "empty", format_name)
    with pytest.raises(UsageError, match="empty: is empty; give"):
        read_cases(tmp_path / "empty")
    with pytest.raises(UsageError, match="lines: is a folder; give one file"):
        read_cases(tmp_path / "lines")


def test_online_retail_keeps_what_known_customers_bought(tmp_path: Path) -> None:
    path = write(
        tmp_path / "retail.csv",
        RETAIL_HEADER,
        "1,85123a,GOOD NAME,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "1,85123A,GOOD NAME,2,2010-12-01 08:26:00,2.55,17850.0,United Kingdom",
        "2,85123A,wrong,1,2010-12-01 08:27:00,2.55,17851.0,United Kingdom",
        "3,85123A,GOOD NAME,1,2010-12-01 08:28:00,2.55,,United Kingdom",
        "4,POST,POSTAGE,1,2010-12-01 08:28:00,2.55,17850.0,United Kingdom",
        "5,71053,LANTERN,-1,2010-12-01 08:29:00,3.39,17850.0,United Kingdom",
        "C6,85123A,GOOD NAME,-6,2010-12-01 09:00:00,2.55,17850.0,United Kingdom",
    )
    log = read_log(path, "online-retail")
    assert [(log.users[u], log.items[i]) for u, i in zip(log.user, log.item, strict=True)] == [
        ("17850", "85123A"),
        ("17851", "85123A"),
        ("17850", "85123A"),
    ]
    assert log.event_type.tolist() == [EventType.PURCHASE, EventType.PURCHASE, EventType.CANCEL]
    assert log.quantity.tolist() == [6, 1, 6]
    assert log.titles == {"85123A": "GOOD NAME"}
    assert log.ends == "2010-12-01T09:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("InvoiceNo,StockCode", "no column Description"),
        (f"{RETAIL_HEADER}\n1,85123A,X,many,2010-12-01 08:26:00,2.55,1.0,UK", "line 2"),
        (f"{RETAIL_HEADER}\n1,85123A,X,1,yesterday,2.55,1.0,UK", "line 2"),
        (f"{RETAIL_HEADER}\n1,85123A", "line 2: 2 columns, the header has 8"),
    ],
)
def test_other_csv_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_log(write(tmp_path / "x.csv", text), "online-retail")


def test_sessions_are_visits_of_strangers_in_the_order_of_their_lines(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log", "9 8 9", "", "8"), "sessions")
    assert [log.users[u] for u in log.user] == ["s1", "s1", "s1", "s3"]
    assert [log.items[i] for i in log.item] == ["9", "8", "9", "8"]
    assert np.diff(log.time_ms).tolist() == [1000, 1000, 61_000]
    assert log.session.tolist() == [0, 0, 0, 1]
    assert set(log.event_type.tolist()) == {EventType.CLICK}


def test_histories_end_together(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "log", "a b c", "d e"), "histories")
    assert [log.items[i] for i in log.item] == ["a", "b", "d", "c", "e"]
    assert [log.users[u] for u in log.user] == ["u1", "u1", "u2", "u1", "u2"]
    assert len(set(log.session.tolist())) == 5
    assert (np.diff(log.time_ms[log.user == 0]) > SESSION_GAP_MS).all()


def test_ratings_are_read_in_both_forms(tmp_path: Path) -> None:
    old = read_log(
        write(tmp_path / "old", "1::50::5::978300760", "2::51::3.5::978300761"), "ratings"
    )
    header = "userId,movieId,rating,timestamp"
    path = write(tmp_path / "new", header, "1,50,5.0,978300760", "2,51,3.5,978300761")
    for log in (old, read_log(path, "ratings")):
        assert log.rating.tolist() == [5, 3.5]
        assert told(log) == [("1", "50"), ("2", "51")]
        assert log.ends == "2000-12-31T22:12:41+00:00"
    clicks = read_log(
        write(tmp_path / "log", line("u", "i", 0, properties={"rating": "A"})), "events"
    )
    assert np.isnan(clicks.rating).all()


def test_what_lines_and_catalogue_say_of_items(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rees.csv",
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session",
        "2019-10-01 00:00:00 UTC,view,1,2,tools.drill,acme,35.79,7,s",
        "2019-10-01 00:00:01 UTC,view,2,2,,,,7,s",
        "2019-10-01 00:00:02 UTC,view,3,2,,acme,odd,7,s",
    )
    log = read_log(path, "rees46")
    assert log.attributes == {
        "1": {"category": "tools.drill", "brand": "acme", "price": "32-64"},
        "3": {"brand": "acme"},
    }
    catalogue = write(
        tmp_path / "items",
        '{"item_id": "1", "title": "Drill", "price": 0.75, "tags": ["new", "red"]}',
        '{"item_id": 2, "kind": "coupon", "embedding": [1, 0.5]}',
        '{"item_id": "9", "title": "Never seen", "category": "x"}',
        '{"item_id": "9", "title": 9}',
        "[]",
    )
    said: list[str] = []
    log = read_log(path, "rees46", items=read_items([catalogue], said.append))
    assert log.titles == {"1": "Drill", "9": "Never seen"}
    drill = {"category": "tools.drill", "brand": "acme", "price": "0.5-1", "tags": "new red"}
    assert log.attributes == {
        "1": drill,
        "2": {"kind": "coupon"},
        "3": {"brand": "acme"},
        "9": {"category": "x"},
    }
    assert log.embeddings["2"].tolist() == [1, 0.5]
    assert "2 bad lines" in said[0]
    with pytest.raises(UsageError, match=r"no item \(line 1"):
        read_items([write(tmp_path / "none", "[]")])


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    write(tmp_path / "2", line("u", "b", 0), "nonsense")
    write(tmp_path / "1", line("u", "a", 0))
    log = read_log(tmp_path, "events")
    assert told(log) == [("u", "a"), ("u", "b")]
    assert log.unusable == {"is not JSON": 1}
    with pytest.raises(UsageError, match="named after its lines"):
        read_log(tmp_path, "sessions")


def test_a_log_on_disk_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lines = [
        line(f"u{u}", f"i{i}", int(at), session_id=None if at % 3 else f"s{at // 3000}")
        for u, i, at in zip(*rng.integers(0, [[9], [50], [90_000]], (3, 500)), strict=True)
    ]
    path = write(tmp_path / "log", *lines)
    whole = read_log(path, "events")
    monkeypatch.setattr(columns, "BLOCK", 64)
    monkeypatch.setattr(reading, "BLOCK", 64)
    scratch = tmp_path / "scratch"
    log = read_log(path, "events", scratch=scratch)
    half = whole.select(whole.item % 2 == 0), log.select(log.item % 2 == 0)
    early = tuple(found.before(int(whole.time_ms[250])) for found in (whole, log))
    for in_memory, on_disk in [(whole, log), half, early]:
        for name in reading.COLUMNS:
            expected, found = getattr(in_memory, name), getattr(on_disk, name)
            assert found.dtype == reading.COLUMNS[name] == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert isinstance(half[1].item.base, np.memmap)
    assert list(scratch.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--scratch"):
        read_log(path, "events", scratch=tmp_path / "file")


def test_sessions_are_numbered_by_their_first_event(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        line("b", "i", 5, session_id="x"),
        line("a", "i", 1),
        line("b", "i", 2, session_id="y"),
        line("a", "i", 6),
        line("b", "i", 7, session_id="y"),
    )
    assert read_log(path, "events").session.tolist() == [0, 1, 2, 0, 1]


def test_prefixes_are_cases(tmp_path: Path) -> None:
    told: list[str] = []
    path = write(tmp_path / "test", "a b\ta", "c\tnew", "b", "\tb", "a\tb c", "a\t" + "x" * 257)
    cases = read_cases(path, told.append)
    assert len(cases) == 2
    assert cases.log.users == ["c1", "c2"]
    assert [[cases.log.items[code] for code in found] for found in cases.targets] == [
        ["a"],
        ["new"],
    ]
    assert [cases.log.items[i] for i in cases.log.item] == ["a", "b", "c"]
    assert cases.log.user.tolist() == [0, 0, 1]
    assert np.diff(cases.log.time_ms).tolist() == [1000, 61_000]
    assert "4 bad lines" in told[0]
    assert "line 3: no tab" in told[0]


@pytest.mark.parametrize("format_name", ["sessions", "histories"])
def test_files_of_other_formats_are_no_sessions(tmp_path: Path, format_name: str) -> None:
    for text, message in [("1 2\t3", "a tab"), ("1,2", "a comma"), (line("u", "i", 0), "is JSON")]:
        for lines in (["", text], [text] * sessions._TRIED + ["1 2"]):
            with pytest.raises(UsageError, match=rf"line \d .*{message}.*is --format right"):
                read_log(write(tmp_path / "log", *lines), format_name)


@pytest.mark.parametrize("bad", ["1,2", "1 2\t3", "{x} 2", "1 \xff", "1 " + "x" * 257])
@pytest.mark.parametrize("before", [[], ["1 2"]])
@pytest.mark.parametrize("format_name", ["sessions", "histories"])
def test_one_bad_id_costs_its_line_and_no_other(
    tmp_path: Path, format_name: str, before: list[str], bad: str
) -> None:
    told: list[str] = []
    path = tmp_path / "log"
    path.write_bytes("".join(f"{text}\n" for text in [*before, bad, "3 4"]).encode("latin-1"))
    log = read_log(path, format_name, told.append)
    assert {"3", "4", *" ".join(before).split()} <= set(log.items)
    assert not {"1,2", "{x}", "2\t3"} & set(log.items)
    (said,) = told
    assert f"1 bad line left out: line {len(before) + 1}: " in said
    assert sum(log.unusable.values()) == 1


def test_a_case_with_a_comma_is_a_bad_line(tmp_path: Path) -> None:
    told: list[str] = []
    cases = read_cases(write(tmp_path / "test", "1,2\t3", "1 2\t3"), told.append)
    assert cases.log.users == ["c2"]
    assert "line 1: has a comma" in told[0]


def test_an_id_that_no_bundle_could_hold_is_a_bad_line(tmp_path: Path) -> None:
    told: list[str] = []
    log = read_log(
        write(tmp_path / "log", line("u", "a\0", 0), line("u", "b", 1)), "events", told.append
    )
    assert log.items == ["b"]
    assert "line 1: item_id ends in a NUL" in told[0]


def test_the_real_sessions_and_their_test_cases() -> None:
    folder = real_data("diginetica")
    cases = read_cases(folder / "test_prefixes.txt.gz")
    assert len(cases) == len(cases.log.users) == 60_858
    assert np.unique(cases.log.user).size == 60_858
    assert (np.diff(cases.log.time_ms) > 0).all()


def test_the_real_shop_log_with_what_it_says_of_its_items() -> None:
    log = read_log(real_data("rees46-sample") / "2019-Oct.csv.gz", "rees46")
    assert len(log) == 17_434
    assert set(log.event_type.tolist()) == {1, 3, 8}
    assert set(log.attributes) == set(log.items)
    train, cases = by_session(log)
    assert train.time_ms[-1] < cases.log.time_ms[-1]
    assert len(cases) > 1_000


def test_the_committed_sample_decodes_and_fits_its_bundle() -> None:
    texts = gzip.decompress((DEMO / ITEMS_FILE).read_bytes()).splitlines()
    items = [decode_item(json.loads(text)["item_id"].encode(), text) for text in texts]
    assert all(item is not None and item.title and item.price for item in items)
    known = {item.item_id for item in items if item is not None}
    assert set(Bundle.load(DEMO / "bundle").item_ids[1:]) <= known
    texts = gzip.decompress((DEMO / EVENTS_FILE).read_bytes()).splitlines()
    records = [json.loads(text) for text in texts]
    times = [record["event_time_ms"] for record in records]
    assert times == sorted(times)
    assert len({record["user_id"] for record in records}) == 600
    kinds: tuple[Kind, ...] = ("clicks", "purchases")
    for kind in kinds:
        chosen = [
            i for i, r in enumerate(records) if (r["type"] in CLICK_TYPES) == (kind == "clicks")
        ]
        chosen = chosen[:: max(1, len(chosen) // 5_000)]
        keys = [records[i]["user_id"].encode() for i in chosen]
        events, rejected = decode_events(
            kind, keys, [texts[i] for i in chosen], chosen, times[-1] + 1
        )
        assert rejected == []
        assert set(events.items) <= known
    assert sum(f.stat().st_size for f in DEMO.rglob("*") if f.is_file()) < 3_000_000


def test_derived_carts_stand_before_their_purchase(tmp_path: Path) -> None:
    path = write(
        tmp_path / "retail.csv",
        RETAIL_HEADER,
        *(f"1,1000{i},NAME {i},2,2011-10-01 08:26:00,2.5,1.0,UK" for i in range(3)),
        "C2,10001,NAME 1,-2,2011-10-02 08:26:00,2.5,1.0,UK",
    )
    log = choose(read_log(path, "online-retail"), Sample())
    records = event_records(log)
    assert [r.type for r in records] == ["add_to_cart"] * 3 + ["purchase"] * 3 + ["cancel"]
    carts = records[:3]
    assert [c.item_id for c in carts] == ["10000", "10001", "10002"]
    assert [records[3].event_time_ms - c.event_time_ms for c in carts] == [30_000, 20_000, 10_000]
    assert all(c.properties == {"derived": True} for c in carts)
    assert len({r.event_id for r in records}) == len(records)
    assert [i.title for i in catalogue_records(log)] == ["NAME 0", "NAME 1", "NAME 2"]


def test_a_month_of_the_real_log(tmp_path: Path) -> None:
    path = real_data("online-retail") / "online_retail.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        text = "".join(itertools.islice(lines, 42_482))  # up to the end of 2010
    log = read_log(write(tmp_path / "retail.csv", text), "online-retail")
    assert log.ends.startswith("2010-12-23")
    assert (np.diff(log.time_ms) >= 0).all()
    assert set(log.event_type.tolist()) == {int(EventType.PURCHASE), int(EventType.CANCEL)}
    assert all(item[:5].isdigit() for item in log.items)
    assert (log.quantity > 0).all()
