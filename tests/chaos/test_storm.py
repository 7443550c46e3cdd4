"""A short storm: `make chaos` in small, with kills at random (`test_points.py` has the others).

Every state exact, every event in a list, every bad record kept, whatever died.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.conftest import SEED
from tests.chaos.run import Plan, run
from tests.chaos.schedule import OTHERS
from tests.chaos.storm_broker import StormKafka, possible
from tests.support.brokers import remove_data

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(600), pytest.mark.long]

KILLS = int(os.environ.get("KILLS", "4"))


def test_a_storm_leaves_every_state_exact_and_every_event_reflected(
    broker_kind: str, unique: str, tmp_path: Path
) -> None:
    plan = Plan(SEED, KILLS, rate=400, kill_kinds=("kill",) * KILLS)
    with StormKafka(tmp_path / "broker" / "kafka") as broker:
        report = run(plan, broker, unique, tmp_path, print)
    remove_data(tmp_path / "broker")
    print(report.table())
    assert report.right, report.table()
    assert report.kills == KILLS
    assert set(report.happened) == {"kill", *possible(OTHERS)}
    assert report.verdict.bad_records > 0
    assert report.verdict.erasures > 0
    assert report.verdict.owners > KILLS // 2, "the kills must have hit workers with partitions"
