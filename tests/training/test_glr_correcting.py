"""What counts tell of items and companions: fitted on some users, judged by others, and served in
numbers that a bundle has anyway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from export.models.base import Float32, Int64, Run
from export.models.glr import candidates as candidates_module
from export.models.glr import correcting
from export.models.glr.blend import Entries
from export.models.glr.candidates import Candidates
from export.models.glr.companions import BACKWARD, Companions, both_ways, pairs
from export.models.glr.correcting import FEWEST, Corrected, Tables, correct, corrected
from export.models.glr.correction import Correction
from export.models.glr.counts import HALF_LIVES_DAYS, LEAST, PAIR_UNIT, Counts
from export.models.glr.judging import UNLISTED, Cases
from export.models.glr.learning import learn
from export.models.glr.logits import Logits
from export.models.glr.parameters import Parameters
from export.models.glr.popularity import DAY_MS
from export.models.glr.sequences import Sequences, trained_kinds
from export.models.glr.settled import Settled
from export.models.glr.settling import _of_several_lengths
from tests.training.corrections import drawn
from tests.training.shops import SMALL, newest, walks

LOG = walks(1500)
N = len(LOG.items) + 1
ROWS = np.arange(1, N)
K = 8  # companions of an item
M = 20  # candidates of a case
R = 3
STEPS = 300
WEIGHTS = np.array([0.2, 0.1, 0.0, 0.6, 0.3, 0.1])  # again, together


@pytest.fixture(autouse=True)
def fewer_candidates_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates_module, "CANDIDATES", M)
    monkeypatch.setattr(correcting, "STEPS", STEPS)


@pytest.fixture(scope="module")
def counts() -> Counts:
    sequences = Sequences.of(LOG, ROWS, trained_kinds(LOG), 0.0)
    forward = pairs(sequences, N)
    companions = Companions.of(both_ways(forward, BACKWARD), K)
    table = np.random.default_rng(0).normal(0, 1, (N, 16)).astype(np.float32)
    return Counts.of(sequences, forward, companions, table)


@pytest.fixture(scope="module")
def cases() -> Cases:
    """Of 1,500 users, four each on average; targets are drawn by `asked`."""
    everyone = replace(newest(LOG, 0.15), asked=np.arange(len(LOG)))
    found = Cases.of(LOG, everyone, ROWS, trained_kinds(LOG), Parameters(**SMALL))
    return replace(found, recent=found.recent[:, :R], p=replace(found.p, last=R))


def asked(cases: Cases, counts: Counts, truth: Float32 | None = None, told: float = 0) -> Logits:
    """Random logits; targets are drawn by them, what is added, and `truth` by row.

    `told`: what all companions say beside that, which is not so.
    """
    rng = np.random.default_rng(0)
    found = torch.from_numpy(rng.normal(0, 1, (len(cases.targets), 16)).astype(np.float32))
    companions = counts.companions
    louder = Companions(companions.rows, companions.worth + told * (companions.rows > 0))
    biases = np.zeros(N, np.float32)
    logits = Logits(cases, found, counts._table, biases, Entries.of(cases.recent, companions))
    true = (found @ torch.from_numpy(counts._table).T).numpy() + (0 if truth is None else truth)
    true[logits.entries.case, logits.entries.row] += logits.entries.added(WEIGHTS)
    true[:, 0] = -np.inf
    targets = (true + rng.gumbel(0, 1, true.shape)).argmax(1)
    of_targets = replace(cases, targets=targets)
    return replace(logits, cases=of_targets, entries=Entries.of(cases.recent, louder))


def ask(logits: Logits, counts: Counts, over: Callable[[], bool] = lambda: False) -> Corrected:
    found = correct(logits, WEIGHTS, False, counts, print, over)
    assert found is not None
    return found


TRUTH = (2.5 * np.sin(np.arange(N))).astype(np.float32)


@pytest.fixture(scope="module")
def telling(counts: Counts) -> Counts:
    """One of the features says it."""
    features = counts.item_features.copy()
    features[:, 3] = TRUTH
    return replace(counts, item_features=features)


def test_features_of_items_are_logarithms_of_counts(counts: Counts) -> None:
    age = (LOG.time_ms.max() - LOG.time_ms) / DAY_MS
    for row in (1, 7, N - 1):
        of = age[LOG.item == row - 1]
        wanted = [np.log1p(len(of))]
        wanted += [np.log((0.5 ** (of / days)).sum() + LEAST) for days in HALF_LIVES_DAYS]
        wanted += [np.log1p(of.max()), np.log1p(of.min())]
        np.testing.assert_allclose(counts.item_features[row], wanted, rtol=1e-5)


def test_an_item_that_nobody_turned_to_is_as_old_as_the_log(counts: Counts) -> None:
    span = np.log1p((LOG.time_ms.max() - LOG.time_ms.min()) / DAY_MS)
    never = [0, *[np.log(LEAST)] * 3, span, span]
    np.testing.assert_allclose(counts.item_features[0], never, rtol=1e-6)


def test_features_of_pairs_are_counts_either_way(counts: Counts) -> None:
    rows = counts.companions.rows
    at = np.array([K * 3 + 0, K * 17 + 4])
    item, other = at // K, rows.ravel()[at]
    found = counts.pair_features(at)
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
        logarithms = np.log1p(totals / PAIR_UNIT).ravel()
        np.testing.assert_allclose(found[pair, 1:5], logarithms, rtol=1e-4)
        assert found[pair, 0] == counts.companions.worth.ravel()[at[pair]]
        one, two = counts._table[item[pair]], counts._table[other[pair]]
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        np.testing.assert_allclose(found[pair, 5], cosine, rtol=1e-4)
        events_of_both = counts.item_features[[item[pair], other[pair]], 0]
        np.testing.assert_array_equal(found[pair, 6:], events_of_both)


def test_candidates_are_the_best_of_all_items(cases: Cases, counts: Counts) -> None:
    logits = asked(cases, counts)
    every = (logits.found @ torch.from_numpy(logits.table).T).numpy()
    every[logits.entries.case, logits.entries.row] += logits.entries.added(WEIGHTS)
    every[:, 0] = -np.inf
    for exclude in (False, True):
        found = Candidates.of(logits, WEIGHTS, exclude)
        for case in range(0, len(every), 97):
            if exclude:
                every[case, cases.seen[case]] = -np.inf
            best = np.argsort(-every[case])[:M]
            np.testing.assert_array_equal(found.rows[case], best)
            np.testing.assert_allclose(found.logits[case], every[case, best], atol=1e-5)
            where = np.flatnonzero(best == logits.cases.targets[case])
            assert found.target[case] == (where[0] if len(where) else -1)
    assert (found.target == -1).any()


def test_a_target_that_may_not_be_listed_is_none_among_the_candidates(
    cases: Cases, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates_module, "CANDIDATES", 10 * N)
    logits = asked(cases, counts)
    found = Candidates.of(logits, WEIGHTS, exclude=True)
    assert found.rows.shape[1] == N - 1  # all items but "no item"
    assert (found.logits[found.rows == 0] == -np.inf).all()
    seen = [t in s for t, s in zip(logits.cases.targets, cases.seen, strict=True)]
    np.testing.assert_array_equal(found.target < 0, seen)
    assert (logits.ranks(WEIGHTS, True)[seen] == UNLISTED).all()


def test_candidates_find_themselves_among_companions(cases: Cases, counts: Counts) -> None:
    candidates = Candidates.of(asked(cases, counts), WEIGHTS, False)
    rows = counts.companions.rows
    found = candidates.companion_index(rows)
    assert found.shape == (len(cases.targets), R, M)
    assert (found >= 0).any()
    for case in range(200):
        for lag in range(R):
            recent = candidates.recent[case, lag]
            for at, row in enumerate(candidates.rows[case]):
                where = np.flatnonzero(rows[recent] == row) if recent else []
                wanted = recent * K + where[0] if len(where) else -1
                assert found[case, lag, at] == wanted


def test_what_the_counts_tell_is_learned_and_helps_others(cases: Cases, telling: Counts) -> None:
    logits = asked(cases, telling, TRUTH)
    correction, ranks = ask(logits, telling)
    before = logits.ranks(WEIGHTS, False)
    assert (ranks < 5).mean() > (before < 5).mean() + 0.05
    said = correction.biases(telling)
    assert np.corrcoef(said[1:], TRUTH[1:])[0, 1] > 0.95
    assert said[0] == 0


def test_each_list_is_judged_among_all_items_by_what_other_users_have_fitted(
    cases: Cases, telling: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[Int64, Correction]] = []
    fit = Tables.fit

    def noted(tables: Tables, some: Int64, *more: object) -> Correction | None:
        correction = fit(tables, some, *more)  # type: ignore[arg-type]
        assert correction is not None
        fitted.append((some, correction))
        return correction

    monkeypatch.setattr(Tables, "fit", noted)
    logits = asked(cases, telling, TRUTH)
    correction, ranks = ask(logits, telling)
    *folds, (every, whole) = fitted
    assert len(folds) == correcting.FOLDS
    assert correction is whole
    user = cases.sequences.user[cases.windows[:, 0]]
    judged_once = np.zeros(len(user), np.int64)
    for some, by in folds:
        assert (np.diff(some) > 0).all()
        judged = ~np.isin(user, user[some])
        judged_once += judged
        assert not set(user[judged]) & set(user[some])
        np.testing.assert_array_equal(np.setdiff1d(every, some), every[judged[every]])
        wanted = corrected(logits, by, telling).ranks(WEIGHTS, False)
        np.testing.assert_array_equal(ranks[judged], wanted[judged])
        assert (
            ranks[judged] != corrected(logits, whole, telling).ranks(WEIGHTS, False)[judged]
        ).any()
    assert (judged_once == 1).all()
    assert (ranks >= M).any()  # not among the candidates alone


def test_what_companions_are_worth_is_learned_in_logits_of_before(
    cases: Cases, counts: Counts
) -> None:
    """Companions say too much by 1: that is taken back from what they are worth."""
    correction = ask(asked(cases, counts, told=1), counts).correction
    after, rows = correction.companions(counts), counts.companions.rows
    change = (after.worth - counts.companions.worth)[rows > 0]
    assert change.mean() == pytest.approx(-1, abs=0.5)
    assert (after.worth[rows == 0] == 0).all()
    np.testing.assert_array_equal(after.rows, rows)


def test_companions_of_some_items_are_those_of_all(counts: Counts) -> None:
    some = np.array([0, 3, 40])
    whole, part = drawn().companions(counts), drawn().companions(counts, some)
    np.testing.assert_array_equal(part.worth[some], whole.worth[some])
    rest = np.setdiff1d(np.arange(N), some)
    np.testing.assert_array_equal(part.worth[rest], counts.companions.worth[rest])


def test_what_is_served_is_what_was_fitted(cases: Cases, telling: Counts) -> None:
    logits = asked(cases, telling, TRUTH)
    candidates = Candidates.of(logits, WEIGHTS, False)
    tables = Tables.of(candidates, WEIGHTS[R:], telling)
    network = correcting._Network.drawn(tables, seed=1)
    assert network.fit(tables, np.flatnonzero(candidates.target >= 0), 1, lambda: False)
    assert abs(network.log_factor.item()) > 1e-3
    with torch.no_grad():
        wanted = network(tables, torch.arange(50)) / network.log_factor.exp()
    correction = network.correction(tables)
    with_it = corrected(logits, correction, telling, np.arange(50))
    rows, best = with_it.best(WEIGHTS, False, N)
    for case in range(50):
        logit = dict(zip(rows[case].tolist(), best[case].tolist(), strict=True))
        found = [logit[row] for row in candidates.rows[case].tolist()]
        np.testing.assert_allclose(found, wanted[case].numpy(), atol=2e-4)


def test_the_same_seed_gives_the_same_and_no_other_draw_is_moved(
    cases: Cases, counts: Counts
) -> None:
    logits = asked(cases, counts)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    one = ask(logits, counts)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    other = ask(logits, counts)
    assert one.correction == other.correction
    np.testing.assert_array_equal(one.ranks, other.ranks)


def refused(logits: Logits, counts: Counts, over: Callable[[], bool] = lambda: False) -> str:
    said = list[str]()
    assert correct(logits, WEIGHTS, False, counts, said.append, over) is None
    assert len(said) == 1
    return said[0]


def test_where_counts_cannot_be_asked_it_is_said_why(cases: Cases, counts: Counts) -> None:
    logits = asked(cases, counts)
    few = np.arange(FEWEST // 2)
    less = replace(logits, cases=logits.cases.some(few), found=logits.found[: len(few)])
    less = replace(less, entries=Entries.of(less.cases.recent, counts.companions))
    assert "too few (of 1,000) to learn by" in refused(less, counts)
    alone = replace(cases.sequences, user=np.zeros_like(cases.sequences.user))
    one = replace(logits, cases=replace(logits.cases, sequences=alone))
    assert "of 1 users" in refused(one, counts)
    for number in (np.nan, np.inf):
        biases = np.full(N, number, np.float32)
        assert "no numbers" in refused(replace(logits, biases=biases), counts)
    calls = iter(range(10_000))
    for steps in (0, STEPS // 2, STEPS + 1, correcting.FOLDS * STEPS + 1):
        calls = iter(range(10_000))
        assert "the time for that is over" in refused(
            logits,
            counts,
            lambda calls=calls, steps=steps: next(calls) >= steps,  # type: ignore[misc]
        )


def test_items_that_are_not_listed_are_nothing_to_learn_from(
    cases: Cases, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates_module, "CANDIDATES", N)
    logits = asked(cases, counts)
    found = correct(logits, WEIGHTS, True, counts, print, lambda: False)
    assert found is not None
    assert np.isfinite(found.correction.biases(counts)).all()
    assert (
        found.ranks[[t in s for t, s in zip(logits.cases.targets, cases.seen, strict=True)]]
        == UNLISTED
    ).all()


def test_features_beyond_what_was_seen_say_no_more_than_its_edge() -> None:
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
    before, after = (t.reference._r.companions for t in (without, with_it))  # type: ignore[attr-defined]
    sequences = Sequences.of(LOG, ROWS, trained_kinds(LOG), Parameters(**p).recency)
    of_log = Counts.of(sequences, pairs(sequences, N), before, without.embeddings)
    term = drawn().biases(of_log)
    assert term[1:].std() > 0.05
    np.testing.assert_allclose(with_it.biases[1:] - without.biases[1:], term[1:], atol=1e-5)
    np.testing.assert_array_equal(before.rows, after.rows)
    np.testing.assert_array_equal(after.worth, drawn().companions(of_log).worth)
    assert np.abs(before.worth - after.worth).max() > 0.05
    assert without.training["settled"]["corrected"] is False
    assert with_it.training["settled"]["corrected"] is True


def test_a_correction_is_judged_by_lists_of_several_lengths() -> None:
    found = _of_several_lengths(np.array([0, 15, 90, UNLISTED]))
    wanted = [1 + 1] * 5 + [1 + 1 / np.log2(17)] * 3  # the second is in lists of 20, 40 and 80
    assert found == pytest.approx(np.sum(wanted) / 5 / 4)


def test_the_fit_has_the_cases_as_lists_have_them(
    cases: Cases, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Candidates, Float32]] = []
    of = Tables.of

    def noted(candidates: Candidates, together: Float32, counts: Counts) -> Tables:
        given.append((candidates, together))
        return of(candidates, together, counts)

    monkeypatch.setattr(Tables, "of", noted)
    logits = asked(cases, counts)
    for exclude in (False, True):
        assert correct(logits, WEIGHTS, exclude, counts, print, lambda: False) is not None
        candidates, together = given.pop()
        np.testing.assert_array_equal(together, WEIGHTS[R:])
        wanted = Candidates.of(logits, WEIGHTS, exclude)
        np.testing.assert_array_equal(candidates.rows, wanted.rows)
        np.testing.assert_array_equal(candidates.target, wanted.target)


def test_a_table_in_pieces_is_the_table(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    biases, worth = drawn().biases(counts), drawn().companions(counts).worth
    monkeypatch.setattr("export.models.glr.correction._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("export.models.glr.correction._ITEMS_AT_ONCE", 7)
    monkeypatch.setattr("export.models.glr.counts._PAIRS_AT_ONCE", 7)
    np.testing.assert_allclose(drawn().biases(counts), biases, atol=1e-5)
    np.testing.assert_allclose(drawn().companions(counts).worth, worth, atol=1e-5)


def test_nothing_held_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Sequences] = []
    of = Counts.of

    def noted(sequences: Sequences, *more: Any) -> Counts:
        counted.append(sequences)
        return of(sequences, *more)

    monkeypatch.setattr(Counts, "of", noted)
    held = newest(LOG, 0.15)
    learn(LOG, held_out=held, run=Run(device="cpu"), **{**SMALL, "epochs": 1})
    (sequences,) = counted
    assert len(sequences) == held.trained.sum()
    assert sequences.time_ms.max() < LOG.time_ms[~held.trained].min()


@pytest.mark.parametrize("better", [True, False])
def test_a_correction_is_taken_where_lists_of_others_are_better(
    better: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    log = walks(repeats=0.3)
    ranks = Corrected(drawn(), np.zeros(1, np.int64) if better else np.full(1, UNLISTED))
    monkeypatch.setattr("export.models.glr.settling.correct", lambda *given: ranks)
    served: list[Logits] = []

    def noted(*given: Any) -> Logits:
        served.append(corrected(*given))
        return served[-1]

    monkeypatch.setattr("export.models.glr.settling.corrected", noted)
    run = Run(device="cpu", report=said.append)
    trained = learn(log, held_out=newest(log, 0.15), run=run, **{**SMALL, "epochs": 2})
    settled = trained.settled
    assert isinstance(settled, Settled)
    (line,) = (line for line in said if "what counts tell" in line)
    assert line.endswith(": taken" if better else ": not taken")
    assert settled.correction == (drawn() if better else None)
    assert (settled.ndcg == 1.0) == better
    untold = replace(settled, correction=None, level=0.0, ndcg=0.0, recall=0.0, mrr=0.0)
    monkeypatch.setattr("export.models.glr.settling.correct", lambda *given: None)
    without = learn(log, held_out=newest(log, 0.15), run=run, **{**SMALL, "epochs": 2}).settled
    assert isinstance(without, Settled)
    assert untold == replace(without, level=0.0, ndcg=0.0, recall=0.0, mrr=0.0)
    assert (settled.level == without.level) != better
    if better:
        (after,) = served
        weights = np.array([*settled.again, *settled.together])
        _, best = after.best(weights, settled.exclude_seen, N - 1)
        assert settled.level == pytest.approx(logsumexp(best, axis=1).mean(), abs=2e-3)
