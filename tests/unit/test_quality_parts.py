"""Quality runs train on nothing that they measure with, and say what `auto` would take."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from export.data.dataset import read_log
from stream.core.bundle import Bundle
from stream.errors import UsageError
from tests.quality.__main__ import _auto
from tests.quality.logs import rees46_sample
from tests.quality.speed import microseconds
from tests.support.bundles import random_decay_bundle

HEADER = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)


def sample(folder: Path, seconds: list[int]) -> None:
    lines = [
        f"2019-10-01 00:00:{second:02d} UTC,view,{number},1,,,1.0,{number % 2},s{number % 2}"
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
    assert (pair.log().time_ms >= pair.since_ms).sum() == 3


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
