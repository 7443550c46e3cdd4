"""An ensemble of which one is a network: it settles what it settles alone, and keeps that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models import train
from export.models.base import Run, Trained
from export.models.ensemble import Settled
from stream.contracts import EventType
from stream.core.model import Model
from stream.core.recent import Recent
from tests.training.shops import SMALL, newest, walks

GLR: dict[str, Any] = {f"glr.{name}": value for name, value in {**SMALL, "epochs": 2}.items()}
OF: dict[str, Any] = {"of": "cooccurrence,glr,decay", "decay.dim": 8, **GLR}


@pytest.fixture(scope="module")
def log() -> Log:
    """With an item that is only shown, of which `glr` alone would make a row."""
    log = walks(400)
    shown = np.flatnonzero(log.user % 50 == 0)[::3]
    item = log.item.copy()
    item[shown] = len(log.items)
    types = log.event_type.copy()
    types[shown] = int(EventType.IMPRESSION)
    return replace(log, items=[*log.items, "shown"], item=item, event_type=types)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def trained(log: Log, said: list[str]) -> Trained:
    return train("ensemble", log, held_out=newest(log), run=Run(report=said.append), **OF)


def test_every_member_is_in_and_graphs_are_as_the_reference(
    trained: Trained, said: list[str], tmp_path: Path
) -> None:
    model = Model(write_bundle(trained, tmp_path / "bundle"), "cpu")  # replays golden sequences
    assert "shown" not in trained.item_ids
    assert model.state_size == 20 + 64 + 16  # last items; recurrence and mean; two sums
    assert model.embedding_dim == 32 + 8
    assert any(line.startswith("  weights: cooccurrence") for line in said)
    assert trained.storage == "float32"
    rng = np.random.default_rng(0)
    rows, types = rng.integers(0, 121, (2, 64)), rng.integers(0, 10, (2, 64))
    gaps = rng.uniform(0, 1e5, (2, 64)).astype(np.float32)
    state = np.zeros((64, model.state_size), np.float32)
    for step in range(2):
        event = rows[step], types[step], gaps[step]
        single = [model.update(state[i : i + 1], *(x[i : i + 1] for x in event)) for i in range(64)]
        state = model.update(state, *event)
        assert state.tobytes() == np.concatenate(single).tobytes()
    recent = Recent(rng.integers(0, 121, (64, 6)), np.full((64, 6), int(EventType.CLICK)))
    asked = state, model.new_bias(), np.zeros((64, 1), np.int64), 1.0, 120
    (listed, scores), (_, without) = model.score(*asked, recent), model.score(*asked)
    assert (scores != without).any()  # what is known of the last interactions counts
    logits = trained.reference.logits(state, 1.0, recent).astype(np.float64)
    wanted = 1 / (1 + np.exp(-np.take_along_axis(logits, listed, axis=1)))
    np.testing.assert_allclose(scores, wanted, atol=2e-5)


def test_what_was_settled_is_kept_for_the_whole_log(log: Log, trained: Trained) -> None:
    settled = trained.settled
    assert isinstance(settled, Settled)
    assert settled.members["glr"].epochs > 0
    assert settled.members["decay"] is None
    weights = dict(zip(("cooccurrence", "glr", "decay"), settled.weighed.weights, strict=True))
    assert trained.training["weights"] == weights
    whole = train("ensemble", log, settled=settled, **OF)
    assert whole.training["weights"] == weights
    told = whole.training["members"]["glr"]["settled"]
    assert told == trained.training["members"]["glr"]["settled"]
    assert whole.training["events"] == len(log) > trained.training["events"]
