"""The run card says what a training was, and changes nothing of the bundle."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.commands import parser
from export.data.dataset import Log, read_log
from export.training import run_card
from export.training.run_card import CARD, code_version, data_sha256, read_card, settings
from stream.core.bundle import MANIFEST, Bundle
from stream.core.model import Model
from stream.demo import sample
from tests.support.kafka import ROOT
from tests.unit.test_export_cli import run, visits

OF = ("--model", "decay", "--set", "dim=8")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return read_log(visits(tmp_path / "log.jsonl"), "events")


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    out = tmp_path / "bundle"
    code, _, err = run(capsys, "train", visits(tmp_path / "log.jsonl"), "--out", out, *OF)
    assert code == 0, err
    return out


def test_a_training_writes_its_card(folder: Path, log: Log) -> None:
    card = read_card(folder)
    assert card is not None
    manifest = Bundle.load(folder).manifest
    assert card["bundle_id"] == manifest.bundle_id
    assert card["data"]["sha256"] == manifest.training["data"] == data_sha256(log)
    assert (card["data"]["events"], card["data"]["users"], card["data"]["items"]) == (200, 10, 48)
    assert (card["data"]["begins"], card["data"]["ends"]) == (log.begins, log.ends)
    assert card["settings"]["model"] == "decay"
    assert card["settings"]["set"] == ["dim=8"]
    assert card["settings"]["out"] == str(folder)
    assert card["metrics"] == manifest.metrics
    assert 0 < card["wall_s"] < 600
    assert card["peak_memory_mib"] > 10
    assert card["code"]["numpy"] == np.__version__


def test_the_same_training_gives_the_same_bundle_and_another_card(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "train", tmp_path / "log.jsonl", "--out", tmp_path / "again", *OF)
    names = {path.name for path in folder.iterdir()}
    assert CARD in names
    for name in names - {CARD}:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert (folder / CARD).read_bytes() != (tmp_path / "again" / CARD).read_bytes()


def test_the_engine_does_not_open_it(folder: Path) -> None:
    assert CARD not in json.loads((folder / MANIFEST).read_text())["files"]
    (folder / CARD).unlink()
    os.mkfifo(folder / CARD)  # whoever opens this waits for ever
    Model(Bundle.load(folder), "cpu")
    assert read_card(folder) is None


def test_it_is_shown_with_the_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "bundle", folder)
    (line,) = (line for line in out.splitlines() if line.startswith("  run "))
    assert json.loads(line.removeprefix("  run")) == read_card(folder)
    for damaged in (b"[1]", b"{", b"\xff", b"[" * 100_000, b" " * (run_card.MOST_BYTES + 1)):
        (folder / CARD).write_bytes(damaged)
        code, out, err = run(capsys, "bundle", folder)
        assert code == 0, err
        assert "  run " not in out


def test_the_hash_is_of_everything_that_a_log_holds(log: Log) -> None:
    sha256 = data_sha256(log)
    others = [
        replace(log, **{name: getattr(log, name) + 1})
        for name in run_card.COLUMNS
        if name != "rating"
    ]
    others += [
        replace(log, rating=np.ones(len(log), np.float32)),
        replace(log, users=[*log.users, "one more"]),
        replace(log, items=[*log.items, "one more"]),
        replace(log, titles={"t0-0": "Title"}),
        replace(log, attributes={"t0-0": {"brand": "Brand"}}),
        replace(log, embeddings={"t0-0": np.ones(2, np.float32)}),
        replace(log, embeddings={"t0-0": np.zeros(2, np.float32)}),
    ]
    assert len({sha256, *map(data_sha256, others)}) == len(others) + 1
    assert data_sha256(replace(log)) == sha256


def test_columns_are_hashed_in_blocks(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = data_sha256(log)
    monkeypatch.setattr(run_card, "_BLOCK", 7)
    assert data_sha256(log) == sha256


def test_the_commit_is_that_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = Path(run_card.__file__).parents[2]
    assert ("commit" in code_version()) == (checkout / ".git").exists()
    clone = tmp_path / "clone"
    package = clone / "export" / "training"
    package.mkdir(parents=True)
    monkeypatch.setattr(run_card, "__file__", str(package / "run_card.py"))
    (package / "run_card.py").write_text("1\n")

    def git(folder: Path, *arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder))
        subprocess.run(["git", *who, *arguments], check=True, capture_output=True)

    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "Another project")
    assert "commit" not in code_version()
    git(clone, "init")
    assert "commit" not in code_version()  # nothing committed
    git(clone, "add", ".")
    git(clone, "commit", "-m", "One")
    found = code_version()
    assert len(found["commit"]) == 40
    assert found["changed"] is False
    (package / "run_card.py").write_text("2\n")
    assert code_version()["changed"] is True
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert "commit" not in code_version()


@pytest.mark.parametrize("model", sample.BUNDLES)
def test_the_card_of_a_bundle_of_the_demo_is_of_its_told_command(model: str) -> None:
    folder = sample.BUNDLES[model]
    card, manifest = read_card(folder), Bundle.load(folder).manifest
    assert card is not None
    assert card["bundle_id"] == manifest.bundle_id
    assert manifest.model == model
    assert card["data"]["sha256"] == manifest.training["data"]
    assert card["metrics"] == manifest.metrics
    assert card["code"]["commit"]
    assert card["code"]["changed"] is False
    told = (sample.DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    out = str(folder.relative_to(ROOT))
    commands = re.findall(r"^    (freshet-export train .*\\\n.*)$", told, re.MULTILINE)
    arguments = [shlex.split(command.replace("\\\n", " "))[1:] for command in commands]
    (of_it,) = (found for found in arguments if found[found.index("--out") + 1] == out)
    options = settings(parser().parse_args(of_it))  # later versions may have others as well
    assert options.keys() >= {"log", "out", "name", "model", "set"}
    known = options.keys() & card["settings"].keys()
    assert {name: options[name] for name in known} == {n: card["settings"][n] for n in known}
