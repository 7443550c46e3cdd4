"""A search over networks: epochs are watched, poor ones end early, other ones are told why."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from export.data.dataset import Log
from export.models import train
from export.models.base import Run
from export.models.glr.parameters import HISTORIES, LIMITS, LONG, Parameters, length
from export.training.tuning import search
from stream.errors import UsageError
from tests.training.shops import SMALL, newest, walks

FIXED = {**SMALL, "layers": 1, "epochs": 4, "mean": True, "query": False, "cosine": True}


@pytest.fixture(scope="module")
def log() -> Log:
    return walks(400, repeats=0.2)


def test_every_epoch_is_watched_and_may_be_the_last(log: Log) -> None:
    class EnoughError(Exception):
        pass

    seen: list[Mapping[str, float]] = []

    def watch(measured: Mapping[str, float]) -> None:
        seen.append(measured)
        if len(seen) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        train("glr", log, held_out=newest(log), run=Run(watch=watch), **FIXED)
    assert [line["epoch"] for line in seen] == [1, 2]
    assert all("ndcg@20" in line for line in seen)


def test_poor_networks_end_early_and_a_search_repeats(log: Log) -> None:
    def tried() -> list[tuple[int, dict[str, object], float]]:
        of = search(log, "glr", FIXED, Run(), trials=9)
        assert of.ended > 0
        assert len(of.trials) + of.ended == 9
        return [(trial.number, trial.changed, trial.worth) for trial in of.trials]

    first = tried()
    assert first[0][:2] == (0, {})
    assert tried() == first


def test_the_first_trial_has_the_defaults_of_such_a_log() -> None:
    histories = walks(400)
    histories.user[:] = histories.user // 40
    assert length(histories) > 30
    chosen = Parameters.chosen(length(histories))
    assert (chosen.layers, chosen.epochs) == (HISTORIES["layers"], HISTORIES["epochs"])


def test_one_robot_does_not_make_a_log_one_of_long_histories() -> None:
    visits = walks(400)
    mean = visits.user.size / (visits.user.max() + 1)
    visits.user[: visits.user.size // 4] = 0  # a quarter of all events
    assert length(visits) <= 2 * mean < LONG


def test_a_small_log_gets_small_batches() -> None:
    assert Parameters.chosen(3, 17_000).batch == 256
    assert Parameters.chosen(3, 400_000).batch == 1_200  # 333 steps in each of 6 epochs
    assert Parameters.chosen(3, 5_000_000).batch == Parameters().batch
    assert Parameters.chosen(100, 80_000).batch == 640
    assert Parameters.chosen(3, 400_000, epochs=2).batch == 400
    assert Parameters.chosen(3, 17_000, batch=5_000).batch == 5_000


def test_a_network_needs_a_readout(log: Log) -> None:
    with pytest.raises(UsageError, match="mean=true, query=true, or both"):
        train("glr", log, mean=False, query=False)


def test_a_training_that_runs_away_is_no_network(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LIMITS, "learning_rate")
    with pytest.raises(UsageError, match="lower learning_rate"):
        train("glr", log, held_out=newest(log), **{**FIXED, "learning_rate": 1e30})


@pytest.mark.parametrize(
    "value", ["dim=0", "dropout=1", "learning_rate=0", "seed=-1", "negatives=0", "window=0"]
)
def test_numbers_out_of_their_range_are_refused(log: Log, value: str) -> None:
    name, number = value.split("=")
    with pytest.raises(UsageError, match=f"--set {name}={number}"):
        train("glr", log, **{name: float(number) if "." in number else int(number)})


def test_one_negative_is_enough(log: Log) -> None:
    assert train("glr", log, **{**FIXED, "negatives": 1, "epochs": 1}).item_ids
