"""The CUDA provider against the CPU provider: fold, score, and tables changed in place, with item
vectors of each storage.

Both compute in float32, in another order of additions. Allowed is a difference of `TOLERANCE`, the
same as of a bundle's golden sequences: relative to the largest number of a state, absolute for a
score. Two items may change ranks when their scores are no further apart than twice that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from export.bundle import write_bundle
from export.calibration import Calibration
from export.compression.bundle import compress
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.recent import Recent
from stream.core.resident import ResidentBias
from stream.errors import ProviderError
from tests.gpu.catalogue import STORAGES
from tests.support.bundles import random_decay_bundle, recent_model

pytestmark = pytest.mark.gpu

TOLERANCE = 2e-5
ITEMS = 3_000
USERS = 64
K = 20
PROVIDER = "cuda"


class Pair(NamedTuple):
    """The same bundle on the device and on the CPU."""

    device: Model
    cpu: Model


@pytest.fixture(scope="module", params=STORAGES)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("gpu")
    plain = random_decay_bundle(folder / "plain", ITEMS)
    if request.param == "float32":
        return plain
    return compress(plain, folder / "packed", request.param, "int8")


@pytest.fixture
def pair(bundle: Bundle) -> Pair:
    return on_both(bundle)


def on_both(bundle: Bundle) -> Pair:
    """Skips without a CUDA device; REQUIRE_CUDA=1 makes that a failure."""
    try:
        device = Model(bundle, PROVIDER)
    except ProviderError as error:
        if os.environ.get("REQUIRE_CUDA", "") not in ("", "0"):
            pytest.fail(f"CUDA is required here: {error}", pytrace=False)
        pytest.skip(f"no CUDA: {error}")
    assert device.provider == PROVIDER
    return Pair(device, Model(bundle, "cpu"))


def folded(model: Model, users: int = USERS, events: int = 40) -> np.ndarray:
    """States of `users` after random events of all types, some of them late."""
    rng = np.random.default_rng(7)
    state = np.zeros((users, model.state_size), np.float32)
    for _ in range(events):
        rows, types = rng.integers(0, ITEMS + 1, users), rng.integers(1, 10, users)
        gaps_s = rng.normal(3_600, 86_400, users).astype(np.float32)
        state = model.update(state, rows, types, gaps_s)
    return state


def assert_lists_agree(
    pair: Pair, biases: tuple[ResidentBias, ResidentBias], excluded: np.ndarray
) -> np.ndarray:
    """Score the same states on both; return the rows that the device lists, shape (users, K)."""
    state = folded(pair.cpu, len(excluded))
    beta = pair.cpu.bundle.manifest.beta
    rows, scores = pair.device.score(state, biases[0], excluded, beta, K)
    cpu_rows, cpu_scores = pair.cpu.score(state, biases[1], excluded, beta, K + 1)
    np.testing.assert_allclose(scores, cpu_scores[:, :K], rtol=0, atol=TOLERANCE)
    gaps = np.abs(np.diff(cpu_scores, axis=1))  # (users, K): to the following rank
    previous = np.concatenate([np.ones_like(gaps[:, :1]), gaps[:, :-1]], axis=1)
    tied = np.minimum(previous, gaps) <= 2 * TOLERANCE
    assert ((rows == cpu_rows[:, :K]) | tied).all()
    assert not (rows[:, :, None] == np.where(excluded == 0, -1, excluded)[:, None, :]).any()
    return rows


def some_rows(count: int, users: int = USERS) -> np.ndarray:
    return np.random.default_rng(3).integers(1, ITEMS + 1, (users, count))


def new_biases(pair: Pair) -> tuple[ResidentBias, ResidentBias]:
    return pair.device.new_bias(), pair.cpu.new_bias()


def test_fold(pair: Pair) -> None:
    ours, theirs = folded(pair.device), folded(pair.cpu)
    assert np.abs(theirs).max() > 0
    largest = np.abs(theirs).max(axis=1, keepdims=True)
    assert (np.abs(ours - theirs) <= TOLERANCE * largest).all()


def test_a_batch_folds_like_its_events_one_by_one_on_the_device(pair: Pair) -> None:
    state = folded(pair.device)
    rows, types = np.arange(1, USERS + 1), np.arange(USERS) % 9 + 1
    gaps_s = np.linspace(-1e5, 1e6, USERS, dtype=np.float32)
    together = pair.device.update(state, rows, types, gaps_s)
    for user in range(0, USERS, 7):
        one = slice(user, user + 1)
        alone = pair.device.update(state[one], rows[one], types[one], gaps_s[one])
        np.testing.assert_array_equal(alone, together[one])


@pytest.mark.parametrize("users", [1, 16, USERS])
def test_score(pair: Pair, users: int) -> None:
    assert_lists_agree(pair, new_biases(pair), some_rows(30, users))


def test_score_without_exclusions(pair: Pair) -> None:
    assert_lists_agree(pair, new_biases(pair), np.zeros((USERS, 0), np.int64))


def test_changed_biases_count_at_once(pair: Pair) -> None:
    biases, nothing = new_biases(pair), np.zeros((USERS, 0), np.int64)
    before = assert_lists_agree(pair, biases, nothing)
    gone, risen = np.unique(before[:, 0]), np.array([ITEMS])
    for bias in biases:
        bias.set(gone, -1e30)
        bias.set(risen, 8.0)
    after = assert_lists_agree(pair, biases, nothing)
    assert not np.isin(after, np.setdiff1d(gone, risen)).any()
    assert (after == ITEMS).any(axis=1).all()


def test_changed_and_added_embeddings_count_at_once(pair: Pair) -> None:
    biases, nothing = new_biases(pair), np.zeros((USERS, 0), np.int64)
    before = assert_lists_agree(pair, biases, nothing)
    new_row = pair.cpu.rows
    for model, bias in zip(pair, biases, strict=True):
        model.grow(new_row + 1)
        rows = np.array([new_row, 1])
        model.set_embeddings(rows, model.embeddings[before[0, :2]])
        bias.set(rows, 8.0)
    after = assert_lists_agree(pair, biases, nothing)
    assert new_row in after[0]
    assert (after != before).any()


def test_last_interactions_and_calibration(tmp_path: Path) -> None:
    trained = recent_model(ITEMS, 5).calibrated(Calibration.of([-6, -3, 2], [-5, -4, 3]))
    pair = on_both(write_bundle(trained, tmp_path / "bundle"))
    recent = Recent(some_rows(5), some_rows(5) % 9 + 1)
    state, nothing = np.zeros((USERS, 1), np.float32), np.zeros((USERS, 0), np.int64)
    (rows, scores), (cpu_rows, cpu_scores) = (
        model.score(state, model.new_bias(), nothing, trained.beta, K, recent) for model in pair
    )
    np.testing.assert_allclose(scores, cpu_scores, rtol=0, atol=TOLERANCE)
    assert (rows[:, :3] == cpu_rows[:, :3]).all()
    assert all(row in recent.rows[user] for user, row in enumerate(rows[:, 0]))
