"""Metrics are what their names mean, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from export.measuring.metrics import lists
from export.measuring.metrics.calibration import reliability
from export.measuring.metrics.ranking import RANKING, find_hits, gain
from export.measuring.metrics.ratings import mae, rmse
from export.measuring.metrics.significance import bootstrap, compare

LISTED = np.array([[9, 4, 0, 7], [1, 2, 3, 4], [5, 6, 8, 0]])
TARGETS = [np.array([4, 7, 5]), np.array([1]), np.array([0, 9])]  # 0: an item without a row


def test_metrics_of_lists_worked_by_hand() -> None:
    at_4 = {name: metric(find_hits(LISTED, TARGETS), 4) for name, metric in RANKING.items()}
    ideal = 1 + 1 / np.log2(3) + 1 / 2
    wanted = {
        "recall": [2 / 3, 1, 0],
        "precision": [2 / 4, 1 / 4, 0],
        "f1": [2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4), 2 * (1 / 4) / (5 / 4), 0],
        "hit_rate": [1, 1, 0],
        "ndcg": [(1 / np.log2(3) + 1 / np.log2(5)) / ideal, 1, 0],
        "mrr": [1 / 2, 1, 0],
    }
    assert set(wanted) == set(RANKING)
    for name, values in wanted.items():
        np.testing.assert_allclose(at_4[name], values, err_msg=name)
    at_1 = {name: metric(find_hits(LISTED, TARGETS), 1) for name, metric in RANKING.items()}
    for name, found in at_1.items():
        np.testing.assert_allclose(found, [0, 1, 0], err_msg=name)


def test_a_single_targets_gain_is_its_ndcg() -> None:
    ranks = np.array([0, 1, 2, 3, 9])
    listed = np.where(np.arange(4) == ranks[:, None], 5, 1 + np.arange(4))
    found = RANKING["ndcg"](find_hits(listed, [np.array([5])] * 5), 3)
    np.testing.assert_array_equal(gain(ranks, 3), found)
    np.testing.assert_allclose(found, [1, 1 / np.log2(3), 1 / 2, 0, 0])


def test_a_list_shorter_than_k_still_has_k_places() -> None:
    hits = find_hits(np.array([[3]]), [np.array([3, 4])])
    found = {name: metric(hits, 5)[0] for name, metric in RANKING.items()}
    assert found["precision"] == 1 / 5
    assert found["recall"] == 1 / 2
    assert found["ndcg"] == pytest.approx(1 / (1 + 1 / np.log2(3)))


def random_lists(n: int, items: int, k: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Lists of distinct rows, and one to six targets each."""
    rng = np.random.default_rng(7)
    listed = np.stack([rng.permutation(items)[:k] + 1 for _ in range(n)])
    targets = [rng.permutation(items)[: rng.integers(1, 7)] + 1 for _ in range(n)]
    return listed, targets


def test_what_all_lists_are_like_worked_by_hand() -> None:
    listed = np.array([[1, 2], [1, 3], [1, 0]])
    assert lists.coverage(listed, 4) == 3 / 4
    # counts 3, 1, 1, 0: every pair of items apart, over 2 m sum
    counts = [3, 1, 1, 0]
    apart = sum(abs(a - b) for a in counts for b in counts)
    assert lists.gini(listed, 4) == pytest.approx(apart / (2 * 4 * 5))
    assert lists.gini(np.array([[1, 2], [3, 4]]), 4) == 0
    assert lists.gini(np.zeros((2, 2), np.int64), 4) == 0
    popularity = np.array([0, 7.0, 3, 1, 1])
    bits = -np.log2(np.array([8, 4, 2, 2]) / 16)  # one added to each
    assert lists.novelty(listed, popularity) == pytest.approx((3 * bits[0] + bits[1] + bits[2]) / 5)
    assert lists.average_popularity(listed, popularity) == pytest.approx((5 + 4 + 7) / 3)
    known = np.array([1.0, 2.0, np.nan])  # the third user has no history
    lift = ((5 + 4) / 2) / ((1 + 2) / 2) - 1
    assert lists.popularity_lift(listed, known, popularity) == pytest.approx(lift)
    assert lists.popularity_lift(listed, np.full(3, np.nan), popularity) == 0


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths else 0.0


def test_diversity_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    lengths = rng.uniform(0.1, 9, (9, 1))  # as factors have them
    vectors = (lengths * rng.standard_normal((9, 4))).astype(np.float32)
    vectors[0] = vectors[5] = 0  # no item; an item without a vector
    listed = np.array([[1, 2, 3], [4, 5, 0], [6, 0, 0], [7, 8, 1]])
    by_pairs = []
    for places in listed:
        rows = places[places > 0]
        pairs = [(a, b) for a in rows for b in rows if a < b]
        if pairs:
            by_pairs.append(np.mean([1 - cosine(vectors[a], vectors[b]) for a, b in pairs]))
    assert lists.intra_list_diversity(listed, vectors) == pytest.approx(np.mean(by_pairs))
    monkeypatch.setattr(lists, "_CHUNK", 2)
    assert lists.intra_list_diversity(listed, vectors) == pytest.approx(np.mean(by_pairs))
    assert lists.intra_list_diversity(listed[:0], vectors) == 0


def test_bins_of_scores_and_their_error() -> None:
    scores = np.array([[0.1, 0.1, 0.2], [0.8, 0.8, 0.0]])
    hits = np.array([[True, False, False], [True, True, True]])
    found = reliability(scores, hits, bins=2)
    assert found.items.tolist() == [3, 2]
    np.testing.assert_allclose(found.score, [0.4 / 3, 0.8])
    np.testing.assert_allclose(found.hits, [1 / 3, 1])  # where nothing is listed nothing is counted
    assert found.error == pytest.approx((3 * (1 / 3 - 0.4 / 3) + 2 * 0.2) / 5)
    assert reliability(np.zeros((2, 2)), np.zeros((2, 2), np.bool_)).error == 0
    rng = np.random.default_rng(0)
    true = rng.random(200_000) ** 4
    assert reliability(true, rng.random(200_000) < true).error < 0.01
    assert reliability(true, rng.random(200_000) < true / 2).error > 0.05


def test_errors_of_ratings() -> None:
    predicted, rated = np.array([3.0, 4.0, 1.0]), np.array([4.0, 4.0, 3.0])
    assert rmse(predicted, rated) == pytest.approx(np.sqrt(5 / 3))
    assert mae(predicted, rated) == pytest.approx(1.0)


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    values = rng.random((len(user), 2)) + user[:, None] / 30
    low, high = bootstrap(values, user, draws=4_000)
    for metric in range(2):
        sums = np.bincount(user, values[:, metric])
        theirs = stats.bootstrap(
            (sums, np.bincount(user)),
            lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
            paired=True,
            method="percentile",
            n_resamples=4_000,
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert low[metric] == pytest.approx(theirs.low, abs=0.03)
        assert high[metric] == pytest.approx(theirs.high, abs=0.03)
    alone = bootstrap(values, np.arange(len(user)))
    assert (alone.high - alone.low < 0.8 * (high - low)).all()  # lists of one user are alike


def test_draws_do_not_depend_on_their_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    values, user = rng.random((50, 2)), np.arange(50) // 2
    whole = bootstrap(values, user)
    np.testing.assert_array_equal(whole, bootstrap(values, user))
    assert not np.array_equal(whole, bootstrap(values, user, seed=1))
    monkeypatch.setattr("export.measuring.metrics.significance._AT_ONCE", 100)
    np.testing.assert_allclose(bootstrap(values, user), whole)


def test_p_is_that_of_scipys_exact_test() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.random((2, 9, 1)) + np.array([[[0.25]], [[0.0]]])
    found = compare(first, second, np.arange(9), draws=20_000)
    exact = stats.permutation_test(
        (first[:, 0], second[:, 0]),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert found.difference[0] == pytest.approx((first - second).mean())
    assert 0.01 < exact.pvalue < 0.5
    assert found.p[0] == pytest.approx(exact.pvalue, abs=0.01)
    assert found.low[0] < found.difference[0] < found.high[0]


def test_the_same_lists_differ_by_nothing_and_other_ones_by_little_chance() -> None:
    rng = np.random.default_rng(4)
    values, user = rng.random((300, 1)), np.arange(300) // 3
    same = compare(values, values, user)
    assert (same.difference[0], same.p[0]) == (0, 1)
    assert compare(values + 0.2, values, user).p[0] == pytest.approx(1 / 1_001)
    # Under the null p is uniform: one run in ten or so lies below 0.1.
    below = [
        compare(*rng.random((2, 40, 1)), np.arange(40), draws=199, seed=run).p[0] < 0.1
        for run in range(200)
    ]
    assert 0.03 < np.mean(below) < 0.19
