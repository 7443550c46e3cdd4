"""Every kind of network is served as it was trained: PyTorch, NumPy reference and graphs agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.bundle import write_bundle
from export.models.base import Run
from export.models.glr.judging import Cases, interests
from export.models.glr.learning import learn
from export.models.glr.parameters import Parameters
from export.models.glr.sequences import trained_kinds
from stream.core.model import Model
from stream.core.recent import Recent
from tests.training.shops import ITEMS, SMALL, THEMES, newest, walks

VARIANTS = {
    "mean": {},
    "query": {"mean": False, "query": True, "smoothing": 0.0},
    "dot product": {"mean": False, "query": True, "cosine": False, "smoothing": 0.0},
    "both, two layers, two members": {"query": True, "layers": 2, "members": 2},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_torch_the_reference_and_the_graphs_agree(name: str, tmp_path: Path) -> None:
    log = walks(400, repeats=0.2)
    held_out = newest(log)
    p = {**SMALL, **VARIANTS[name]}
    networks: list[torch.nn.Module] = []
    trained = learn(log, held_out=held_out, run=Run(keep=networks.append), epochs=1, **p)
    model = Model(write_bundle(trained, tmp_path / "bundle"), "cpu", spare_rows=0)

    cases = Cases.of(
        log, held_out, np.arange(1, len(log.items) + 1), trained_kinds(log), Parameters(**p)
    )
    windows = cases.windows[:50]
    asked = [interests(network, cases.sequences, windows, 10_000, "cpu") for network in networks]
    stops = windows[:, 1] - 1
    for case, stop in enumerate(stops.tolist()):
        begin = int(windows[case, 0])
        state = np.zeros((1, model.state_size), np.float32)
        kept = state
        for at in range(begin, stop):
            since_s = (
                cases.sequences.time_ms[at] - cases.sequences.time_ms[max(at - 1, begin)]
            ) / 1000
            event = (
                cases.sequences.row[at : at + 1],
                np.array([2]),
                np.array([since_s], np.float32),
            )
            state, kept = model.update(state, *event), trained.reference.update(kept, *event)
        np.testing.assert_allclose(state, kept, atol=2e-5)
        expected = trained.reference.logits(state, 1.0, Recent.nothing(1, trained.recent))
        vectors = torch.cat([q[case] for q in asked])
        scale = np.array(trained.training["scales"]) * trained.settled.temperature
        parts = [vectors[k * p["dim"] : (k + 1) * p["dim"]] * s for k, s in enumerate(scale)]
        own = torch.cat(parts).numpy() * np.sqrt(len(scale)) @ trained.embeddings.T + trained.biases
        np.testing.assert_allclose(own[1:], expected[0, 1:], atol=2e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_folds_to_the_same_bits_as_its_events_one_by_one(name: str, tmp_path: Path) -> None:
    log = walks(400)
    p = {**SMALL, **VARIANTS[name], "dim": 48, "state": 64}
    trained = learn(log, held_out=newest(log), epochs=1, **p)
    model = Model(write_bundle(trained, tmp_path / "bundle"), "cpu", spare_rows=0)
    rng, n = np.random.default_rng(0), 150
    state = rng.standard_normal((n, model.state_size)).astype(np.float32)
    columns = (
        rng.integers(0, THEMES * ITEMS, n),
        rng.integers(0, 10, n),
        (rng.choice([-1, 1], n) * 10 ** rng.uniform(-1, 8, n)).astype(np.float32),
    )
    whole = model.update(state, *columns)
    for size in (1, 2, 3, 7, 16, 33):
        parts = [
            model.update(state[at : at + size], *(column[at : at + size] for column in columns))
            for at in range(0, n, size)
        ]
        assert np.array_equal(np.concatenate(parts).view(np.int32), whole.view(np.int32))
