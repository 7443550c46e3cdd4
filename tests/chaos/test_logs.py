"""What a log held before it was compacted, and after; no broker: the files are written here."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tests.chaos.logs import Logs

TOPIC = "changelog"


def batch(base: int, *keys: bytes) -> bytes:
    """A batch as the broker writes it, its first record at offset `base`."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=7,
        producer_epoch=1,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for number, key in enumerate(keys):
        builder.append(number, 0, key, b"v", [])
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / f"{TOPIC}-0"
    folder.mkdir()
    return folder / "0.log"


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    logs = Logs("nowhere")
    logs._folders = {tmp_path}
    return logs


def keys(logs: Logs) -> list[bytes | None]:
    return [record.key for record in logs.records(TOPIC, 0)]


def test_a_log_that_lacks_records_is_none_to_judge_by(log: Path, logs: Logs) -> None:
    log.write_bytes(batch(0, b"a", b"b") + batch(2, b"a"))
    assert keys(logs) == [b"a", b"b", b"a"]
    log.write_bytes(batch(2, b"a"))
    with pytest.raises(ValueError, match="changelog-0 lacks offsets 0 on"):
        keys(logs)


def test_what_was_kept_stands_before_what_comes_after_compaction(log: Path, logs: Logs) -> None:
    log.write_bytes(batch(0, b"a", b"b") + batch(2, b"a"))
    assert logs.keep(TOPIC, 0).end == 3
    log.write_bytes(batch(2, b"a") + batch(3, b"nobody"))
    assert logs.keys_below(TOPIC, 0, 3) == [b"a"]
    logs.resume(TOPIC, 0)
    log.write_bytes(batch(2, b"a") + batch(3, b"nobody") + batch(4, b"c", b"d"))
    assert keys(logs) == [b"a", b"b", b"a", b"c", b"d"]
    log.write_bytes(batch(2, b"a") + batch(3, b"nobody") + batch(6, b"e"))
    with pytest.raises(ValueError, match="lacks offsets 4 on"):
        keys(logs)
