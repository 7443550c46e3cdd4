"""A recurrence with int8 items and states: what is listed, and whether rounding piles up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.bundle import write_bundle
from export.compression.bundle import compress
from export.models.glr.learning import learn
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.packing import pack
from stream.core.recent import Recent
from tests.training.shops import ITEMS, SMALL, THEMES, walks

ROWS = THEMES * ITEMS
USERS, K = 40, 10
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = learn(walks(), epochs=4, **SMALL)
    return write_bundle(trained, tmp_path_factory.mktemp("packed") / "plain")


def clicks(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Events of all users: rows, types, gaps."""
    rng = np.random.default_rng(0)
    click, gaps_s = np.full(USERS, 1), np.full(USERS, 60, np.float32)
    return [(rng.integers(1, ROWS + 1, USERS), click, gaps_s) for _ in range(count)]


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_lists_are_those_of_the_rounded_vectors(
    storage: str, bundle: Bundle, tmp_path: Path
) -> None:
    packed = compress(bundle, tmp_path / "packed", storage, "float32")
    ours, theirs = Model(packed, "cpu"), Model(bundle, "cpu")
    theirs.set_embeddings(np.arange(1, len(packed.embeddings)), packed.embeddings[1:])
    state = np.zeros((USERS, ours.state_size), np.float32)
    own = state
    for event in clicks(8):
        own, state = ours.update(own, *event), theirs.update(state, *event)
    assert own.tobytes() == state.tobytes()
    rng = np.random.default_rng(1)
    shape = (USERS, ours.recent)
    recent = Recent(rng.integers(0, ROWS + 1, shape), rng.integers(0, 4, shape))
    struck = rng.integers(0, ROWS + 1, (USERS, 3))
    (rows, scores), (exact_rows, exact) = (
        model.score(state, model.new_bias(), struck, 1.0, K, recent) for model in (ours, theirs)
    )
    np.testing.assert_allclose(scores, exact, rtol=0, atol=TOLERANCE)
    gaps = np.abs(np.diff(exact, axis=1, append=0))
    previous = np.concatenate([np.ones_like(gaps[:, :1]), gaps[:, :-1]], axis=1)
    assert ((rows == exact_rows) | (np.minimum(previous, gaps) <= 2 * TOLERANCE)).all()


def test_rounding_of_states_does_not_pile_up(bundle: Bundle) -> None:
    model = Model(bundle, "cpu")
    exact = np.zeros((USERS, model.state_size), np.float32)
    rounded = exact
    errors = []
    for event in clicks(400):
        exact = model.update(exact, *event)
        rounded = pack(model.update(rounded, *event), "int8").unpacked()  # as states are
        size = np.linalg.norm(exact, axis=1)
        errors.append(float(np.median(np.linalg.norm(rounded - exact, axis=1) / size)))
    assert 0 < np.mean(errors[:20]) < 0.05
    assert np.mean(errors[-100:]) < 2 * np.mean(errors[20:120])
