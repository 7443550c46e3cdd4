"""The graphs through ONNX Runtime: exact, the same in batches, and changed in place."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bundle import write_bundle
from export.data.dataset import Log
from export.models import train
from export.models.base import Trained
from stream.contracts import EventType
from stream.core import sessions
from stream.core.bundle import NEVER_LISTED, Bundle
from stream.core.model import ROWS_MULTIPLE, Model
from stream.core.resident import ResidentBias
from stream.errors import ProviderError

ITEMS = 300
BEGIN_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)


def random_log(seed: int = 0, events: int = 3_000) -> Log:
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, 100, events))
    theme = rng.integers(0, 10, events // 10).repeat(10)
    item = (theme * (ITEMS // 10) + rng.integers(0, ITEMS // 10, events)) % ITEMS
    return Log(
        users=[f"u{i}" for i in range(100)],
        items=[f"i{i}" for i in range(ITEMS)],
        user=user,
        item=item,
        event_type=np.full(events, int(EventType.CLICK)),
        time_ms=BEGIN_MS + np.arange(events) * 60_000,
        session=np.arange(events) // 10,
        quantity=np.ones(events),
        price=np.ones(events),
        titles={f"i{i}": f"thing {i} of {i * 10 // ITEMS}" for i in range(ITEMS)},
    )


@pytest.fixture(scope="module", params=["decay", "cooccurrence", "mf", "content", "ensemble"])
def trained(request: pytest.FixtureRequest) -> Trained:
    of = {"of": "content,cooccurrence,decay", "content.dim": 16, "decay.dim": 8}
    return train(
        request.param, random_log(), **(of if request.param == "ensemble" else {"dim": 16})
    )


@pytest.fixture(scope="module")
def bundle(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(trained, tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def model(bundle: Bundle) -> Model:
    return Model(bundle, "cpu", spare_rows=100)


def some_states(model: Model, users: int, seed: int = 0) -> np.ndarray:
    """States after 30 random events each."""
    rng = np.random.default_rng(seed)
    state = np.zeros((users, model.state_size), np.float32)
    for _ in range(30):
        rows = rng.integers(0, ITEMS, users)
        state = model.update(
            state, rows, rng.integers(0, 10, users), rng.normal(0, 1e6, users).astype(np.float32)
        )
    return state


def test_a_batch_folds_like_its_events_one_by_one_bit_for_bit(model: Model) -> None:
    rng = np.random.default_rng(1)
    users = 300
    state = some_states(model, users)
    rows, types = rng.integers(0, ITEMS, users), rng.integers(0, 10, users)
    gaps = (rng.choice([-1, 0, 1], users) * 10 ** rng.uniform(-3, 9, users)).astype(np.float32)
    single = np.concatenate(
        [model.update(state[i : i + 1], rows[i : i + 1], types[i : i + 1], gaps[i : i + 1])
         for i in range(users)]
    )  # fmt: skip
    assert np.isfinite(single).all()
    for batch in range(1, users + 1):
        folded = model.update(state[:batch], rows[:batch], types[:batch], gaps[:batch])
        assert folded.tobytes() == single[:batch].tobytes(), batch


def test_update_gives_a_new_array_and_takes_views(model: Model) -> None:
    wide = np.zeros((8, model.state_size), np.float32)
    rows, types = np.arange(1, 9), np.full(8, EventType.PURCHASE, np.uint8)
    first = model.update(wide[::2], rows[::2], types[::2], np.zeros(4))
    kept = first.copy()
    second = model.update(wide[1::2], rows[1::2] + 150, types[1::2], np.zeros(4))
    assert not wide.any()
    assert (first == kept).all()
    assert (first != second).any()


def test_no_item_and_impressions_only_let_time_pass(model: Model) -> None:
    state = some_states(model, 4)
    zeros, row = np.zeros(4, np.float32), np.full(4, 5)
    nothing = model.update(state, row * 0, np.full(4, int(EventType.PURCHASE)), zeros)
    shown = model.update(state, row, np.full(4, int(EventType.IMPRESSION)), zeros)
    np.testing.assert_array_equal(shown, state)  # by value: 0 may turn into -0
    if model.bundle.manifest.model == "cooccurrence":
        np.testing.assert_array_equal(nothing, state)


def full_sort(
    model: Model, trained: Trained, state: np.ndarray, bias: ResidentBias, excluded: np.ndarray
) -> np.ndarray:
    """Logits of all rows, float32 [B, rows], excluded ones never listed."""
    n = len(trained.item_ids)
    logits = np.full((len(state), model.rows), NEVER_LISTED, np.float32)
    logits[:, :n] = trained.reference.logits(state, trained.beta)
    logits[:, :n] += bias.values[:n] - trained.biases
    np.put_along_axis(logits, excluded, np.float32(NEVER_LISTED), axis=1)
    return logits


def assert_is_top_k(
    rows: np.ndarray, scores: np.ndarray, logits: np.ndarray, allowed: float = 1e-5
) -> None:
    k = rows.shape[1]
    best = -np.sort(-logits, axis=1)[:, :k].astype(np.float64)
    expected = np.where(best > -1e29, 1 / (1 + np.exp(-np.maximum(best, -80))), 0)
    np.testing.assert_allclose(scores, expected, atol=allowed)
    of_rows = np.take_along_axis(logits, rows, axis=1).astype(np.float64)
    np.testing.assert_allclose(np.maximum(of_rows, -80), np.maximum(best, -80), atol=1e-3)
    assert (scores[of_rows < -1e29] == 0).all()
    for line in rows:
        assert len(set(line.tolist())) == k


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_block_max_top_k_equals_a_full_sort(
    data: st.DataObject, bundle: Bundle, trained: Trained
) -> None:
    model = Model(bundle, "cpu", spare_rows=data.draw(st.sampled_from([0, 100, 500])))
    users = data.draw(st.integers(1, 20))
    k = data.draw(st.integers(1, model.rows))
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    struck = data.draw(st.sampled_from([0, 1, 50, 299, 2_000]))
    excluded = rng.integers(0, len(trained.item_ids), (users, struck))
    state, bias = some_states(model, users, seed), model.new_bias()
    rows, scores = model.score(state, bias, excluded, trained.beta, k)
    assert rows.shape == scores.shape == (users, k)
    assert_is_top_k(rows, scores, full_sort(model, trained, state, bias, excluded))
    assert (scores <= 1).all()


def test_ties_are_still_the_k_best(model: Model, trained: Trained) -> None:
    state = np.zeros((3, model.state_size), np.float32)
    bias = model.new_bias(np.zeros(len(trained.item_ids), np.float32))
    excluded = np.tile(np.arange(1, 200), (3, 1))
    rows, scores = model.score(state, bias, excluded, trained.beta, 150)
    left = len(trained.item_ids) - 200
    assert left < 150
    for line, values in zip(rows, scores, strict=True):
        assert set(line[:left].tolist()) == set(range(200, len(trained.item_ids)))
        assert (values[:left] == 0.5).all()
        assert (values[left:] == 0).all()


@pytest.mark.parametrize("spare_rows", [0, 100, 1_000])
def test_equal_items_come_in_the_order_of_their_rows(
    bundle: Bundle, trained: Trained, spare_rows: int
) -> None:
    """Of users who did nothing yet, however many rows the worker keeps free."""
    model = Model(bundle, "cpu", spare_rows=spare_rows)
    state = np.zeros((3, model.state_size), np.float32)
    for seed in range(20):
        biases = np.random.default_rng(seed).integers(-8, 2, ITEMS + 1).astype(np.float32)
        biases[0] = NEVER_LISTED
        rows, _ = model.score(state, model.new_bias(biases), np.zeros((3, 1)), trained.beta, 8)
        wanted = np.argsort(-biases, kind="stable")[:8]
        np.testing.assert_array_equal(rows, np.tile(wanted, (3, 1)))


def test_more_items_than_there_are_blocks_are_still_the_best(model: Model) -> None:
    """Where every block holds a good one, the least of their maxima bounds nothing."""
    values = np.random.default_rng(9).normal(0, 1, model.rows).astype(np.float32)
    values[7::32] += 20
    values[0] = NEVER_LISTED
    bias, k = model.new_bias(values), model.rows // 32 + 4
    rows, _ = model.score(some_states(model, 3), bias, np.zeros((3, 1), np.int64), 0.0, k)
    np.testing.assert_array_equal(rows, np.tile(np.argsort(-values)[:k], (3, 1)))


def test_everything_excluded_scores_nothing(model: Model) -> None:
    excluded = np.arange(model.rows)[None, :]
    _, scores = model.score(some_states(model, 1), model.new_bias(), excluded, 5.0, 10)
    assert (scores == 0).all()


def test_excluded_and_spare_rows_are_never_listed(model: Model, trained: Trained) -> None:
    state, bias = some_states(model, 16), model.new_bias()
    rows, _ = model.score(state, bias, np.zeros((16, 0), np.int64), trained.beta, 20)
    again, scores = model.score(state, bias, rows, trained.beta, 20)
    for before, after in zip(rows, again, strict=True):
        assert not set(before.tolist()) & set(after.tolist())
    assert ((again > 0) & (again < len(trained.item_ids)) & (scores > 0)).all()


def test_a_batch_scores_like_its_users_one_by_one(model: Model, trained: Trained) -> None:
    users = 70
    state, bias = some_states(model, users), model.new_bias()
    excluded = np.random.default_rng(2).integers(0, ITEMS, (users, 30))
    rows, scores = model.score(state, bias, excluded, trained.beta, 20)
    for i in range(users):
        one = slice(i, i + 1)
        single_rows, single_scores = model.score(state[one], bias, excluded[one], trained.beta, 20)
        np.testing.assert_allclose(single_scores[0], scores[i], atol=1e-6)
        swapped = single_rows[0] != rows[i]
        close = np.abs(np.diff(scores[i], append=0)) < 1e-6
        assert not (swapped & ~close & ~np.roll(close, 1)).any()


def test_no_users_and_k_out_of_range(model: Model) -> None:
    none = np.zeros((0, model.state_size), np.float32)
    empty = np.zeros(0, np.int64)
    assert model.update(none, empty, empty, np.zeros(0, np.float32)).shape == none.shape
    bias = model.new_bias()
    assert model.score(none, bias, np.zeros((0, 5), np.int64), 1.0, 3)[0].shape == (0, 3)
    one = np.zeros((1, model.state_size), np.float32)
    assert model.score(one, bias, np.zeros((1, 1), np.int64), 1.0, 10**9)[0].shape[1] == model.rows
    assert model.score(one, bias, np.zeros((1, 1), np.int64), 1.0, 0)[0].shape[1] == 1


@pytest.mark.parametrize(
    "trained", ["decay", "mf", "content"], indirect=True
)  # those that score with vectors
def test_a_changed_row_shows_in_the_next_score(model: Model, trained: Trained) -> None:
    state, bias = some_states(model, 1), model.new_bias()
    row = np.array([len(trained.item_ids) + 3])  # a spare row: an item the model never saw
    nothing = np.zeros((1, 1), np.int64)
    before = model.score(state, bias, nothing, trained.beta, 5)[0]
    bias.set(row, np.float32([0.0]))
    best = model.embeddings[before[0, 0]]
    model.set_embeddings(row, 50 * best[None, :])
    assert model.score(state, bias, nothing, trained.beta, 5)[0][0, 0] == row[0]
    assert (model.embeddings[row[0]] == 50 * best).all()
    moved = model.update(state * 0, row, np.array([int(EventType.PURCHASE)]), np.zeros(1))
    np.testing.assert_allclose(moved[0, :16], 50 * best, rtol=1e-5)


def test_an_item_that_the_model_never_saw_has_no_say(model: Model, trained: Trained) -> None:
    unseen = np.full(3, len(trained.item_ids) + 3)
    zero, nothing = np.zeros((3, model.state_size), np.float32), np.zeros((3, 1), np.int64)
    bias = model.new_bias()
    state = model.update(zero, unseen, np.full(3, int(EventType.PURCHASE)), np.zeros(3))
    found = model.score(state, bias, nothing, trained.beta, 9)
    expected = model.score(zero, bias, nothing, trained.beta, 9)
    assert (found[0] == expected[0]).all()
    assert (found[1] == expected[1]).all()


def test_a_changed_bias_shows_in_the_next_score_and_only_there(model: Model) -> None:
    state, nothing = some_states(model, 1), np.zeros((1, 1), np.int64)
    bias, other = model.new_bias(), model.new_bias()
    first = model.score(state, bias, nothing, 5.0, 5)[0]
    bias.set(first[0, :2], NEVER_LISTED)
    then = model.score(state, bias, nothing, 5.0, 5)[0]
    assert set(then[0].tolist()).isdisjoint(first[0, :2].tolist())
    assert (model.score(state, other, nothing, 5.0, 5)[0] == first).all()
    with pytest.raises(ValueError, match="read-only"):
        bias.values[0] = 1


def test_growing_keeps_tables_and_every_bias(model: Model) -> None:
    state, nothing = some_states(model, 2), np.zeros((2, 1), np.int64)
    bias = model.new_bias()
    before = model.score(state, bias, nothing, 5.0, 9)
    table, rows = model.embeddings.copy(), model.rows
    model.grow(rows + 1)
    assert model.rows == rows + ROWS_MULTIPLE
    assert (model.embeddings[:rows] == table).all()
    assert not model.embeddings[rows:].any()
    after = model.score(state, bias, nothing, 5.0, 9)
    assert (after[0] == before[0]).all()
    bias.set(np.array([model.rows - 1]), np.float32([100.0]))
    assert model.score(state, bias, nothing, 5.0, 1)[0].tolist() == [[model.rows - 1]] * 2


def test_the_graphs_agree_with_the_reference(model: Model, trained: Trained) -> None:
    rng = np.random.default_rng(3)
    state = some_states(model, 50)
    rows, types = rng.integers(0, len(trained.item_ids), 50), rng.integers(0, 10, 50)
    gaps = rng.normal(0, 1e6, 50).astype(np.float32)
    np.testing.assert_allclose(
        model.update(state, rows, types, gaps),
        trained.reference.update(state, rows, types, gaps),
        atol=2e-5,
    )


def test_cuda_without_a_device_says_what_is_missing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sessions, "_cuda_missing", lambda: "no NVIDIA driver")
    with pytest.raises(ProviderError, match="no NVIDIA driver"):
        Model(bundle, "cuda")
    assert Model(bundle, "auto").provider == "cpu"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("asked", "driver", "wanted"),
    [
        ("auto", "a driver", "cuda"),
        ("auto", None, "cpu"),
        ("cuda", None, "cuda"),
        ("cpu", "a driver", "cpu"),
    ],
)
def test_who_has_a_driver_wants_its_device(
    asked: str, driver: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_driver", lambda: driver)
    assert sessions.wanted_provider(asked) == wanted


def test_cuda_that_falls_back_in_silence_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime then gives a session on the CPU; where CUDA works, there is nothing to show."""
    if sessions._cuda_missing() is None:
        pytest.skip("CUDA works here")
    monkeypatch.setattr(sessions, "_cuda_missing", lambda: None)
    with pytest.raises(ProviderError, match="could not start it"):
        Model(bundle, "cuda")
    assert capfd.readouterr().err == ""
