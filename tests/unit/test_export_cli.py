"""`freshet-export`: results, exit codes and messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export import cli, training
from stream.core.bundle import Bundle


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as exit_:  # argparse's own
        code = int(str(exit_.code))
    out, err = capsys.readouterr()
    return code, out, err


def visits(path: Path) -> Path:
    """A log of visits that stay within a theme of eight items."""
    lines = []
    for visit in range(40):
        for step in range(5):
            record = {
                "user_id": f"u{visit % 10}",
                "item_id": f"t{visit % 6}-{(visit + step) % 8}",
                "type": "click",
                "event_time_ms": 1_700_000_000_000 + (visit * 5 + step) * 60_000,
                "session_id": f"s{visit}",
            }
            lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))
    return path


def test_train_evaluate_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    of = ("--model", "decay", "--set", "dim=8")
    code, out, err = run(capsys, "train", log, "--out", folder, *of)
    assert code == 0, err
    bundle = Bundle.load(folder)
    assert bundle.bundle_id in out
    assert "training decay" in err
    metrics = bundle.manifest.metrics
    assert metrics["held_out"]["recall@20"] > 0
    assert set(metrics["compared"]) == {"decay", "cooccurrence"}
    assert metrics["baseline"]["recall@20"] > 0
    code, out, err = run(capsys, "evaluate", log, "--json", "--set", "dim=8")
    assert code == 0, err
    assert any(label.startswith("cooccurrence") for label in json.loads(out))
    code, out, _ = run(capsys, "bundle", folder)
    assert code == 0
    assert bundle.bundle_id in out


def test_train_takes_the_best_model_on_the_newest_events(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, folder = visits(tmp_path / "log.jsonl"), tmp_path / "bundle"
    code, _, err = run(capsys, "train", log, "--out", folder)
    assert code == 0, err
    manifest = Bundle.load(folder).manifest
    compared = {name: found["ndcg@20"] for name, found in manifest.metrics["compared"].items()}
    assert {"decay", "mf", "cooccurrence"} <= set(compared)
    assert manifest.model == max(compared, key=compared.__getitem__)
    assert f"chosen: {manifest.model}" in err


def test_a_parameter_needs_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = visits(tmp_path / "log.jsonl")
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "b", "--set", "dim=8")
    assert code == 2
    assert "--model" in err


def test_ctrl_c_ends_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    log = visits(tmp_path / "log.jsonl")
    code, _, err = run(capsys, "train", log, "--out", tmp_path / "bundle")
    assert code == 130
    assert err.endswith("interrupted\n")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "COMMAND"),
        (("train", "none.jsonl", "--out", "x"), 2, "no such file"),
        (("train", "none.jsonl", "--out", "x", "--model", "magic"), 2, "invalid choice"),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim"),
            2,
            "NAME=VALUE",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim=wide"),
            2,
            "not a number",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "dim=0"),
            2,
            "must be positive",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--model", "decay", "--set", "depth=3"),
            2,
            "no parameter 'depth'",
        ),
        (("train", "none.jsonl", "--out", "x", "--delta", "1e-5"), 2, "goes with --epsilon"),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--model", "decay"),
            2,
            "decay cannot be trained privately",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--warm", "y"),
            2,
            "knows its users",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--min-count", "2"),
            2,
            "leave --min-count out",
        ),
        (
            ("train", "none.jsonl", "--out", "x", "--epsilon", "1", "--set", "layers=2"),
            2,
            "private glr has no parameter 'layers'",
        ),
        (("evaluate", "none.jsonl", "--since", "soon"), 2, "not an ISO date"),
        (("bundle", "none"), 1, "no such bundle folder"),
    ],
)
def test_mistakes_get_a_message(
    arguments: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert message in err
