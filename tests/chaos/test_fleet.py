"""Which ends of a worker a supervisor answers by another one, and which are wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import fleet
from tests.chaos.fleet import FRESHET, Fleet
from tests.chaos.run import Plan, Report
from tests.chaos.verdict import Verdict


class Ended:
    """A worker that has ended by itself."""

    name = "worker"
    alive = False
    code = 1
    said = "begun"

    def __init__(self, engine: Any, config: Path, log: Path) -> None:
        self.engine = engine
        self.expected = False
        self.process = SimpleNamespace(wait=lambda: self.code)

    def last_words(self) -> str:
        return "topic lists is missing: make it"

    def tail(self) -> str:
        return self.said

    def stop(self) -> int:
        return self.code


@pytest.mark.parametrize(
    ("code", "refused", "right"),
    [
        (70, (), True),
        (1, (), False),
        (1, ("max.message.bytes", "is missing"), True),
        (1, ("max.message.bytes",), False),
        (2, ("is missing",), False),
    ],
)
def test_a_start_is_refused_for_the_reason_of_the_fault_alone(
    code: int,
    refused: tuple[str, ...],
    right: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ended, "code", code)
    monkeypatch.setattr(fleet, "Worker", Ended)
    workers = Fleet(tmp_path / "freshet.toml", tmp_path, FRESHET)
    workers.refused = refused
    workers.start()
    workers.tend()
    assert (not workers.wrong) == right
    assert len(workers.workers) == 1, "another one is started in its place"
    assert [end[1] for end in workers.ends] == [code]


@pytest.mark.parametrize(
    ("code", "said", "late", "right"),
    [
        (0, "stopped", 0, True),
        (130, "not stopped within 4.5 s: is the broker gone?", 1, True),
        (130, "begun", 0, False),
        (1, "not stopped within 4.5 s: is the broker gone?", 0, False),
    ],
)
def test_a_stop_is_late_only_where_the_worker_says_so(
    code: int, said: str, late: int, right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ended, "code", code)
    monkeypatch.setattr(Ended, "said", said)
    monkeypatch.setattr(Ended, "alive", True)
    monkeypatch.setattr(fleet, "Worker", Ended)
    workers = Fleet(tmp_path / "freshet.toml", tmp_path, FRESHET)
    workers.start()
    workers.retire_all()
    assert (len(workers.late), workers.stops, not workers.wrong) == (late, 1, right)


@pytest.mark.parametrize(("late", "right"), [(0, True), (2, True), (3, False)])
def test_a_run_in_which_many_stops_are_late_is_not_right(late: int, right: bool) -> None:
    verdict = Verdict(events=1)
    report = Report(Plan(1, 10), verdict, stops=20, late=["worker"] * late)
    assert report.right is right
