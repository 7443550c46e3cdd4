"""A schedule is its seed's alone, and every round of it has the whole list."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.chaos import __main__ as command
from tests.chaos import storm_broker
from tests.chaos.run import Plan
from tests.chaos.schedule import DISK, KILLS, MORTAL, OTHERS, Fault, draw, until
from tests.support.seed import SEED


def test_the_same_seed_draws_the_same_schedule() -> None:
    assert list(until(draw(7), 25)) == list(until(draw(7), 25))
    assert list(until(draw(7), 25)) != list(until(draw(8), 25))


def test_what_cannot_happen_here_leaves_the_rest_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned(missing: str) -> list[Fault]:
        monkeypatch.setattr(storm_broker, "why_missing", lambda: missing)
        return list(Plan(seed=7, kills=25).faults())

    everywhere, without_gcc = planned(""), planned("no gcc")
    assert {fault.kind for fault in everywhere} - {fault.kind for fault in without_gcc} == {*DISK}
    assert without_gcc == [fault for fault in everywhere if fault.kind not in DISK]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--kills", "0"], "--kills is 0"),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--rate", "-1"], "--rate is -1"),
        (["--peer", "faust", "--keeping", "brief"], "--keeping is for Freshet's workers"),
    ],
)
def test_a_run_that_would_show_nothing_is_refused(
    options: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*options, "--plan"])
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def test_every_round_has_the_whole_list() -> None:
    for faults in islice(draw(7), 3):
        assert Counter(fault.kind for fault in faults) == Counter((*KILLS, *OTHERS))
    assert {f"kill at {point}" for point in MORTAL} < set(KILLS)


def test_a_schedule_is_shown_whole_and_one_without_end_in_part(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["--kills", "100", "--plan"]) == 0
    shown = capsys.readouterr().out.splitlines()[1:]
    assert len(shown) == len(list(Plan(SEED, kills=100).faults())) > command.SHOWN
    assert command.main(["--minutes", "1", "--plan"]) == 0
    shown = capsys.readouterr().out.splitlines()[1:]
    assert len(shown) == command.SHOWN + 1
    assert "until the time is over" in shown[-1]


def test_faults_that_are_named_are_the_only_ones() -> None:
    plan = Plan(seed=7, kills=4, kill_kinds=("kill",) * 2, other_kinds=("sleep", "broker"))
    assert Counter(fault.kind for fault in plan.faults()) == {"kill": 4, "sleep": 2, "broker": 2}


def test_kills_are_counted_and_the_rest_of_a_round_stays() -> None:
    faults = list(until(draw(7), 13))
    assert sum(fault.kills for fault in faults) == 13
    assert Counter(fault.kind for fault in faults if not fault.kills) == Counter(OTHERS * 2)
