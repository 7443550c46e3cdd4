"""Short storms: `make chaos` in small, with kills at random (`test_points.py` has the others).

Every state exact, every event in a list, every bad record kept, whatever died. In one of them all
users stay, under their ids; in the other one they leave and come back, under pseudonyms.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.keeping import BRIEF
from tests.chaos.run import Plan, Report, run
from tests.chaos.schedule import OTHERS
from tests.chaos.shop import PARTITIONS
from tests.chaos.storm_broker import StormKafka, possible
from tests.support.brokers import remove_data
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(600), pytest.mark.long]

KILLS = int(os.environ.get("KILLS", "4"))
OTHERS_OF_BRIEF = ("sleep", "terminate", "join", "leave", "broker")
MOST_LATE = 512  # users of two batches, who may stay a step longer than their limit says


def storm(plan: Plan, unique: str, folder: Path) -> Report:
    with StormKafka(folder / "broker" / "kafka") as broker:
        report = run(plan, broker, unique, folder, print)
    remove_data(folder / "broker")
    print(report.table())
    assert report.right, report.table()
    assert report.kills == KILLS
    assert report.verdict.bad_records > 0
    assert report.verdict.erasures > 0
    assert report.verdict.list_events > report.verdict.named_events > 0
    assert report.verdict.unknown_names > 0
    assert report.verdict.owners > KILLS // 2, "the kills must have hit workers with partitions"
    return report


def test_a_storm_leaves_every_state_exact_and_every_event_reflected(
    broker_kind: str, unique: str, tmp_path: Path
) -> None:
    plan = Plan(SEED, KILLS, rate=400, kill_kinds=("kill",) * KILLS)
    report = storm(plan, unique, tmp_path)
    assert set(report.happened) == {"kill", *possible(OTHERS)}
    assert report.verdict.expired == report.verdict.evicted == 0


def test_users_leave_and_begin_anew_whatever_dies(
    broker_kind: str, unique: str, tmp_path: Path
) -> None:
    plan = Plan(
        SEED,
        KILLS,
        rate=400,
        kill_kinds=("kill",) * KILLS,
        other_kinds=OTHERS_OF_BRIEF,
        keeping=BRIEF,
    )
    verdict = storm(plan, unique, tmp_path).verdict
    assert verdict.expired > 0
    assert verdict.evicted > 0
    assert verdict.returned > 0
    assert verdict.most_users <= BRIEF.limits(PARTITIONS).users + MOST_LATE
