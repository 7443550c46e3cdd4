"""Factorization: exact half steps, folds that stay sound whatever comes, ratings predicted."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models import als, mf, train
from export.models.ratings import Ratings, fit_ratings
from export.weights import EVENT_WEIGHTS
from stream.contracts import EventType
from stream.core.model import Model
from stream.errors import UsageError

BEGIN_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000


def log_of(
    user: np.ndarray,
    item: np.ndarray,
    kind: EventType | np.ndarray,
    rating: np.ndarray | None = None,
) -> Log:
    """Events an hour apart, each user's one session."""
    n = len(user)
    return Log(
        users=[f"u{i}" for i in range(int(user.max()) + 1)],
        items=[f"i{i}" for i in range(int(item.max()) + 1)],
        user=user,
        item=item,
        event_type=np.broadcast_to(np.int64(kind), n).copy(),
        time_ms=BEGIN_MS + np.arange(n) * HOUR_MS,
        session=user.copy(),
        quantity=np.ones(n),
        price=np.ones(n),
        titles={},
        rating=np.full(n, np.nan) if rating is None else rating,
    )


def two_tastes(users: int = 30) -> Log:
    """Even users buy even items of twenty, odd ones odd."""
    rng = np.random.default_rng(0)
    user = rng.permutation(np.repeat(np.arange(users), 6))
    item = 2 * rng.integers(0, 10, len(user)) + user % 2
    return log_of(user, item, EventType.PURCHASE)


def rated_log(users: int = 60, items: int = 40, share: float = 0.5) -> Log:
    """Ratings of 1 to 5 that a mean, biases and two factors explain, with a little noise."""
    rng = np.random.default_rng(1)
    pairs = rng.permutation(users * items)[: int(share * users * items)]
    user, item = pairs // items, pairs % items
    u, v = rng.normal(0, 0.7, (users, 2)), rng.normal(0, 0.7, (items, 2))
    rating = 3 + rng.normal(0, 0.4, users)[user] + rng.normal(0, 0.5, items)[item]
    rating += (u[user] * v[item]).sum(axis=1) + rng.normal(0, 0.1, len(pairs))
    return log_of(user, item, EventType.CLICK, np.clip(np.round(2 * rating) / 2, 1, 5))


def test_a_half_step_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(0)
    weights = sparse.random_array((7, 9), density=0.5, rng=rng, format="csr")
    targets, factors = rng.normal(size=weights.nnz), rng.normal(size=(9, 4))
    gram, ridge = 0.2 * factors.T @ factors, rng.uniform(0.1, 1, 7)
    found = als.solve_rows(weights, targets, factors, gram, ridge)
    for row in range(7):
        some = slice(weights.indptr[row], weights.indptr[row + 1])
        f, root = factors[weights.indices[some]], np.sqrt(weights.data[some])
        stacked = np.concatenate(
            [f * root[:, None], np.sqrt(0.2) * factors, np.sqrt(ridge[row]) * np.eye(4)]
        )
        aims = np.concatenate([targets[some] * root, np.zeros(9 + 4)])
        expected = np.linalg.lstsq(stacked, aims, rcond=None)[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


def test_sweeps_bring_the_loss_down() -> None:
    log = two_tastes()
    log.event_type[::3] = EventType.DISLIKE  # targets of 0 and between
    weights, targets = mf.interactions(log, ["", *(f"i{i}" for i in range(20))], 1e9)

    def loss(sweeps: int) -> float:
        settings = {"unobserved": 0.1, "regularisation": 0.01}
        items = als.implicit(weights, targets, 4, sweeps=sweeps, **settings)
        ridge = 0.01 * (np.asarray(weights.sum(axis=1)) + 0.1 * 21)
        rows = als.solve_rows(weights, targets, items, 0.1 * items.T @ items, ridge)
        products = rows @ items.T
        at = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr)), weights.indices
        seen = (weights.data * (targets - products[at]) ** 2).sum()
        shrunk = ridge @ (rows**2).sum(axis=1)
        item_ridge = 0.01 * (np.asarray(weights.sum(axis=0)) + 0.1 * weights.shape[0])
        return float(
            seen + 0.1 * (products**2).sum() + shrunk + item_ridge @ (items**2).sum(axis=1)
        )

    losses = [loss(sweeps) for sweeps in (1, 2, 4, 8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_weights_targets_and_rows_of_the_matrix() -> None:
    user = np.array([0, 0, 0, 0, 1, 0])
    item = np.array([0, 0, 1, 1, 2, 0])
    kinds = [EventType.PURCHASE, EventType.CANCEL, EventType.CLICK, EventType.IMPRESSION,
             EventType.DISLIKE, EventType.PURCHASE]  # fmt: skip
    log = log_of(user, item, np.array(kinds))
    log.time_ms[-1] += 10 * HOUR_MS
    ids = ["", "i0", "i1", "i2"]
    weights, targets = mf.interactions(log, ids, 5 * 3600)
    w = EVENT_WEIGHTS
    expected = np.zeros((3, 4))
    expected[0, 1:3] = w[EventType.PURCHASE] - w[EventType.CANCEL], w[EventType.CLICK]
    expected[1, 1] = w[EventType.PURCHASE]  # after the pause: a row of its own
    expected[2, 3] = -w[EventType.DISLIKE]
    mean = np.mean([abs(w[kind]) for kind in kinds if w[kind]])
    np.testing.assert_allclose(weights.toarray(), expected / mean)
    assert targets.tolist() == [0.5, 1, 1, 0]
    assert mf.interactions(log, ids, 1e9)[0].shape == (2, 4)
    assert mf.interactions(log, ["", "i2"], 1e9)[0].shape == (1, 2)


def test_ratings_are_targets_between_0_and_1() -> None:
    rating = np.array([1, 5, np.nan, 3.0])
    log = log_of(np.arange(4), np.arange(4), EventType.CLICK, rating)
    _, targets = mf.interactions(log, ["", "i0", "i1", "i2", "i3"], 1e9)
    np.testing.assert_allclose(targets, [2 / 6, 1, 1, 4 / 6])


def test_a_folded_user_is_the_shared_part_of_the_exact_solution() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(6, 3))
    factors[0] = 0
    z = mf.whitened(factors, 0.5)
    gram = factors.T @ factors
    shared = gram + 0.5 * np.trace(gram) / 3 * np.eye(3)
    exact = factors @ np.linalg.solve(shared, factors.T)
    scale = (z[1] @ z[1]) / exact[1, 1]
    np.testing.assert_allclose(z @ z.T, scale * exact, atol=1e-12)
    np.testing.assert_allclose((z[1:] ** 2).sum(axis=1).mean(), 1)


def test_lists_hold_what_users_of_the_same_taste_buy(tmp_path: Path) -> None:
    model = Model(write_bundle(train("mf", two_tastes(), dim=2), tmp_path / "bundle"), "cpu")
    rows = np.array([model.bundle.item_ids.index(f"i{i}") for i in range(20)])
    bought = np.array([int(EventType.PURCHASE)] * 2)
    state = model.update(np.zeros((2, 2), np.float32), rows[:2], bought, np.zeros(2))
    struck, beta = rows[[[0], [1]]], model.bundle.manifest.beta
    listed, _ = model.score(state, model.new_bias(), struck, beta, 9)
    for taste in (0, 1):
        assert {int(model.bundle.item_ids[row][1:]) % 2 for row in listed[taste]} == {taste}
    away = model.update(state, rows[:2], np.array([int(EventType.DISLIKE)] * 2), np.zeros(2))
    away = model.update(away, rows[:2], np.array([int(EventType.DISLIKE)] * 2), np.zeros(2))
    listed, _ = model.score(away, model.new_bias(), struck, beta, 9)
    for taste in (0, 1):
        assert {int(model.bundle.item_ids[row][1:]) % 2 for row in listed[taste]} == {1 - taste}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(
        write_bundle(train("mf", two_tastes(), dim=4), tmp_path_factory.mktemp("mf") / "b")
    )


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from([*EventType]), min_size=1, max_size=4),
    reach=st.sampled_from([0.0, 3.0, 6.0, 9.5]),
)
def test_states_stay_sound_whatever_comes(
    seed: int, kinds: list[EventType], reach: float, small: Model
) -> None:
    """Gaps of both signs up to a century, impressions, cancellations alone, unknown items."""
    rng = np.random.default_rng(seed)
    users = 100
    state = np.zeros((users, small.state_size), np.float32)
    for _ in range(100):
        gaps = rng.choice([-1, 1], users) * 10 ** rng.uniform(-3, reach, users)
        types = rng.choice(kinds, users).astype(np.int64)
        state = small.update(state, rng.integers(0, 21, users), types, gaps.astype(np.float32))
    assert np.isfinite(state).all()
    beta, nothing = small.bundle.manifest.beta, np.zeros((users, 1), np.int64)
    for scale in (1, 10_000):  # a state is linear: as if each event had come 10,000 times
        _, scores = small.score(np.float32(scale) * state, small.new_bias(), nothing, beta, 5)
        # ONNX Runtime's Sigmoid may be one bit above 1.
        assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()


def test_ten_thousand_events_in_a_row_and_in_any_order(small: Model) -> None:
    rng = np.random.default_rng(3)
    times = rng.integers(0, 10**7, 10_000)
    rows, types = rng.integers(0, 21, 10_000), rng.integers(1, 10, 10_000)

    def folded(order: np.ndarray) -> np.ndarray:
        state, newest = np.zeros((1, small.state_size), np.float32), int(times[order[0]])
        for at in order:
            gap = np.float32([times[at] - newest])
            state = small.update(state, rows[[at]], types[[at]], gap)
            newest = max(newest, int(times[at]))
        return state

    in_order, shuffled = folded(np.argsort(times)), folded(rng.permutation(10_000))
    assert np.isfinite(in_order).all()
    np.testing.assert_allclose(shuffled, in_order, atol=2e-3 * np.abs(in_order).max())


def test_ratings_are_predicted_much_better_than_by_their_mean() -> None:
    log = rated_log()
    ratings = Ratings.of(log)
    some = np.random.default_rng(0).random(len(ratings)) < 0.9
    older, newer = (
        Ratings(ratings.user[part], ratings.item[part], ratings.value[part])
        for part in (some, ~some)
    )
    model = fit_ratings(older, len(log.users), len(log.items), dim=2)
    errors = model.errors(newer)
    assert errors["ratings"] == len(newer)
    assert errors["rmse"] < 0.6 * errors["rmse_of_mean"]
    biases = fit_ratings(older, len(log.users), len(log.items), dim=2, regularisation=50.0)
    assert errors["rmse"] < biases.errors(newer)["rmse"]
    off = model.predict(newer.user, newer.item) - newer.value
    assert errors["rmse"] == pytest.approx(np.sqrt((off**2).mean()), abs=1e-4)
    assert errors["mae"] == pytest.approx(np.abs(off).mean(), abs=1e-4)


def test_ratings_are_not_learned_by_heart() -> None:
    """As noisy as people's: each user rates 24 of 80 items, and is off by most of a star."""
    rng = np.random.default_rng(3)
    of_users, of_items = rng.normal(0, 0.4, 120), rng.normal(0, 0.5, 80)
    tastes, traits = rng.normal(0, 0.5, (120, 3)), rng.normal(0, 0.6, (80, 3))
    user, item = np.nonzero(rng.random((120, 80)) < 0.3)
    meant = 3.5 + of_users[user] + of_items[item] + (tastes[user] * traits[item]).sum(axis=1)
    value = np.clip(np.round(meant + rng.normal(0, 0.8, len(user))), 1, 5)
    held_out = rng.random(len(user)) < 0.2
    older, newer = (Ratings(user[part], item[part], value[part]) for part in (~held_out, held_out))

    def error(**given: Any) -> float:
        return fit_ratings(older, 120, 80, **given).errors(newer)["rmse"]

    assert error() < error(regularisation=5.0) - 0.03  # next to nothing but the biases
    assert error() < error(regularisation=0.05) - 0.03


def test_the_newest_rating_counts_and_strangers_get_the_mean() -> None:
    log = log_of(
        np.array([0, 0, 1, 2]),
        np.array([0, 0, 1, 2]),
        EventType.CLICK,
        np.array([1.0, 4.0, 2.0, np.nan]),
    )
    ratings = Ratings.of(log)
    assert ratings.value.tolist() == [4, 2]
    model = fit_ratings(ratings, 3, 3)
    assert model.predict(np.array([2]), np.array([2])).tolist() == [3.0]
    with pytest.raises(UsageError, match="no ratings"):
        fit_ratings(Ratings.of(two_tastes()), 30, 20)


def test_a_log_of_ratings_reports_its_error() -> None:
    trained = train("mf", rated_log(), dim=4)
    errors = trained.training["held_out_ratings"]
    assert errors["rmse"] < errors["rmse_of_mean"]
    assert "held_out_ratings" not in train("mf", two_tastes(), dim=4).training


def test_ratings_stay_with_their_events() -> None:
    log = rated_log()
    half = log.select(log.user < 30)
    np.testing.assert_array_equal(half.rating, log.rating[log.user < 30])
    assert np.isnan(two_tastes().rating).all()


def test_parameters_of_nought_are_taken() -> None:
    trained = train("mf", two_tastes(), dim=4, regularisation=0.0, ridge=0.0, unobserved=0.0)
    assert np.isfinite(trained.embeddings).all()
