"""What counts tell of items and companions: fitted on some users, judged by others, and served in
numbers that a bundle has anyway."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from export.models.base import Float32, HeldOut, Int64, Run
from export.models.glr import correcting
from export.models.glr.companions import BACKWARD, Companions, both_ways, pairs
from export.models.glr.correcting import Candidates, correct
from export.models.glr.counts import HALF_LIVES_DAYS, LEAST, PAIR_UNIT, Counts
from export.models.glr.learning import learn
from export.models.glr.popularity import DAY_MS
from export.models.glr.sequences import Sequences, trained_kinds
from export.models.glr.settled import Settled
from tests.training.corrections import drawn
from tests.training.shops import SMALL, newest, walks

LOG = walks(1500)
N = len(LOG.items) + 1
CASES, K, R = 3000, 12, 3
TOGETHER = np.array([0.6, 0.3, 0.1])


@pytest.fixture(scope="module")
def counts() -> Counts:
    sequences = Sequences.of(LOG, np.arange(1, N), trained_kinds(LOG), 0.0)
    forward = pairs(sequences, N)
    companions = Companions.of(both_ways(forward, BACKWARD), 8)
    table = np.random.default_rng(0).normal(0, 1, (N, 16)).astype(np.float32)
    return Counts.of(sequences, forward, companions, table)


def cases(counts: Counts, truth: Float32 | None, seed: int = 0) -> tuple[Candidates, Int64]:
    """Drawn candidates; targets are drawn by their logits, to which `truth` is added by row."""
    rng = np.random.default_rng(seed)
    rows = np.array([rng.permutation(np.arange(1, N))[:K] for _ in range(CASES)])
    logits = -np.sort(-rng.normal(0, 1, (CASES, K)).astype(np.float32), axis=1)
    recent = rng.integers(0, N, (CASES, R))
    true = logits if truth is None else logits + truth[rows]
    target = (true + rng.gumbel(0, 1, true.shape)).argmax(1)
    target[::10] = -1  # not among the candidates
    users = np.repeat(np.arange(CASES // 2), 2)
    return Candidates(rows, logits, target, users, recent), target


def test_features_of_items_are_logarithms_of_counts(counts: Counts) -> None:
    age = (LOG.time_ms.max() - LOG.time_ms) / DAY_MS
    for row in (1, 7, N - 1):
        of = age[LOG.item == row - 1]
        wanted = [np.log1p(len(of))]
        wanted += [np.log((0.5 ** (of / days)).sum() + LEAST) for days in HALF_LIVES_DAYS]
        wanted += [np.log1p(of.max()), np.log1p(of.min())]
        np.testing.assert_allclose(counts.items[row], wanted, rtol=1e-5)
    assert counts.items[0, 0] == 0


def test_an_item_that_nobody_turned_to_is_as_old_as_the_log(counts: Counts) -> None:
    span = np.log1p((LOG.time_ms.max() - LOG.time_ms.min()) / DAY_MS)
    np.testing.assert_allclose(counts.items[0, 4:], [span, span], rtol=1e-6)


def test_features_of_pairs_are_counts_either_way(counts: Counts) -> None:
    rows = counts.companions.rows
    at = np.array([8 * 3 + 0, 8 * 17 + 4])
    item, other = at // 8, rows.ravel()[at]
    found = counts.pairs(at)
    age = (LOG.time_ms.max() - LOG.time_ms) / DAY_MS
    rank = np.arange(len(LOG)) / len(LOG)  # the log is in the order of users
    for pair in range(2):
        totals = np.zeros((2, 2))
        for user in range(len(LOG.users)):
            events = np.flatnonzero(LOG.user == user)
            for a, one in enumerate(events):
                for lag, two in enumerate(events[a + 1 :], 1):
                    for way, (x, y) in enumerate(((one, two), (two, one))):
                        if (LOG.item[x] + 1, LOG.item[y] + 1) == (item[pair], other[pair]):
                            totals[0, way] += np.exp(-2 * (1 - rank[two])) / lag
                            totals[1, way] += 0.5 ** (age[two] / 8) / lag
        np.testing.assert_allclose(
            found[pair, 1:5], np.log1p(totals / PAIR_UNIT).ravel(), rtol=1e-4
        )
        assert found[pair, 0] == counts.companions.worth.ravel()[at[pair]]
        one, two = counts._table[item[pair]], counts._table[other[pair]]
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        np.testing.assert_allclose(found[pair, 5], cosine, rtol=1e-4)
        np.testing.assert_allclose(
            found[pair, 6:], counts.items[[item[pair], other[pair]], 0], rtol=1e-6
        )


def test_candidates_find_themselves_among_companions(counts: Counts) -> None:
    candidates, _ = cases(counts, None)
    found, rows = candidates.pairs(counts), counts.companions.rows
    assert found.shape == (CASES, R, K)
    assert (found >= 0).any()
    for case in range(200):
        for lag in range(R):
            recent = candidates.recent[case, lag]
            for at, row in enumerate(candidates.rows[case]):
                where = np.flatnonzero(rows[recent] == row) if recent else []
                wanted = recent * rows.shape[1] + where[0] if len(where) else -1
                assert found[case, lag, at] == wanted


def test_what_the_counts_tell_is_learned_and_helps_others(counts: Counts) -> None:
    truth = (2.5 * np.sin(np.arange(N))).astype(np.float32)
    counts = replace(counts, items=counts.items.copy())
    counts.items[:, 3] = truth  # one of the features says it
    candidates, target = cases(counts, truth)
    found = correct(candidates, TOGETHER, counts, seed=1)
    assert found is not None
    correction, before, after = found
    known = target >= 0
    assert (after[~known] == K).all()
    assert (before[known] == target[known]).all()
    assert (after[known] == 0).mean() > (before[known] == 0).mean() + 0.1
    said = correction.biases(counts)
    assert np.corrcoef(said[1:], truth[1:])[0, 1] > 0.95
    assert said[0] == 0


def test_what_companions_are_worth_is_learned_in_logits_of_before(counts: Counts) -> None:
    """Companions say too much by 1: that is taken back from what they are worth."""
    candidates, _ = cases(counts, None)
    there = candidates.pairs(counts) >= 0
    told = (1.0 * there * TOGETHER[:, None]).sum(1).astype(np.float32)
    found = correct(replace(candidates, logits=candidates.logits + told), TOGETHER, counts, 1)
    assert found is not None
    after, rows = found[0].companions(counts), counts.companions.rows
    change = (after.worth - counts.companions.worth)[rows > 0]
    assert change.mean() == pytest.approx(-1, abs=0.4)
    assert (after.worth[rows == 0] == 0).all()
    np.testing.assert_array_equal(after.rows, rows)


def test_where_there_is_nothing_to_learn_others_are_not_helped(counts: Counts) -> None:
    candidates, _ = cases(counts, None)
    found = correct(candidates, TOGETHER, counts, seed=1)
    assert found is not None
    _, before, after = found
    assert (after == 0).mean() < (before == 0).mean() + 0.01


def test_what_is_served_is_what_was_fitted(counts: Counts) -> None:
    candidates, target = cases(counts, (2.5 * np.sin(np.arange(N))).astype(np.float32))
    tables = correcting._Tables.of(candidates, TOGETHER, counts)
    fitted = correcting._Fitted.on(tables, np.flatnonzero(target >= 0), seed=1)
    some = np.arange(50)
    with torch.no_grad():
        wanted = (fitted(tables, torch.from_numpy(some)) / fitted.log_factor.exp()).numpy()
    correction = fitted.correction(tables)
    worth = correction.companions(counts).worth - counts.companions.worth
    at = candidates.pairs(counts)[some]
    brought = np.where(at >= 0, worth.ravel()[at], 0) * TOGETHER[:, None]
    found = candidates.logits[some] + correction.biases(counts)[candidates.rows[some]]
    np.testing.assert_allclose(found + brought.sum(1), wanted, atol=1e-4)
    assert abs(fitted.log_factor.item()) > 1e-3
    assert np.abs(brought).max() > 0.01


def test_the_same_seed_gives_the_same_and_no_other_draw_is_moved(counts: Counts) -> None:
    candidates, _ = cases(counts, None)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = correct(candidates, TOGETHER, counts, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    other = correct(candidates, TOGETHER, counts, seed=1)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one[0].biases(counts), other[0].biases(counts))
    np.testing.assert_array_equal(one[2], other[2])


def test_few_cases_or_no_numbers_are_no_ground(counts: Counts) -> None:
    candidates, _ = cases(counts, None)
    few = replace(candidates, target=np.where(np.arange(CASES) < 999, 0, -1))
    assert correct(few, TOGETHER, counts, 1) is None
    assert correct(replace(candidates, user=np.zeros(CASES, np.int64)), TOGETHER, counts, 1) is None
    nothing = np.full_like(candidates.logits, np.nan)
    assert correct(replace(candidates, logits=nothing), TOGETHER, counts, 1) is None


def test_items_that_are_not_listed_are_no_candidates_to_learn_from(counts: Counts) -> None:
    candidates, target = cases(counts, None)
    struck = candidates.logits.copy()
    struck[:, -4:] = -np.inf
    some = replace(candidates, logits=struck, target=np.where(target >= K - 4, -1, target))
    found = correct(some, TOGETHER, counts, seed=1)
    assert found is not None
    assert np.isfinite(found[0].biases(counts)).all()
    assert (found[2][some.target >= 0] < K - 4).all()


def test_features_beyond_what_was_seen_say_no_more_than_its_edge(counts: Counts) -> None:
    perceptron = drawn().of_items
    edge, far = np.full((1, 6), 3, np.float32), np.full((1, 6), 300, np.float32)
    np.testing.assert_array_equal(perceptron(edge), perceptron(far))


def test_the_correction_of_held_out_events_stands_in_the_bundle(counts: Counts) -> None:
    p = {**SMALL, "epochs": 1}
    weights = (0.5,) * 6
    settled = Settled(1, again=weights, together=weights, level=2.0)
    run = Run(device="cpu")
    without = learn(LOG, settled=settled, run=run, **p)
    with_it = learn(LOG, settled=replace(settled, correction=drawn()), run=run, **p)
    term = drawn().biases(counts)
    assert term[1:].std() > 0.05
    np.testing.assert_allclose(with_it.biases[1:] - without.biases[1:], term[1:], atol=1e-5)
    before, after = (t.reference._r.companions for t in (without, with_it))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(before.rows, after.rows)
    assert np.abs(before.worth - after.worth).max() > 0.05
    assert without.training["settled"]["corrected"] is False
    assert with_it.training["settled"]["corrected"] is True


def test_a_log_says_whether_it_is_corrected() -> None:
    said = list[str]()
    log = walks(9000, repeats=0.3)
    held: HeldOut = newest(log, 0.15)
    found = learn(log, held_out=held, run=Run(device="cpu", report=said.append), **SMALL).settled
    assert isinstance(found, Settled)
    line = next(line for line in said if "what counts tell" in line)
    assert ("it is taken" in line) == (found.correction is not None)
    assert f"recall@20 {found.recall:.4f}" in line or found.correction is None
