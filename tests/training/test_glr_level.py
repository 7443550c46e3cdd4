"""Logits of a small log: their level is that of probabilities, and lists are full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import logsumexp

from export.bundle import write_bundle
from export.data.dataset import Log
from export.measuring.evaluate import replay
from export.models.base import Run
from export.models.glr.blend import AddedUp, Entries
from export.models.glr.companions import Companions
from export.training.sides import hold_out
from export.training.train import attempt, fit, loaded
from stream.config import Placement
from stream.core.model import Model
from tests.support.logs import log_of

DAY_S = 86_400
P = {"epochs": 1, "members": 1, "last": 6}


@pytest.fixture(scope="module")
def log() -> Log:
    """Sixty users and forty items at random: each of them is another's companion."""
    rng = np.random.default_rng(0)
    return log_of(
        [
            (f"u{user}", f"i{item}", day * DAY_S + 600 * user, "click")
            for day in range(32)
            for user, item in enumerate(rng.integers(0, 40, 60).tolist())
        ]
    )


def silently(message: str) -> None:
    pass


def test_last_interactions_move_the_normaliser() -> None:
    rng = np.random.default_rng(0)
    items, cases = 30, 8
    counts = rng.poisson(0.2, (items, items))
    counts[0] = counts[:, 0] = 0
    companions = Companions.of(csr_array(counts), 4)
    recent = rng.integers(0, items, (cases, 3))
    recent[0] = 0  # a case without a pair
    entries = Entries.of(recent, companions)
    logits = rng.normal(0, 2, (cases, items))
    base = logits - logsumexp(logits, axis=1, keepdims=True)
    at = entries.case, entries.row
    weights = rng.normal(0, 3, 6)
    wanted = base.copy()
    wanted[at] += entries.added(weights)
    found = AddedUp.of(entries, base[at], cases).normaliser(base[at] + entries.added(weights))
    np.testing.assert_allclose(found, logsumexp(wanted, axis=1), atol=1e-9)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert np.abs(found[1:]).min() > 0.01


def test_lists_are_full_before_and_after_calibration(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what comes with the last interactions is what is not taken next, which nearly all of
    such a catalogue does."""
    weights = np.repeat([0.0, -3.0], P["last"])
    monkeypatch.setattr("export.models.glr.settling.fit", lambda *given: weights)
    held = hold_out(log)
    assert held is not None
    tried = attempt("glr", held, P, Run(device="cpu"), silently)
    everything = Placement(k=40, exclude_seen=False, exclude_bought=False)
    with loaded(tried.trained) as served:
        plain = replay(served, held.asked, rules=everything)
    assert (plain.listed[:, :20] > 0).all()
    final = fit(log, "glr", P, silently, Run(device="cpu"))
    assert final.calibration is not None
    assert final.metrics["held_out"]["recall@20"] > 0.3  # by chance .5
    served = Model(write_bundle(final, tmp_path / "bundle"), "cpu")
    assert (replay(served, held.asked, rules=everything).listed > 0).all()
