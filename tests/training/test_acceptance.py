"""The two commands of a published measurement, from files in the form of Diginetica's, and `make
quality` on such a folder. Toys: the figures need not be good, but they must be there and right."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.cli import main
from export.training.train import BASELINE, CANDIDATES
from stream.core.bundle import Bundle
from tests.training.shops import THEMES, walks

ROOT = Path(__file__).parents[2]
TRAINED, ASKED = 200, 40  # visits
NEW = 5  # targets that nobody trained on
LEAST_RECALL = 0.5  # of 120 items: a list by chance has .17


def _lines(file: Path, lines: Sequence[str]) -> None:
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.write("".join(line + "\n" for line in lines))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train_sessions.txt.gz` and, of later visits, every prefix and what came next."""
    made: Path = tmp_path_factory.mktemp("quality-toy", numbered=True)
    log = walks(TRAINED + ASKED)
    starts = np.flatnonzero(np.diff(log.user, prepend=-1))
    visits = [[str(code + 1) for code in part] for part in np.split(log.item, starts[1:])]
    _lines(made / "train_sessions.txt.gz", [" ".join(visit) for visit in visits[:TRAINED]])
    prefixes = [
        f"{' '.join(visit[:stop])}\t{visit[stop]}"
        for visit in visits[TRAINED:]
        for stop in range(len(visit) - 1, 0, -1)
    ]
    prefixes += [f"{visit[0]}\tnew{at}" for at, visit in enumerate(visits[:NEW])]
    _lines(made / "test_prefixes.txt.gz", prefixes)
    return made


def _cases(folder: Path) -> int:
    return len(gzip.decompress((folder / "test_prefixes.txt.gz").read_bytes()).splitlines())


def _is_measured(found: dict[str, Any], cases: int) -> None:
    """A list of 20 for every line, ranked over everything that was trained on."""
    assert found["cases"] == cases
    assert found["k"] == [10, 20]
    assert found["unknown_targets"] == NEW
    for name in ("recall@20", "mrr@20", "ndcg@20"):
        low, high = found["confidence"][name]
        assert 0 < low <= found[name] <= high <= 1, name
    assert found["recall@20"] > LEAST_RECALL
    assert found["hit_rate@20"] == pytest.approx(found["recall@20"])  # one target each


def test_what_is_trained_on_sessions_is_measured_on_prefixes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = folder / "train_sessions.txt.gz", folder / "test_prefixes.txt.gz"
    bundle = tmp_path / "bundle"
    assert main(["train", str(train), "--format", "sessions", "--out", str(bundle)]) == 0
    manifest = Bundle.load(bundle).manifest
    assert set(manifest.metrics["compared"]) == {*CANDIDATES}
    assert manifest.items - 1 == THEMES * 10
    capsys.readouterr()
    asked = ["--test", str(test), "--format", "prefixes", "--json"]
    assert main(["evaluate", "--bundle", str(bundle), *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle_id"] == manifest.bundle_id
    _is_measured(found, _cases(folder))


def test_a_quality_run_writes_its_figures(folder: Path) -> None:
    written = ROOT / "build" / f"quality-{folder.name}.json"
    command = ("-m", "tests.quality", str(folder), "--models", BASELINE, "--minutes", "1")
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(written.read_text(encoding="utf-8"))
    finally:
        written.unlink(missing_ok=True)
    assert (found["data"], found["targets"]) == (folder.name, {})
    assert found["auto"]["chosen"] == BASELINE
    one = found["models"][BASELINE]
    _is_measured(one["measured"], _cases(folder))
    held_out = one["held_out"]["held_out"]
    assert found["auto"]["ndcg@20"] == {BASELINE: held_out["ndcg@20"]}
    assert one["training"]["events"] > TRAINED
    assert one["seconds"] > 0
    assert one["peak_mib"] > 10
    assert all(time > 0 for times in one["speed"].values() for time in times.values())
    assert f"recall@20 {one['measured']['recall@20']:.4f}" in done.stdout
    assert str(written) in done.stdout
