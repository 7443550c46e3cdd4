"""Windows hold what comes after each event once, in order; of an order it is drawn; co-occurrence
and its weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from export.data.dataset import Log
from export.models.glr.blend import Entries, fit
from export.models.glr.companions import (
    DOUBT,
    FARTHEST,
    RARE,
    Companions,
    both_ways,
    nearest,
    pairs,
)
from export.models.glr.sequences import GAP_EDGES_S, Sequences, gap_bucket, trained_kinds
from stream.contracts import EventType

CLICK, VIEW, PURCHASE = int(EventType.CLICK), int(EventType.VIEW), int(EventType.PURCHASE)
IMPRESSION, CANCEL = int(EventType.IMPRESSION), int(EventType.CANCEL)


def log_of(
    users: list[int], items: list[int], types: list[int] | None = None, gap_s: int = 60
) -> Log:
    n = len(users)
    user, item = np.array(users, np.int64), np.array(items, np.int64)
    return Log(
        users=[f"u{code}" for code in range(max(users, default=-1) + 1)],
        items=[f"i{code}" for code in range(max(items, default=-1) + 1)],
        user=user,
        item=item,
        event_type=np.array(types or [CLICK] * n, np.int64),
        time_ms=np.arange(n, dtype=np.int64) * gap_s * 1000,
        session=user.copy(),
        quantity=np.ones(n),
        price=np.zeros(n),
        titles={},
    )


def sequences_of(log: Log, recency: float = 0.0) -> Sequences:
    return Sequences.of(log, np.arange(1, len(log.items) + 1), trained_kinds(log), recency)


@given(
    users=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    longest=st.integers(1, 9),
    events=st.integers(1, 60),
)
def test_every_event_but_a_users_first_is_a_target_once_where_none_are_simultaneous(
    users: list[int], longest: int, events: int
) -> None:
    log = log_of(users, list(range(len(users))))
    sequences = sequences_of(log)
    windows = sequences.windows(longest)
    asked: list[int] = []
    draw = np.random.default_rng(0)
    for some in sequences.batches(windows, events, draw):
        part = windows[some]
        batch = sequences.pack(part, draw)  # a moment of one event leaves nothing to draw
        assert np.array_equal(batch.targets, sequences.pack(part).targets)
        assert batch.rows.shape[0] <= longest
        assert batch.rows.size <= max(events, batch.rows.shape[0])
        for column, (begin, stop) in enumerate(part.tolist()):
            length = stop - begin - 1
            assert batch.rows[:length, column].tolist() == sequences.row[begin : stop - 1].tolist()
            assert (
                batch.targets[:length, column].tolist() == sequences.row[begin + 1 : stop].tolist()
            )
            assert not batch.targets[length:, column].any()
            asked += batch.targets[:length, column].tolist()
    first = {user: users.index(user) for user in set(users)}
    expected = [at + 1 for at, user in enumerate(users) if at != first[user]]
    assert sorted(asked) == expected


def test_what_comes_after_an_event_of_an_order_is_drawn_from_its_rest_and_the_next_order() -> None:
    log = log_of([0] * 6 + [1], list(range(7)))
    log.time_ms[:] = [0, 0, 0, 1, 1, 2, 2]
    sequences = sequences_of(log)
    assert sequences.begins.tolist() == [0, 0, 0, 3, 3, 5, 6]
    assert sequences.ends.tolist() == [3, 3, 3, 5, 5, 6, 7]
    drawn = sequences.later(np.tile(np.arange(7), (4000, 1)), np.random.default_rng(0))
    shares = np.array([np.bincount(column, minlength=7) for column in drawn.T]) / len(drawn)
    expected = np.array(
        [
            [0, 0.25, 0.25, 0.25, 0.25, 0, 0],
            [0, 0, 0.5, 0.25, 0.25, 0, 0],
            [0, 0, 0, 0.5, 0.5, 0, 0],
            [0, 0, 0, 0, 0.5, 0.5, 0],
            [0, 0, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 1, 0],  # nothing follows
            [0, 0, 0, 0, 0, 0, 1],
        ]
    )
    np.testing.assert_allclose(shares, expected, atol=0.03)
    batch = sequences.pack(sequences.windows(9), np.random.default_rng(0))
    assert batch.rows[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert batch.targets[4, 0] == 6


def test_a_moment_of_one_event_is_followed_by_the_next_event() -> None:
    sequences = sequences_of(log_of([0, 0, 0, 1, 1], list(range(5))))
    windows = sequences.windows(9)
    drawn = sequences.pack(windows, np.random.default_rng(0))
    for column, expected in zip(drawn, sequences.pack(windows), strict=True):
        np.testing.assert_array_equal(column, expected)


def test_an_order_that_ends_a_users_events_has_no_next_one() -> None:
    log = log_of([0] * 3, [0, 1, 2])
    log.time_ms[:] = [0, 5, 5]
    sequences = sequences_of(log)
    later = sequences.later(np.tile(np.arange(3), (50, 1)), np.random.default_rng(0))
    assert set(later[:, 0].tolist()) == {1, 2}
    assert set(later[:, 1].tolist()) == {2}
    assert set(later[:, 2].tolist()) == {2}


def test_the_order_of_batches_comes_from_the_generator_alone() -> None:
    sequences = sequences_of(log_of([at // 3 for at in range(90)], list(range(90))))
    windows = sequences.windows(5)

    def order(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [some.tolist() for some in sequences.batches(windows, 20, rng)]

    assert order(1) == order(1) != order(2)


def test_what_changes_no_state_is_no_event_and_a_cancellation_no_target() -> None:
    types = [CLICK, IMPRESSION, CANCEL, CLICK, PURCHASE]
    sequences = sequences_of(log_of([0] * 5, [0, 1, 0, 2, 1], types))
    assert sequences.row.tolist() == [1, 1, 3, 2]
    assert sequences.wanted.tolist() == [True, False, True, True]
    batch = sequences.pack(sequences.windows(9))
    assert batch.targets[:, 0].tolist() == [0, 3, 2]
    assert batch.types[:, 0].tolist() == [CLICK, CANCEL, CLICK]


def test_a_type_that_the_log_never_shows_is_taken_for_its_most_frequent_one() -> None:
    kinds = trained_kinds(log_of([0, 0, 0], [0, 1, 2], [CLICK, CLICK, PURCHASE]))
    assert kinds[VIEW] == CLICK
    assert kinds[PURCHASE] == PURCHASE
    assert kinds[CANCEL] == kinds[IMPRESSION] == kinds[0] == 0


def test_an_item_without_a_row_is_left_out_and_the_gap_goes_past_it() -> None:
    log = log_of([0, 0, 0], [0, 1, 2])
    sequences = Sequences.of(log, np.array([1, 0, 2]), trained_kinds(log))
    assert sequences.row.tolist() == [1, 2]
    assert sequences.gap.tolist() == gap_bucket(np.array([0, 120], np.float32)).tolist()


def test_gap_buckets_are_cut_where_the_graph_cuts_them() -> None:
    at = np.concatenate([GAP_EDGES_S, np.nextafter(GAP_EDGES_S, np.float32(0))])
    assert gap_bucket(at).tolist() == [(gap >= GAP_EDGES_S).sum() for gap in at]
    assert gap_bucket(np.array([-5.0, 0.0], np.float32)).tolist() == [0, 0]


def test_later_events_weigh_more() -> None:
    sequences = sequences_of(log_of([0] * 100, list(range(100))), recency=1.5)
    assert sequences.weight[0] == pytest.approx(np.exp(-1.5))
    assert sequences.weight[-1] == pytest.approx(np.exp(-1.5 / 100))


def test_pairs_count_by_distance_in_their_order_and_within_a_user() -> None:
    log = log_of([0, 0, 0, 1], [0, 1, 2, 0])
    forward = pairs(sequences_of(log), 4)
    counts = forward.toarray()
    age = 1 - np.arange(4) / 4
    later = np.exp(-2 * age)
    assert counts[1, 2] == pytest.approx(later[1])
    assert counts[1, 3] == pytest.approx(later[2] / 2)
    assert counts[2, 3] == pytest.approx(later[2])
    assert counts[2, 1] == counts[3, 1] == counts[3, 2] == 0
    ways = both_ways(forward, 0.5).toarray()
    assert ways[1, 2] == counts[1, 2]
    assert ways[2, 1] == counts[1, 2] / 2
    assert not counts.diagonal().any()
    assert FARTHEST >= 2


def test_nearest_are_the_largest_of_a_row_padded_with_nothing() -> None:
    counts = csr_array(
        np.array([[0, 0, 0, 0], [0, 0, 5, 7], [0, 5, 0, 0], [0, 7, 0, 0]], np.float64)
    )
    rows, found = nearest(counts, 3)
    assert rows.tolist() == [[0, 0, 0], [3, 2, 0], [1, 0, 0], [1, 0, 0]]
    assert found.tolist() == [[0, 0, 0], [7, 5, 0], [5, 0, 0], [7, 0, 0]]
    worth = Companions.of(counts, 1).worth
    assert worth[1, 0] == pytest.approx(np.log1p(7 / (12 + DOUBT) / RARE))
    assert worth[0, 0] == 0


def test_weights_of_many_interactions_are_fitted_without_running_away() -> None:
    """A first long step of the fit may ask for exp of hundreds."""
    rng = np.random.default_rng(0)
    cases, items, last = 400, 60, 40
    companions = Companions(
        rng.integers(1, items, (items, 10)), np.full((items, 10), np.log1p(100), np.float32)
    )
    recent = rng.integers(1, items, (cases, last))
    entries = Entries.of(recent, companions)
    base = np.full(len(entries.case), -np.log(items))
    pair = {(c, r): at for at, (c, r) in enumerate(zip(entries.case, entries.row, strict=True))}
    at_target = np.array([pair[case, recent[case, 0]] for case in range(cases)])
    found = fit(entries, base, at_target, last)
    assert found[0] > 5
    assert np.abs(found[1:last]).max() < found[0] / 2


def test_fitted_weights_maximise_the_likelihood() -> None:
    """The normaliser of the items that are looked at and of all others is the whole softmax's."""
    rng = np.random.default_rng(0)
    cases, items, last = 300, 12, 2
    logits = rng.standard_normal((cases, items))
    recent = rng.integers(0, items, (cases, last))
    companions = Companions(
        rng.integers(0, items, (items, 3)), rng.random((items, 3)).astype(np.float32)
    )
    companions.worth[companions.rows == 0] = 0
    entries = Entries.of(recent, companions)

    truth = np.array([2.0, -1.0, 0.5, 1.0])
    added = np.zeros((cases, items))
    added[entries.case, entries.row] = entries.added(truth)
    full = logits + added
    share = np.exp(full - np.logaddexp.reduce(full, axis=1, keepdims=True))
    targets = np.array([rng.choice(items, p=line) for line in share])

    base = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))[entries.case, entries.row]
    pair = {(c, r): at for at, (c, r) in enumerate(zip(entries.case, entries.row, strict=True))}
    at_target = np.array([pair.get((c, t), -1) for c, t in enumerate(targets)])
    found = fit(entries, base, at_target, last)

    def loss(weights: np.ndarray) -> float:
        moved = np.zeros((cases, items))
        moved[entries.case, entries.row] = entries.added(weights)
        scored = logits + moved
        chosen = scored[np.arange(cases), targets]
        return (
            float((np.logaddexp.reduce(scored, axis=1) - chosen).mean()) + 5e-4 * (weights**2).sum()
        )

    assert np.abs(found - truth).max() < 0.8
    for step in 0.05 * np.concatenate([np.eye(4), -np.eye(4)]):
        assert loss(found) < loss(found + step)
