"""Parquet logs: rows are read as lines of `events` are, and passed or refused alike."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from export.data.dataset import read_log
from stream.contracts import EventType
from stream.errors import UsageError
from stream.logs import BadLines, read_events
from tests.support.logs import told

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def test_parquet_without_its_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "log").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"freshet\[parquet\]"):
        read_log(tmp_path / "log", "parquet")


def write(path: Path, **columns: object) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_rows_are_events(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log.parquet",
        user_id=[7, 8, 8],
        item_id=["a", "b", "a"],
        type=["click", "purchase", "stare"],
        event_time_ms=[BEGIN, BEGIN.replace(hour=1), BEGIN],
        quantity=[None, 2.0, None],
        title=["A", "B", "A"],
        brand=["acme", None, ""],
        price=[3.5, None, 3.5],
        warehouse=["x", "y", "z"],
    )
    log = read_log(path, "parquet")
    assert told(log) == [("7", "a"), ("8", "b")]
    assert log.event_type.tolist() == [EventType.CLICK, EventType.PURCHASE]
    assert log.time_ms[0] == BEGIN.timestamp() * 1000
    assert log.quantity.tolist() == [1, 2]
    assert log.titles == {"a": "A", "b": "B"}
    assert log.attributes == {"a": {"brand": "acme", "price": "2-4"}}
    bad = BadLines()
    first, _ = read_events(path, "parquet", bad)
    assert json.loads(first.value) == {
        "user_id": 7,
        "item_id": "a",
        "type": "click",
        "event_time_ms": int(BEGIN.timestamp() * 1000),
    }
    assert bad == [(3, "unknown_type (type)")]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "short", user_id=["u"], item_id=["i"])
    with pytest.raises(UsageError, match="no column type, event_time_ms"):
        read_log(path, "parquet")
    path.write_bytes(b"user,item\n1,2\n")
    with pytest.raises(UsageError, match="--format"):
        read_log(path, "parquet")
