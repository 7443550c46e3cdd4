"""Hostile records through a real worker: a short run of what `make fuzz` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.fuzz.live import Session
from tests.unit.test_fuzz import SEED


@pytest.mark.kafka_only
def test_a_worker_takes_everything(broker: BrokerProcess, unique: str, tmp_path: Path) -> None:
    live = Session(broker.bootstrap, unique, tmp_path / "live", SEED).run(1_000, 100 << 20)
    assert live.wrong == []
    assert live.letters > 500
    assert live.good > 200
    assert {reason for _, reason in live.reasons} >= {"batch_too_large", "not_json", "key_mismatch"}
    print(f"the worker grew by {live.grown_mib:.0f} MiB")
    # The bombs of five topics, four on each, cost no more than the largest look at some of them
    # (`python -m tests.fuzz.bombs`), twice over; the rest is the records around them, and what the
    # allocator takes beside other work. That memory does not grow with the number of bombs is held
    # by tests/unit/test_bombs.py.
    assert live.grown_mib < 300
