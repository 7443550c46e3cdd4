"""A search: defaults first, repeatable, within its time, and never without a result."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

from export.data.dataset import Log
from export.models import PARAMETERS, SPACES, TRIED_AS, parameters_for
from export.models.base import Run
from export.models.glr.parameters import HISTORIES
from export.models.space import Range
from export.models.text import as_options, parse_parameters
from export.training import command as training
from export.training import tuning
from export.training.sides import hold_out
from export.training.train import attempt
from export.training.tuning import Search, Trial, search
from stream.core.bundle import Bundle
from stream.errors import UsageError
from tests.unit.test_export_cli import run, visits
from tests.unit.test_export_models import themed_log

SMALL = {"dim": 8}


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return themed_log(tmp_path / "log.jsonl")


def found(log: Log, model: str = "decay", **how: object) -> Search:
    return search(log, model, SMALL, Run(), **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", sorted(SPACES))
def test_a_space_names_parameters_and_holds_their_defaults(model: str) -> None:
    defaults = [dataclasses.asdict(PARAMETERS[model]())]
    if model == "glr":
        defaults.append(defaults[0] | HISTORIES)
    for name, among in SPACES[model].items():
        for value in (of[name] for of in defaults):
            if isinstance(among, Range):
                assert among.low <= value <= among.high, name
                assert type(among.low) is type(among.high) is type(value), name
                assert among.low > 0 or not among.log, name
            else:
                assert value in among, name


def test_the_defaults_come_first_and_the_best_is_no_worse(log: Log) -> None:
    of = found(log, trials=6)
    assert [trial.number for trial in of.trials] == list(range(6))
    assert of.trials[0].changed == {}
    assert all(trial.changed for trial in of.trials[1:])
    assert of.best.worth == max(trial.worth for trial in of.trials)
    assert of.summary()["defaults"] == of.trials[0].worth


@pytest.mark.parametrize("model", sorted(SPACES))
def test_the_first_trial_has_the_defaults_to_the_last_digit(
    model: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[dict[str, object]] = []

    def note(name: str, sides: object, parameters: dict[str, object], *rest: object) -> None:
        tried.append(parameters)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "attempt", note)
    with pytest.raises(KeyboardInterrupt):
        search(log, model, {}, Run())
    defaults = dataclasses.asdict(parameters_for(model, log, TRIED_AS.get(model, {})))
    assert tried == [{name: defaults[name] for name in tried[0]}]
    assert set(SPACES[model]) <= set(tried[0])


def test_a_log_of_users_who_never_come_back_is_not_searched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.jsonl"
    events = [
        {
            "user_id": f"u{n}",
            "item_id": f"i{n % 4}",
            "type": "click",
            "event_time_ms": 1_700_000_000_000 + n * 60_000,
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    code, _, err = run(capsys, "tune", path, "--model", "mf")
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: no trial could be measured: no user of")
    assert "give a log whose users come back" in last


@pytest.mark.parametrize("model", ["decay", "mf"])
def test_the_same_seed_gives_the_same_trials(model: str, log: Log) -> None:
    def tried(seed: int) -> list[tuple[dict[str, object], float]]:
        of = found(log, model, trials=12, seed=seed)  # more than the random ones
        return [(trial.changed, trial.worth) for trial in of.trials]

    assert tried(1) == tried(1)
    assert tried(1) != tried(2)


def test_the_printed_options_repeat_the_best(log: Log) -> None:
    of = found(log, trials=6)
    of.trials = of.trials[1:]  # the defaults need no option
    *_, last = of.lines()
    pairs = re.findall(r"--set (\w+)=(\S+)", last)
    assert last.startswith("best: --model decay --set dim=8 ")
    parameters = parse_parameters("decay", dict(pairs))
    assert parameters == of.parameters
    sides = hold_out(log)
    assert sides is not None
    again = attempt("decay", sides, parameters, Run(), lambda line: None)
    assert again.worth == of.best.worth


def test_what_is_set_stays(log: Log) -> None:
    of = search(log, "decay", {**SMALL, "beta": 5.0}, Run(), trials=4)
    assert all("beta" not in trial.changed and "dim" not in trial.changed for trial in of.trials)
    assert of.parameters["beta"] == 5.0
    defaults = dataclasses.asdict(parameters_for("decay", log, {}))
    with pytest.raises(UsageError, match="leave one out"):
        search(log, "decay", defaults, Run(), trials=4)


def test_ctrl_c_ends_with_the_best_so_far(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def pressed(*given: object) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return attempt(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "attempt", pressed)
    said: list[str] = []
    of = search(log, "decay", SMALL, Run(report=said.append))
    assert len(of.trials) == 2
    assert said[-1] == "interrupted: this is the best so far"
    count = 2
    with pytest.raises(KeyboardInterrupt):
        search(log, "decay", SMALL, Run())


def test_parameters_that_cannot_be_trained_end_a_trial_not_the_search(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(name: str, sides: object, parameters: dict[str, float], *rest: object) -> object:
        if parameters["damping"] > 0.5:
            raise UsageError("too damp")
        return attempt(name, sides, parameters, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "attempt", picky)
    said: list[str] = []
    of = search(log, "decay", SMALL, Run(report=said.append), trials=8)
    assert of.ended > 0
    assert of.ended + len(of.trials) == of.summary()["trials"] == 8
    assert any("too damp" in line for line in said)


def test_what_the_defaults_cannot_do_is_the_users_mistake(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*given: object) -> object:
        raise UsageError("PyTorch is not installed")

    monkeypatch.setattr(tuning, "attempt", missing)
    with pytest.raises(UsageError, match="PyTorch"):
        found(log)


def test_no_trial_begins_that_there_is_no_time_for(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def minute(*given: object) -> object:
        nonlocal now
        now += 60
        return attempt(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "attempt", minute)
    monkeypatch.setattr(tuning.time, "monotonic", lambda: now)
    of = search(log, "decay", SMALL, Run(seconds=210))
    assert [trial.seconds for trial in of.trials] == [60, 60, 60]


def test_the_table_has_the_best_ten_and_the_defaults() -> None:
    of = Search("decay", {}, 1)
    of.trials = [
        Trial(at, {"beta": float(at)} if at else {}, dict.fromkeys(tuning.TOLD, at / 100), 1.0)
        for at in range(15)
    ]
    head, *rows, count, best = of.lines()
    assert head.split() == ["trial", *tuning.TOLD, "seconds", "changed"]
    assert [int(row.split()[0]) for row in rows] == [*range(14, 4, -1), 0]
    assert rows[-1].endswith("(defaults)")
    assert count == "15 trials measured, 10 of them shown; 0 ended early"
    assert best == "best: --model decay --set beta=14"


def test_options_say_values_exactly() -> None:
    values = {"dim": 64, "half_life_s": 12_340_000.0, "damping": 0.1234}
    assert as_options(values) == "--set dim=64 --set half_life_s=12340000 --set damping=0.1234"
    assert as_options({"mean": False}) == "--set mean=false"


def test_without_optuna_it_says_what_to_install(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'freshet\[export\]'"):
        found(log)


def test_tune_prints_a_table_and_trains_with_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "decay", "--set", "dim=8", "--trials", 4, "--out", folder, "--name", "shop")
    code, out, err = run(capsys, "tune", path, *of)
    assert code == 0, err
    assert "trial 3: ndcg@20" in err
    assert "(defaults)" in out
    bundle = Bundle.load(folder)
    assert bundle.bundle_id in out
    assert bundle.manifest.name == "shop"
    tuned = bundle.manifest.training["tuned"]
    assert tuned["trials"] == 4
    assert tuned["ndcg@20"] == bundle.manifest.metrics["held_out"]["ndcg@20"]
    assert f"--set dim={bundle.manifest.training['dim']}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "none.jsonl"), "--model"),
        (("tune", "none.jsonl", "--model", "auto"), "invalid choice"),
        (("tune", "none.jsonl", "--model", "mf", "--trials", "0"), "--trials"),
        (("tune", "none.jsonl", "--model", "mf", "--seed", "-1"), "--seed"),
        (("tune", "none.jsonl", "--model", "mf", "--minutes", "0"), "--minutes"),
        (("train", "none.jsonl", "--model", "mf", "--warm", "x", "--out", "y"), "leave --warm out"),
    ],
)
def test_mistakes_of_a_search_get_a_message(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err


def test_a_search_has_a_time_unless_told_otherwise() -> None:
    assert training.MINUTES == 10
