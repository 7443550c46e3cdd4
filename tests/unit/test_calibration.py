"""Calibrated scores are probabilities, and ranks stay as they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.bundle import write_bundle
from export.calibration import LEAST_SLOPE, LOWEST, Calibration, fitted
from export.models import train
from export.models.base import Trained
from export.to_onnx import node, score_graph, with_calibration
from stream.core.bundle import NEVER_LISTED, Bundle
from stream.core.model import Model
from stream.core.policy.placement import LEAST_SCORE
from stream.errors import BundleError
from tests.unit.test_model import random_log, some_states

USERS = 40
# Steep, nearly flat and steep again, about where the logits of `random_log` lie.
BENT = Calibration.of([-9, -6, -5, -3.5, -1, 3], [-8, -7.5, -3, -2.9, -2.8975, 1])


@pytest.fixture(scope="module", params=["decay", "cooccurrence"])
def trained(request: pytest.FixtureRequest) -> Trained:
    return train(request.param, random_log(), dim=16)


def listed(bundle: Bundle, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores of random users, of whom the last is struck everything."""
    model = Model(bundle, "cpu", spare_rows=0)
    struck = np.random.default_rng(0).integers(0, model.rows, (USERS, model.rows))
    struck[:, 40:] = 0
    struck[-1] = np.arange(model.rows)
    states = some_states(model, USERS)
    return model.score(states, model.new_bias(), struck, bundle.manifest.beta, k)


def logits_of(scores: np.ndarray) -> np.ndarray:
    exact = scores.astype(np.float64)
    return np.log(exact / (1 - exact))


def test_scores_follow_the_map_and_ranks_stay(trained: Trained, tmp_path: Path) -> None:
    plain_rows, plain = listed(write_bundle(trained, tmp_path / "plain"), 300)
    bundle = write_bundle(trained.calibrated(BENT), tmp_path / "calibrated")
    rows, scores = listed(bundle, 300)
    np.testing.assert_array_equal(rows, plain_rows)
    np.testing.assert_array_equal(scores == 0, plain == 0)
    assert not scores[-1].any()
    shown = (plain > 1e-6) & (plain < 1 - 1e-6)  # beyond, a score says too little about its logit
    wanted = 1 / (1 + np.exp(-BENT.apply(logits_of(plain[shown]))))
    np.testing.assert_allclose(scores[shown], wanted, atol=2e-5)
    # ONNX Runtime's Sigmoid wavers in its last bits, with and without calibration.
    assert (np.diff(scores, axis=1) <= 2e-7).all()
    assert (np.abs(scores - plain)[shown] > 0.05).any()


def test_the_golden_sequences_hold_the_calibration(trained: Trained, tmp_path: Path) -> None:
    good = trained.calibrated(BENT)
    Model(write_bundle(good, tmp_path / "good"), "cpu")
    other = Calibration.of(BENT.x, BENT.y + np.float32(0.1))
    for number, said in enumerate((None, other)):
        wrong = dataclasses.replace(good, calibration=said)
        with pytest.raises(BundleError, match=r"golden\.npz: .* differs by up to"):
            Model(write_bundle(wrong, tmp_path / f"wrong-{number}"), "cpu")


def test_a_graph_is_calibrated_once(trained: Trained) -> None:
    with pytest.raises(ValueError, match="calibrated already"):
        trained.calibrated(BENT).calibrated(BENT)


def test_a_calibration_comes_with_the_graph_or_afterwards() -> None:
    def graph(calibration: Calibration | None) -> bytes:
        nodes = [node("Gemm", ["state", "item_table", "bias"], ["logits"], transB=1)]
        return score_graph(nodes, {}, 4, 4, calibration=calibration)

    assert with_calibration(graph(None), BENT) == graph(BENT) != graph(None)


@pytest.mark.parametrize("knots", [([0, 1], [0, 1]), ([-2, 5], [3, 3.007])])
def test_two_knots_are_a_line(knots: tuple[list[float], list[float]], tmp_path: Path) -> None:
    line = Calibration.of(*knots)
    slope, logits = line.slopes[0], np.linspace(-50, 50, 101)
    np.testing.assert_allclose(
        line.apply(logits), line.y[0] + slope * (logits - line.x[0]), rtol=1e-6
    )
    model = train("decay", random_log(), dim=4).calibrated(line)
    Model(write_bundle(model, tmp_path / "bundle"), "cpu")


@given(st.data())
def test_the_map_is_linear_between_knots_and_keeps_its_end_slopes(data: st.DataObject) -> None:
    steps = st.lists(st.floats(0.25, 5), min_size=2, max_size=12)
    widths = np.array(data.draw(steps))
    slopes = np.array([data.draw(st.floats(0.01, 4)) for _ in widths])
    x = np.concatenate([[data.draw(st.floats(-9, 9))], widths]).cumsum()
    y = np.concatenate([[data.draw(st.floats(-9, 9))], widths * slopes]).cumsum()
    knots = Calibration.of(x, y)
    inside = np.linspace(knots.x[0], knots.x[-1], 50).astype(np.float64)
    np.testing.assert_allclose(knots.apply(inside), np.interp(inside, knots.x, knots.y), atol=1e-9)
    for end, slope, step in ((0, knots.slopes[0], -7.0), (-1, knots.slopes[-1], 7.0)):
        beyond = knots.apply(np.array([float(knots.x[end]) + step]))[0]
        assert beyond == pytest.approx(float(knots.y[end]) + slope * step, abs=1e-6)
    np.testing.assert_allclose(knots.slopes, slopes, atol=1e-3)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0], [0], "two or more knots"),
        ([0, 1], [0, 1, 2], "as many x as y"),
        ([[0, 1]], [[0, 1]], "two or more knots"),
        ([0, 0], [0, 1], "ascend"),
        ([1, 0], [0, 1], "ascend"),
        ([0, 1], [0, 0], "rise by 0.001"),
        ([0, 1, 2], [0, 1, 0.5], "rise by 0.001"),
        ([0, 1], [0, 0.0009], "rise by 0.001"),
        ([0, 1], [0, np.inf], "finite"),
        ([np.nan, 1], [0, 1], "finite"),
        ([0, 1e-60], [0, 1], "ascend"),  # the same number as float32
    ],
)
def test_knots_that_are_no_such_map_are_refused(x: object, y: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Calibration.of(x, y)


def test_a_fitted_calibration_makes_scores_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 2, (20_000, 3))
    chance = 1 / (1 + np.exp(-(0.4 * logits - 1)))  # what a score stands for
    hits = rng.random(chance.shape) < chance
    scores = 1 / (1 + np.exp(-logits))
    found = fitted(logits, hits)
    assert found is not None
    calibrated = 1 / (1 + np.exp(-found.apply(logits)))
    inner = (logits > found.x[0]) & (logits < found.x[-1])
    assert np.abs(calibrated - chance)[inner].max() < 0.05
    assert np.abs(scores - chance)[inner].mean() > 0.08
    assert (np.diff(found.apply(np.linspace(-12, 8, 1000))) > 0).all()


def test_what_falls_is_made_to_rise_and_too_little_is_said() -> None:
    logits = np.repeat(np.linspace(-2, 2, 9), 100)
    falling = np.tile(np.arange(100) < 50, 9) & (logits < 0)
    found = fitted(logits, falling)
    assert found is not None
    assert (np.diff(found.y) > 0).all()
    assert fitted(logits, np.zeros(len(logits), np.bool_)) is None
    assert fitted(np.zeros(10), np.ones(10, np.bool_)) is None
    assert fitted(np.full(10, -np.inf), np.ones(10, np.bool_)) is None


def test_what_lies_far_below_the_lowest_bin_is_listed_still() -> None:
    """The map goes on as it fell, and levels out before a placement takes a score for none."""
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 2, (20_000, 3))
    hits = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    found = fitted(logits, hits)
    assert found is not None
    lowest = found.x[found.y > LOWEST + 1e-3][0]
    below = found.apply(np.array([lowest - 1, lowest - 2, lowest - 3]))
    slopes = -np.diff(below, prepend=found.apply(np.array([lowest])))
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-4)
    assert slopes[0] > 0.3
    far = found.apply(lowest - np.array([10, 100, 1_000], np.float64))
    assert (far < LOWEST + 2).all()
    assert (1 / (1 + np.exp(-far)) > LEAST_SCORE).all()
    assert (np.diff(far) < 0).all()
    assert found.probability(np.array([NEVER_LISTED]))[0] == 0


def test_scores_below_the_last_step_level_out_at_once() -> None:
    """A share of hits may lie below it already."""
    logits = np.repeat([0.0, 1.0], 1_000_000)
    hits = np.arange(len(logits)) == len(logits) - 1
    found = fitted(logits, hits)
    assert found is not None
    assert found.y[1] < LOWEST
    assert found.slopes[0] == pytest.approx(2 * LEAST_SLOPE, rel=1e-3)
