"""The baseline: pairs by their distance, weights settled on held-out events, an interpolation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from export.data.dataset import Log, read_log
from export.models import cooccurrence, train
from export.models.base import Baskets
from export.models.mixture import Asked, Weights, fit, ndcg, settle
from export.models.pairs import Neighbours, Towards, together
from stream.contracts import EventType


def log_of(path: Path, *visits: tuple[str, list[tuple[str, int]]]) -> Log:
    """Visits of users: items and the seconds at which they were clicked, visits an hour apart."""
    lines = []
    for number, (user, events) in enumerate(visits):
        for item, second in events:
            time_ms = 1_700_000_000_000 + (3_600 * number + second) * 1000
            record = {"user_id": user, "item_id": item, "type": "click", "event_time_ms": time_ms}
            lines.append(json.dumps({**record, "session_id": f"s{number}"}))
    path.write_text("\n".join(lines) + "\n")
    return read_log(path, "events")


def pairs_of(log: Log, **given: float) -> dict[str, float]:
    """Counts by the two ids."""
    ids = ["", *sorted(log.items)]
    found = together(Towards.of(log, ids), len(ids), **{"damping": 0.0, "recency": 0.0, **given})
    dense = found.toarray()
    np.testing.assert_allclose(dense, dense.T)
    assert not dense.diagonal().any()
    return {
        ids[i] + ids[j]: float(dense[i, j]) for i, j in np.argwhere(np.triu(dense) > 0).tolist()
    }


def test_a_pair_counts_by_the_moments_between_it(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", ("u", [("a", 0), ("b", 1), ("c", 1), ("d", 2), ("a", 3)]))
    found = pairs_of(log)
    # b and c are of one moment; a stands three moments before itself, and is no pair
    assert found == pytest.approx(
        {"ab": 1.5, "ac": 1.5, "ad": 1.5, "bc": 1.0, "bd": 1.0, "cd": 1.0}
    )


def test_visits_are_apart_but_where_they_are_too_short_for_pairs(tmp_path: Path) -> None:
    two = log_of(
        tmp_path / "two", ("u", [("a", 0), ("b", 1)]), ("u", [("c", 0), ("d", 1), ("e", 2)])
    )
    assert pairs_of(two) == pytest.approx({"ab": 1, "cd": 1, "ce": 0.5, "de": 1})
    single = log_of(tmp_path / "one", ("u", [("a", 0)]), ("v", [("c", 0)]), ("u", [("b", 0)]))
    assert pairs_of(single) == {"ab": 1}


def test_large_orders_and_old_visits_say_less(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "log",
        ("u", [(item, 0) for item in "abcd"]),
        ("v", [("e", 0), ("f", 1), ("g", 1)]),
    )
    damped = pairs_of(log, damping=1.0)
    assert damped["ab"] == pytest.approx(1 / 4)
    assert damped["fg"] == pytest.approx(1 / 2)
    assert damped["ef"] == pytest.approx(1 / 2**0.5)
    aged = pairs_of(log, recency=2.0)
    assert aged["ab"] == pytest.approx(np.exp(-2.0))
    assert aged["fg"] == pytest.approx(np.exp(-2 * (1 - 5 / 7)))
    assert aged["ef"] == pytest.approx(np.exp(-2 * (1 - (4 + 5) / 2 / 7)))


def test_neighbours_are_the_strongest_nearest_first() -> None:
    counts = np.zeros((7, 7))
    counts[1, 2:] = [1, 4, 4, 9, 1]
    counts += counts.T
    popularity = np.array([0.01, 4, 1, 4, 4, 9, 1])
    found = Neighbours.of(sparse.csr_array(counts), popularity, 3, 0.5)
    strength = counts[1, 1:] / popularity[1:] ** 0.5
    assert found.rows[1].tolist() == [5, 3, 4]  # equal ones in the order of rows
    np.testing.assert_allclose(found.shares[1], (strength / strength.sum())[[4, 2, 3]], rtol=1e-6)
    assert found.rows[2].tolist() == [1, 0, 0]
    assert found.shares[2].tolist() == [1, 0, 0]
    assert not found.shares[0].any()
    np.testing.assert_allclose(found.matrix().toarray()[1, found.rows[1]], found.shares[1])


def test_cases_know_what_came_before_and_lines_of_an_order_each_other(tmp_path: Path) -> None:
    log = log_of(
        tmp_path / "log",
        ("u", [("a", 0), ("b", 1)]),
        ("v", [("c", 0)]),
        ("u", [("c", 0), ("d", 0)]),
    )
    events = Towards.of(log, ["", "a", "b", "c", "d"])
    asked = Asked.of(events, int(log.time_ms[-1]), 3)
    # c and d from what lies before the order; d from c, too
    assert asked.target.tolist() == [3, 4, 4]
    assert asked.recent.tolist() == [[2, 1, 0], [2, 1, 0], [3, 2, 1]]


def drawn(weights: Weights, shares: np.ndarray, popularity: np.ndarray, cases: int) -> Asked:
    """Targets drawn from the mixture."""
    rng = np.random.default_rng(0)
    n, last = len(popularity), len(weights.again)
    recent = rng.integers(1, n, (cases, last))
    target = np.empty(cases, np.int64)
    for case, rows in enumerate(recent):
        p = weights.popularity * popularity + weights.together @ shares[rows]
        np.add.at(p, rows, weights.again)
        target[case] = rng.choice(n, p=p / p.sum())
    return Asked(recent, target)


@pytest.fixture
def shares() -> np.ndarray:
    found = np.random.default_rng(1).dirichlet(np.full(29, 0.1), 30)
    return np.concatenate([np.zeros((30, 1)), found], axis=1) * (np.arange(30) > 0)[:, None]


POPULARITY = np.concatenate([[1e-9], np.full(29, 1 / 29)])


def test_weights_are_those_that_events_were_drawn_by(shares: np.ndarray) -> None:
    true = Weights(np.array([0.3, 0.0]), np.array([0.4, 0.1]), 0.2)
    asked = drawn(true, shares, POPULARITY, 6_000)
    found = fit(asked, sparse.csr_array(shares), POPULARITY)
    np.testing.assert_allclose(found.again, true.again, atol=0.03)
    np.testing.assert_allclose(found.together, true.together, atol=0.03)
    assert found.popularity == pytest.approx(true.popularity, abs=0.03)


def test_few_events_leave_the_prior_and_none_are_no_harm(shares: np.ndarray) -> None:
    prior = Weights.prior(2)
    few = fit(Asked(np.array([[1, 2]]), np.array([1])), sparse.csr_array(shares), POPULARITY)
    np.testing.assert_allclose(few.again, prior.again, atol=0.02)
    nothing = Asked(np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    assert settle(nothing, sparse.csr_array(shares), POPULARITY).popularity == prior.popularity


def test_the_weight_of_popularity_is_the_one_that_ranks_best(shares: np.ndarray) -> None:
    asked = drawn(Weights(np.zeros(2), np.array([0.7, 0.2]), 0.1), shares, POPULARITY, 500)
    matrix = sparse.csr_array(shares)
    fitted, settled = fit(asked, matrix, POPULARITY), settle(asked, matrix, POPULARITY)
    factors = [0.1, 0.3, 1.0]
    assert any(settled.popularity == pytest.approx(fitted.popularity * f) for f in factors)
    values = [
        ndcg(
            Weights(fitted.again, fitted.together, fitted.popularity * f), asked, matrix, POPULARITY
        )
        for f in factors
    ]
    assert ndcg(settled, asked, matrix, POPULARITY) == pytest.approx(max(values))


def browsing(path: Path, again: bool) -> Log:
    """Visits through eight themes; of four clicks the last is new, or the first once more."""
    rng = np.random.default_rng(0)
    visits = []
    for number in range(1_500):
        items = [f"t{number % 8}-{step}" for step in rng.permutation(8)[:4]]
        if again:
            items[3] = items[0]
        visits.append((f"u{number}", [(item, 60 * at) for at, item in enumerate(items)]))
    return log_of(path, *visits)


@pytest.mark.parametrize("again", [True, False])
def test_whether_items_come_again_is_learned(again: bool, tmp_path: Path) -> None:
    trained = train("cooccurrence", browsing(tmp_path / "log", again), dim=8)
    state = np.zeros((1, trained.state_size), np.float32)
    rows = [trained.item_ids.index(item) for item in ("t0-0", "t0-1", "t0-2")]
    for row in rows:
        state = trained.reference.update(
            state, np.array([row]), np.array([int(EventType.CLICK)]), np.zeros(1, np.float32)
        )
    best = np.argsort(-trained.reference.logits(state, trained.beta)[0])[:4]
    assert rows[0] == best[0] if again else rows[0] not in best
    assert {trained.item_ids[row][:2] for row in best} == {"t0"}


def test_scores_are_an_interpolation_of_probabilities(tmp_path: Path) -> None:
    log = browsing(tmp_path / "log", True)
    trained = train("cooccurrence", log, dim=8, neighbours=64)
    bias = trained.biases.astype(np.float64)
    popularity = np.exp(bias) / np.exp(bias[1:]).sum()
    told = trained.training
    again, beside = np.array(told["again"]), np.array(told["together"])
    ids = trained.item_ids
    events = Towards.of(log, ids)
    counts = together(events, len(ids), damping=1.0, recency=2.0)
    smoothed = events.counts(len(ids)) + 0.5
    shares = Neighbours.of(counts, smoothed / smoothed.sum(), 64, 0.25).matrix().toarray()
    state = np.zeros((1, trained.state_size), np.float32)
    state[0, -2:] = [ids.index("t3-1"), ids.index("t5-2")]  # newest last
    rows = state[0, [-1, -2]].astype(int)
    p = told["popularity"] * popularity + beside[:2] @ shares[rows]
    np.add.at(p, rows, again[:2])
    p /= told["popularity"] + again[:2].sum() + beside[:2].sum()
    assert p[1:].sum() == pytest.approx(1, abs=1e-4)
    logits = trained.reference.logits(state, 1.0)[0].astype(np.float64)
    found = np.exp(logits[1:]) / np.exp(bias[1:]).sum()
    np.testing.assert_allclose(found, p[1:], rtol=1e-3)
    guest = trained.reference.logits(np.zeros_like(state), 1.0)[0]
    np.testing.assert_array_equal(guest, trained.biases)


def test_a_log_without_newer_events_is_trained_on(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", ("u", [("a", 0), ("b", 0)]), ("v", [("a", 0), ("c", 0)]))
    log.time_ms = np.full(len(log), log.time_ms[0])
    trained = train("cooccurrence", log, dim=4)
    assert trained.training["popularity"] == Weights.prior(20).popularity
    assert cooccurrence.Parameters().last == 20
    assert trained.item_ids == Baskets.of(log).item_ids
