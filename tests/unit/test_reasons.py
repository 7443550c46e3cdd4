"""Reasons against the graph itself: the stated interaction has the largest share in the score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.bundle import write_bundle
from export.models import train
from stream.contracts import EventType
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.policy.reasons import Reasons
from stream.core.policy.ring import LOOK_BACK, Ring
from tests.support.bundles import random_decay_bundle
from tests.unit.test_model import random_log

USERS, EVENTS, K = 200, LOOK_BACK, 10
HOUR_S = 3600.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("reasons") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, storage="float32")


class Users:
    """Users of `EVENTS` random interactions each, minutes to months old; newest last."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.model = model
        self.rows = rng.permuted(np.tile(np.arange(1, 201), (USERS, 1)), axis=1)[:, :EVENTS]
        towards = [EventType.VIEW, EventType.CLICK, EventType.LIKE, EventType.PURCHASE]
        self.types = rng.choice([*towards, EventType.DISLIKE], (USERS, EVENTS)).astype(np.int64)
        gaps_s = 10 ** rng.uniform(1, 6.5, (USERS, EVENTS))
        self.ages_s = np.flip(np.cumsum(np.flip(gaps_s, 1), axis=1), 1) - gaps_s[:, -1:]
        self.ages_s -= self.ages_s[:, -1:]

    def states(self, without: np.ndarray | None = None) -> np.ndarray:
        """Through the graph; `without` (int64, shape (USERS,)) leaves one interaction out."""
        state = np.zeros((USERS, self.model.state_size), np.float32)
        previous = self.ages_s[:, 0]
        for number in range(EVENTS):
            rows = self.rows[:, number].copy()
            if without is not None:
                rows[without == number] = 0
            age = self.ages_s[:, number]
            state = self.model.update(state, rows, self.types[:, number], previous - age)
            previous = age
        return state

    def ring(self) -> Ring:
        newest = np.tile(np.arange(EVENTS)[::-1], (USERS, 1))
        types, ages_s = self.types.astype(np.uint8), self.ages_s.astype(np.float32)
        return Ring(self.rows, types, ages_s, newest)

    def shares(self, listed: np.ndarray) -> np.ndarray:
        """float64, shape (USERS, k, EVENTS); the formula of `Additive`, from the events alone."""
        manifest = self.model.bundle.manifest
        assert manifest.additive is not None
        table = self.model.embeddings.astype(np.float64)
        weight = np.zeros(16)
        for name, value in manifest.event_weights.items():
            weight[manifest.event_types[name]] = value
        kept = np.zeros((USERS, EVENTS))
        for fading in manifest.additive.sums:
            left = weight[self.types] * 2 ** (-self.ages_s / fading.half_life_s)
            total = (left[:, :, None] * table[self.rows]).sum(axis=1)
            length = np.sqrt((total**2).sum(axis=1) + manifest.additive.strength**2)
            kept += fading.share * left / length[:, None]
        dots = np.einsum("und,ukd->ukn", table[self.rows], table[listed])
        return manifest.beta * dots * kept[:, None, :]


def score(model: Model, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.zeros((len(states), 1), np.int64)
    return model.score(states, model.new_bias(), nothing, model.bundle.manifest.beta, K)


def logits_of(model: Model, states: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """The graph's logits of given rows."""
    nothing = np.zeros((len(states), 1), np.int64)
    beta = model.bundle.manifest.beta
    rows, scores = model.score(states, model.new_bias(), nothing, beta, model.rows)
    by_row = np.empty(rows.shape)
    np.put_along_axis(by_row, rows, scores.astype(np.float64), axis=1)
    of_listed = np.take_along_axis(by_row, listed, axis=1)
    return np.log(of_listed / (1 - of_listed))


def test_the_stated_interaction_has_the_largest_share_in_the_score(bundle: Bundle) -> None:
    users = Users(Model(bundle, "cpu"))
    states = users.states()
    listed, scores = score(users.model, states)
    shares = users.shares(listed)
    # The shares are those of the graph: with the bias they add up to its logits.
    logits = np.log(scores / (1 - scores.astype(np.float64)))
    np.testing.assert_allclose(shares.sum(axis=2) + bundle.biases[listed], logits, atol=2e-3)
    reasons = Reasons(users.model).of(listed, users.ring(), states)
    towards = np.where(users.types == EventType.DISLIKE, -np.inf, 1)[:, None, :]
    largest = np.where(towards > 0, shares, -np.inf).argmax(axis=2)
    stated = set()
    for user in range(USERS):
        for place in range(K):
            best = largest[user, place]
            if shares[user, place, best] <= 0:
                assert reasons.types[user, place] == 0
                continue
            assert reasons.rows[user, place] == users.rows[user, best]
            assert reasons.types[user, place] == users.types[user, best]
            stated.add(int(best))
    assert len(stated) == EVENTS  # not simply the newest
    # Without the stated interaction the graph itself scores the item lower: nearly always, since
    # the others' lengths shrink as well.
    first = listed[:, :1]
    positive = np.take_along_axis(shares[:, 0], largest[:, :1], axis=1)[:, 0] > 0
    alone = logits_of(users.model, users.states(without=largest[:, 0]), first)
    assert (alone < logits[:, :1])[positive].mean() > 0.95


def test_a_model_without_a_sum_names_the_newest_interaction_of_positive_weight(
    tmp_path: Path,
) -> None:
    bundle = write_bundle(train("cooccurrence", random_log(), dim=8), tmp_path / "bundle")
    assert bundle.manifest.additive is None
    users = Users(Model(bundle, "cpu"))
    states = users.states()
    listed, _ = score(users.model, states)
    reasons = Reasons(users.model).of(listed, users.ring(), states)
    for user in range(USERS):
        liked = np.flatnonzero(users.types[user] != EventType.DISLIKE)
        wanted = users.rows[user, liked[-1]] if len(liked) else 0
        assert set(reasons.rows[user].tolist()) == {wanted}
        kind = users.types[user, liked[-1]] if len(liked) else 0
        assert set(reasons.types[user].tolist()) == {kind}
