"""`freshet-export evaluate`: what is trained on, split, measured; what is told of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import models
from export.data.dataset import Log
from export.training import train as training
from stream.core.bundle import Bundle
from tests.support.bundles import random_decay_bundle
from tests.unit.test_evaluation import ITEMS
from tests.unit.test_export_cli import run, visits


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_decay_bundle(tmp_path_factory.mktemp("made") / "bundle", ITEMS, dim=8)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return visits(tmp_path / "log.jsonl")


def test_a_bundle_is_measured_on_a_log(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert run(capsys, "train", shop, "--out", folder, "--model", "decay")[0] == 0
    code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop, "--json")
    assert code == 0, err
    assert json.loads(out)["cases"] == 200 - 10  # every event but each user's first
    since = ("--since", "2023-11-15")
    code, out, err = run(capsys, "evaluate", "--bundle", folder, "--test", shop, "--json", *since)
    assert code == 0, err
    assert 0 < json.loads(out)["cases"] < 190


@pytest.mark.parametrize("splits", [(), ("--rolling", 1)])
def test_what_is_trained_on_is_clean_without_a_look_ahead(
    splits: tuple[object, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last purchase before the split is cancelled after it."""
    begin_ms, undone = 1_700_000_000_000, 49 if splits else 84
    lines = []
    for number in range(101):
        one = undone if number == 100 else number
        event = {
            "user_id": f"u{one % 5}",
            "item_id": "undone" if one == undone else f"i{one % 7}",
            "type": "cancel" if number == 100 else "purchase",
            "event_time_ms": begin_ms + number * 3_600_000,
            "quantity": 1,
        }
        lines.append(json.dumps(event))
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines))
    trained_on: list[Log] = []

    def note(model: str, log: Log, **given: Any) -> models.Trained:
        trained_on.append(log)
        return models.train(model, log, **given)

    monkeypatch.setattr("export.comparing.compare.train", note)
    of = ("--model", "decay", "--set", "dim=8", "--cancel-within-h", 100)
    code, _, err = run(capsys, "evaluate", log, *of, *splits)
    assert code == 0, err
    assert trained_on[0].time_ms[-1] == begin_ms + undone * 3_600_000
    assert len(trained_on[0]) == undone + 1


def clicks(path: Path, text: str) -> Path:
    """A log of clicks, one an hour, of the users that a text names."""
    path.write_text(
        "".join(
            json.dumps(
                {
                    "user_id": user,
                    "item_id": f"i{number % 5}",
                    "type": "click",
                    "event_time_ms": 1_700_000_000_000 + number * 3_600_000,
                }
            )
            + "\n"
            for number, user in enumerate(text.split())
        )
    )
    return path


@pytest.mark.parametrize(("model", "calibrated"), [("decay", False), ("auto", True)])
def test_a_model_that_is_named_serves_raw_scores(
    model: str,
    calibrated: bool,
    shop: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[models.Trained] = []

    def note(trained: models.Trained) -> Any:
        served.append(trained)
        return training.loaded(trained)

    monkeypatch.setattr("export.comparing.compare.loaded", note)
    monkeypatch.setattr(training, "CANDIDATES", ("decay",))
    code, _, err = run(capsys, "evaluate", shop, "--model", model)
    assert code == 0, err
    first, *others = [one.calibration is not None for one in served]
    assert first == calibrated
    assert not any(others)


@pytest.mark.parametrize(
    ("users", "options", "message"),
    [
        ("a a a b b b c c d e", (), "no visit begins there that comes after something, or turns"),
        ("a a a b b b c c d e", ("--since", "2023-11-15T06"), "give another --since"),
        # Users are dealt out to folds as a, b and c, d.
        ("a b a b c d", ("--folds", 2), "split 2 asks for nothing"),
        ("a b a a b c d e", ("--rolling", 2), "split 2 asks for nothing"),
        ("a b c d e f g h", ("--rolling", 1), "give fewer splits, or more of a log"),
    ],
)
def test_what_asks_for_nothing_is_told_before_anything_is_trained(
    users: str,
    options: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[str] = []
    monkeypatch.setattr(
        "export.comparing.compare.train", lambda model, *_, **__: trained.append(model)
    )
    log = clicks(tmp_path / "log.jsonl", users)
    code, _, err = run(capsys, "evaluate", log, "--model", "decay", *options)
    assert (code, trained) == (2, [])
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        (("--min-user-events", 3), 17),
        (("--no-cleaning",), 20),
        (("--folds", 2, "--min-user-events", 3), None),
        (("--rolling", 1, "--min-user-events", 3), 10),
    ],
)
def test_evaluate_cleans_by_the_rules_of_its_options(
    options: tuple[object, ...],
    trained: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three strangers come once, and are left out of what is trained on and asked, or are not."""
    trained_on: list[Log] = []

    def note(model: str, log: Log, **given: Any) -> models.Trained:
        trained_on.append(log)
        return models.train(model, log, **given)

    monkeypatch.setattr("export.comparing.compare.train", note)
    log = clicks(tmp_path / "log.jsonl", "a b x c a y b c a z b c" + " a b c" * 4)
    of = ("evaluate", log, "--model", "decay", "--set", "dim=4", *options)
    code, _, err = run(capsys, *of)
    assert code == 0, err
    strangers = {"x", "y", "z"} & {log.users[code] for log in trained_on for code in log.user}
    assert strangers == ({"x", "y", "z"} if "--no-cleaning" in options else set())
    assert trained in (None, len(trained_on[0]))
    assert ("left out: 3 user with too few events" in err) == (not strangers)


@pytest.mark.parametrize("splits", [("--folds", 3), ("--rolling", 2)])
def test_splits_give_a_mean_and_a_spread(
    splits: tuple[str, int], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("evaluate", shop, *splits, "--model", "decay", "--set", "dim=8", "--k", "5")
    code, out, err = run(capsys, *options, "--json")
    assert code == 0, err
    figures = json.loads(out)["decay, repeats allowed"]["recall@5"]
    assert len(figures["splits"]) == splits[1]
    assert figures["mean"] == pytest.approx(np.mean(figures["splits"]), abs=1e-6)
    assert figures["deviation"] == pytest.approx(np.std(figures["splits"], ddof=1), abs=1e-6)
    code, out, err = run(capsys, *options)
    assert code == 0, err
    assert f"{splits[1]} splits" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a log"),
        (("log", "--test", "x"), "--test: goes with --bundle"),
        (("log", "--format", "prefixes"), "measure a bundle on them"),
        (("log", "--folds", "1", "--model", "decay"), "give 2 folds or more"),
        (("log", "--folds", "2"), "--folds: say with --model"),
        (("log", "--rolling", "2", "--model", "mf", "--plots", "p"), "leave --rolling out"),
        (("log", "--whole-history"), "--whole-history: goes with --bundle"),
        (("log", "--folds", "2", "--rolling", "2"), "not allowed with"),
        (("log", "--folds", "2", "--since", "2023-11-15"), "choose their own moments"),
        (("log", "--k", "0"), "between 1 and"),
        (("log", "--k", "ten"), "ten: give lengths of lists"),
        (("--bundle", "none", "--test", "x"), "no such bundle folder"),
        (("--bundle", "b"), "--test FILE"),
        (("log", "--bundle", "b", "--test", "x"), "trained first"),
        (("--bundle", "b", "--test", "x", "--since", "soon"), "not an ISO date"),
        (("--bundle", "b", "--test", "none"), "no such file"),
        (("--bundle", "b", "--test", "x", "--model", "mf"), "--model: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--set", "dim=8"), "--set: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--items", "x"), "--items: of a model that is trained"),
        (("--bundle", "b", "--test", "x", "--minutes", "1"), "--minutes: of a model that is"),
        (("--bundle", "b", "--test", "x", "--min-count", "2"), "--min-count: cleans the log of"),
        (("--bundle", "b", "--test", "x", "--max-per-day", "0"), "--max-per-day: cleans the log"),
        (("--bundle", "b", "--test", "x", "--no-cleaning"), "--no-cleaning: cleans the log of"),
        (("--bundle", "b", "--test", "x", "--baseline-format", "events"), "goes with --baseline"),
        (("--bundle", "b", "--test", "x", "--until", "clicks:0=1"), "add --format kafka"),
        (
            ("--bundle", "b", "--test", "x", "--format", "prefixes", "--until", "clicks:0=1"),
            "add --format kafka",
        ),
        (
            ("--bundle", "b", "--test", "x", "--format", "prefixes", "--scratch", "x"),
            "--scratch: prefixes are kept in memory",
        ),
        (
            ("--bundle", "b", "--test", "x", "--format", "histories", "--since", "2023-11-15"),
            "--since: histories carry no times",
        ),
    ],
)
def test_mistakes_in_measuring_get_a_message(
    arguments: tuple[str, ...],
    message: str,
    shop: Path,
    bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = {"log": shop, "x": shop, "b": bundle.path}
    code, _, err = run(capsys, "evaluate", *(named.get(a, a) for a in arguments))
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err


def test_charts_that_cannot_be_written_are_told_before_anything_is_read(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ("evaluate", shop, "--model", "decay", "--plots", shop / "plots")
    code, _, err = run(capsys, *of)
    assert code == 2
    assert err == (
        f"error: {shop / 'plots'}: cannot be written, since {shop} is a file; give another folder\n"
    )


def test_ratings_are_predicted_and_their_error_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    of_user, of_item = rng.normal(0, 0.8, 30), rng.normal(0, 0.8, 20)
    lines, at = [], 1_000_000_000
    for number in rng.permutation(30 * 20).tolist():
        user, item = divmod(number, 20)
        at += 60
        rating = round(float(np.clip(3 + of_user[user] + of_item[item], 1, 5)), 1)
        lines.append(f"{user}::{item}::{rating}::{at}\n")
    log = tmp_path / "ratings.dat"
    log.write_text("".join(lines))
    of = ("evaluate", log, "--format", "ratings", "--model", "mf", "--set", "dim=8")
    code, out, err = run(capsys, *of, "--json")
    assert code == 0, err
    rated = json.loads(out)["ratings"]
    assert rated["ratings"] == 90  # the newest 15%
    assert rated["rmse"] < 0.35 < rated["rmse_of_mean"]
    assert rated["mae"] <= rated["rmse"]
    for name in ("rmse", "mae"):
        low, high = rated["confidence"][name]
        assert low < rated[name] < high
    code, out, _ = run(capsys, *of)
    assert f"ratings predicted: 90  rmse {rated['rmse']:.4f} [" in out
    decay = ("--model", "decay", "--set", "dim=8", "--json")
    code, out, _ = run(capsys, "evaluate", log, "--format", "ratings", *decay)
    assert code == 0
    assert "ratings" not in json.loads(out)


def test_a_log_without_ratings_has_no_error_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = ("--model", "mf", "--set", "dim=8", "--json")
    code, out, _ = run(capsys, "evaluate", visits(tmp_path / "log.jsonl"), *of)
    assert code == 0
    assert "ratings" not in json.loads(out)
