"""Quality runs train on nothing that they measure with, and say what `auto` would take."""

from __future__ import annotations

import gzip
import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import cli
from export.data.dataset import read_log
from export.measuring.asked import asked_of
from stream.core.bundle import Bundle
from stream.errors import UsageError
from tests.quality import __main__ as quality
from tests.quality.__main__ import _auto
from tests.quality.logs import PAIRS, ml_1m, rees46_sample
from tests.quality.speed import microseconds
from tests.support.bundles import random_decay_bundle

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)


def sample(folder: Path, seconds: list[int]) -> None:
    lines = [
        f"2019-10-01 00:00:{second:02d} UTC,view,{number % 7},1,,,1.0,"
        f"{number % 2},s{number % 2}-{number // 8}"
        for number, second in enumerate(seconds)
    ]
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / "2019-Oct.csv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join([HEADER, *lines]) + "\n")


def test_a_log_is_cut_at_a_moment(tmp_path: Path) -> None:
    sample(tmp_path / "data", [0, 1, 2, 3, 4, 5, 6, 7, 7, 9])  # 80% end between equal times
    pair = rees46_sample(tmp_path / "data", tmp_path)
    trained = read_log(pair.train, pair.train_format)
    assert pair.since_ms is not None
    assert len(trained) == 7
    assert trained.time_ms.max() < pair.since_ms
    assert (pair.log(pair.since_ms).time_ms >= pair.since_ms).sum() == 3


def test_a_log_out_of_order_is_not_cut(tmp_path: Path) -> None:
    sample(tmp_path / "data", [0, 1, 2, 3, 9, 5, 6, 7, 8, 9])
    with pytest.raises(UsageError, match="not in time order"):
        rees46_sample(tmp_path / "data", tmp_path)


def test_auto_takes_the_best_of_its_candidates() -> None:
    worth = {"cooccurrence": 0.2, "mf": 0.3, "content": 0.9}  # the last is none of them
    models = {name: {"held_out": {"held_out": {"ndcg@20": at}}} for name, at in worth.items()}
    found = _auto(models)
    assert found["chosen"] == "mf"
    assert "cooccurrence 0.2000, mf 0.3000" in found["why"]
    assert _auto({"mf": {"held_out": {}}})["chosen"] is None


def test_both_graphs_are_timed_alone_and_in_batches(tmp_path: Path) -> None:
    found = microseconds(Bundle.load(random_decay_bundle(tmp_path / "bundle", 40, dim=8).path))
    assert found.keys() == {"update_us", "score_us"}
    for times in found.values():
        assert times.keys() == {"1", "64"}
        assert min(times.values()) > 0


def test_ml_1m_is_asked_after_the_times_that_it_was_trained_on(tmp_path: Path) -> None:
    lines = ["1 2 3 4", "5 6", "7 1 2"]
    with gzip.open(tmp_path / "sequences.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    pair = ml_1m(tmp_path, tmp_path)
    trained = read_log(pair.train, pair.train_format)
    asked = asked_of(pair.test, pair.test_format, None, lambda message: None)
    known = {}
    for query in asked.queries:
        history = asked.histories[query.user]
        user = asked.log.users[asked.log.user[history[0]]]
        items = [asked.log.items[code] for code in asked.log.item[history[: query.position + 1]]]
        known[user] = items
        assert [asked.log.items[code] for code in query.targets] == items[-1:]
        own = trained.user == trained.users.index(user)
        assert [trained.items[code] for code in trained.item[own]] == items[:-1]
        between = np.diff(asked.log.time_ms[history]).tolist()
        assert between[:-1] == np.diff(trained.time_ms[own]).tolist()
        assert len(set(between)) == 1  # the target comes as others did
    assert list(known.values()) == [line.split() for line in lines]


def ran(
    monkeypatch: pytest.MonkeyPatch, folder: Path, data: str, *models: str
) -> dict[str, dict[str, Any]]:
    """The file that a run of quality writes, its commands being run within this process."""

    def command(*arguments: str) -> str:
        with redirect_stdout(io.StringIO()) as said:
            assert cli.main(list(arguments)) == 0
        return said.getvalue()

    monkeypatch.setattr(quality, "_command", command)
    monkeypatch.setattr(quality, "ROOT", folder)
    assert quality.main([data, "--models", *models]) == 0
    file = folder / "build" / f"quality-{Path(data).name}.json"
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())["models"]
    return found


def test_the_baseline_is_asked_the_same_cases_as_every_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    visits = [[f"i{i}" for i in (rng.integers(0, 20) + np.arange(5)) % 20] for _ in range(120)]
    folder = tmp_path / "shop"
    folder.mkdir()
    for name, lines in (
        ("train_sessions", [" ".join(visit) for visit in visits[:100]]),
        ("test_prefixes", [f"{' '.join(visit[:4])}\t{visit[4]}" for visit in visits[100:]]),
    ):
        with gzip.open(folder / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    found = ran(monkeypatch, tmp_path, str(folder), "decay")  # not named, and trained all the same
    assert list(found) == ["cooccurrence", "decay"]
    baseline, measured = (of["measured"] for of in found.values())
    assert "against_baseline" not in baseline
    assert measured["baseline"]["cases"] == baseline["cases"] == 20
    assert measured["baseline"]["bundle_id"] == baseline["bundle_id"]
    test = measured["against_baseline"]["ndcg@20"]
    assert test["difference"] == pytest.approx(measured["ndcg@20"] - baseline["ndcg@20"], abs=2e-6)
    out = capsys.readouterr().out
    assert "ndcg@20 against cooccurrence" in out
    for name in ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "mrr@20"):
        assert re.search(
            rf"^decay .*{name} [01]\.\d{{4}} \[[01]\.\d{{4}} [01]\.\d{{4}}\]", out, re.M
        )


def test_the_baseline_comes_first_whatever_the_order_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rees46-sample"
    sample(data, list(range(60)))
    monkeypatch.setattr(quality, "DATA", tmp_path)
    monkeypatch.setitem(PAIRS, data.name, rees46_sample)
    found = ran(monkeypatch, tmp_path, data.name, "decay", "cooccurrence")
    assert "ndcg@20" in found["decay"]["measured"]["against_baseline"]
    assert "against_baseline" not in found["cooccurrence"]["measured"]
