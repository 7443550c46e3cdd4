"""One training at a time has the folder of checkpoints, and nothing is left of one that is done."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.training.unfinished import LOCK, unfinished
from stream.errors import UsageError
from tests.unit.test_export_cli import run, visits

HOLDS = """
import sys, time
from pathlib import Path
from export.training.unfinished import unfinished
with unfinished(Path(sys.argv[1])) as kept:
    (kept.folder / "network-older").touch()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


def test_a_training_of_another_model_keeps_what_an_interrupted_one_learned(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = visits(tmp_path / "log.jsonl")
    with unfinished(out) as kept:
        (kept.folder / "network-older").touch()
    models = ("decay", "cooccurrence", "ensemble")
    for of in [("--model", model) for model in models] + [("--epsilon", "1")]:
        code, _, err = run(capsys, "train", log, "--out", out, *of)
        assert code == 2
        assert "holds what an interrupted training of another kind learned" in err
        assert (kept.folder / "network-older").exists()


def test_a_second_training_ends_at_once_and_the_first_goes_on(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = visits(tmp_path / "log.jsonl")
    of = ("--out", out, "--model", "decay", "--set", "dim=8")
    with unfinished(out) as kept:
        (kept.folder / "network-older").touch()
        for command in (("train", log, *of), ("tune", log, *of, "--trials", "1")):
            code, _, err = run(capsys, *command)
            assert code == 2
            assert "another training writes there" in err
            assert "give another --out" in err
            assert "held out" not in err
        assert kept.holds_anything()
        kept.clear()
    assert not out.exists()
    code, _, err = run(capsys, "train", log, *of)
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "log.jsonl"]


def test_what_was_killed_holds_nothing_back(out: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="another training"), unfinished(out):
            pass
        process.kill()
    with unfinished(out) as kept:
        assert kept.holds_anything()  # a training can go on from it
        kept.clear()
        assert not kept.holds_anything()
    assert not kept.folder.exists()


def test_a_folder_that_its_last_owner_removes_meanwhile_is_made_again(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock: Callable[[int, int], None] = fcntl.flock
    times = []

    def after_the_other_ended(lock: int, how: int) -> None:
        if not times:
            shutil.rmtree(out.with_name("bundle.unfinished"))
        times.append(lock)
        flock(lock, how)

    monkeypatch.setattr(fcntl, "flock", after_the_other_ended)
    with unfinished(out) as kept:
        assert len(times) == 2
        assert (kept.folder / LOCK).exists()
        with pytest.raises(UsageError, match="another training"), unfinished(out):
            pass


def test_what_is_no_folder_is_in_the_way(out: Path) -> None:
    out.with_name("bundle.unfinished").touch()
    with pytest.raises(UsageError, match="is in the way"), unfinished(out):
        pass
