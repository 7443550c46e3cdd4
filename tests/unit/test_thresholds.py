"""What a placement's theta keeps is measured, and the best theta is the best of all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from export.bundle import write_bundle
from export.compression.held_out import Wanted
from export.data.dataset import Log
from export.measuring.evaluate import Answers, replay
from export.measuring.metrics.ranking import find_hits
from export.measuring.metrics.thresholds import best_theta, kept_by
from export.models import Trained, train
from export.training import calibrating
from export.training.calibrating import SOFTENING, calibrate, softened
from export.training.sides import hold_out
from export.training.train import fit, loaded
from stream.config import Placement, load_settings
from stream.core.bundle import Bundle
from stream.core.model import Model
from tests.unit.test_model import random_log


def silently(message: str) -> None:
    pass


def test_what_a_threshold_keeps_by_hand() -> None:
    scores = np.array([[0.5, 0.2, 0.0], [0.2, 0.1, 0.05]])
    hits = np.array([[True, False, False], [True, False, True]])
    half = kept_by(0.2, scores, hits, wanted=4)  # 3 of 5 places, 2 of their items wanted
    assert half == pytest.approx((0.2, 3 / 5, 2 / 3, 2 / 4, 2 * 2 / (3 + 4)))
    assert kept_by(0.0, scores, hits, wanted=4)[1:4] == pytest.approx((1.0, 3 / 5, 3 / 4))
    assert kept_by(0.9, scores, hits, wanted=4) == (0.9, 0, 0, 0, 0)
    assert kept_by(0.0, np.zeros((2, 3)), hits, wanted=4) == (0, 0, 0, 0, 0)


def test_scores_of_1_can_be_all_that_is_kept() -> None:
    scores, hits = np.array([1.0, 1.0, 0.25]), np.array([True, True, False])
    assert best_theta(scores, hits, 2) == 0.999


@given(st.data())
def test_no_threshold_has_a_better_f1_than_the_best_one(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 30))
    some = st.one_of(st.floats(1e-6, 1), st.sampled_from([0.0, 0.01, 0.3]))
    scores = np.array(data.draw(st.lists(some, min_size=size, max_size=size)))
    hits = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    hits &= scores > 0
    wanted = int(hits.sum()) + data.draw(st.integers(0, 5))
    best = kept_by(best_theta(scores, hits, wanted), scores, hits, wanted)
    assert 0 <= best.theta < 1
    assert best.theta == float(f"{best.theta:.3g}")
    for theta in (0.0, 0.01, 0.3, *(float(f"{score:.3g}") for score in scores)):
        if theta < 1:
            assert kept_by(theta, scores, hits, wanted).f1 <= best.f1 + 1e-12


def test_of_probabilities_the_best_threshold_is_half_the_best_f1() -> None:
    rng = np.random.default_rng(0)
    chance = special.expit(rng.normal(-3, 1.5, 200_000))
    hits = rng.random(len(chance)) < chance
    theta = best_theta(chance, hits, int(hits.sum()))
    best = kept_by(theta, chance, hits, int(hits.sum()))
    assert theta == pytest.approx(best.f1 / 2, rel=0.1)


def steep_answers(logits: np.ndarray, hits: np.ndarray) -> Answers:
    """Answers of a softened model with these logits: its lists are rows 1, 2, ... of the bundle."""

    class Said(Answers):
        def targets(self) -> list[np.ndarray]:
            return [np.append(rows[wanted], 0) for rows, wanted in zip(listed, hits, strict=True)]

    listed = np.tile(np.arange(1, logits.shape[1] + 1), (len(logits), 1))
    scores = special.expit(logits / SOFTENING).astype(np.float32)
    return Said(None, listed, scores, np.zeros(0, np.int64))  # type: ignore[arg-type]


def test_scores_that_all_look_like_one_become_probabilities() -> None:
    rng = np.random.default_rng(1)
    logits = np.sort(rng.uniform(20, 120, (4_000, 5)), axis=1)[:, ::-1]
    assert (special.expit(logits).astype(np.float32) == 1).all()
    chance = special.expit(logits / 20 - 5)
    hits = rng.random(chance.shape) < chance
    found = calibrate(steep_answers(logits, hits), silently)
    assert found is not None
    assert found.errors["calibrated"] < 0.02
    assert found.errors["uncalibrated"] > 0.5
    assert np.abs(found.calibration.probability(logits) - chance).mean() < 0.02


def test_one_half_of_the_cases_fits_and_the_other_tells() -> None:
    logits = np.tile([2.0, 1.0, -1.0, -2.0], (400, 1))
    hits = np.zeros(logits.shape, np.bool_)
    hits[::2, 0] = True  # what is fitted on always finds the first place, what is measured never
    found = calibrate(steep_answers(logits, hits), silently)
    assert found is not None
    assert found.calibration.probability(np.array([2.0]))[0] > 0.9
    assert found.errors["calibrated"] > 0.2
    assert found.kept["best_f1"]["f1"] == 0
    assert found.kept["cases"] == 200
    nothing = np.zeros(logits.shape, np.bool_)
    assert calibrate(steep_answers(logits, nothing), silently) is None


def test_softening_keeps_lists_and_divides_logits(tmp_path: Path) -> None:
    trained = train("mf", random_log(), dim=16)
    states = np.random.default_rng(0).normal(0, 0.01, (20, trained.state_size)).astype(np.float32)
    nothing = np.zeros((20, 1), np.int64)
    found = []
    for number, one in enumerate((trained, softened(trained))):
        model = Model(write_bundle(one, tmp_path / str(number)), "cpu")
        found.append(model.score(states, model.new_bias(), nothing, trained.beta, 30))
    (rows, scores), (same, soft) = found
    np.testing.assert_array_equal(rows, same)
    told = (scores > 1e-6) & (scores < 0.99)
    assert told.any()
    wanted = special.logit(scores[told].astype(np.float64)) / SOFTENING
    np.testing.assert_allclose(special.logit(soft[told].astype(np.float64)), wanted, atol=1e-4)


def test_a_list_is_full_however_low_the_logits_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that are 0 as float32 are no reason to choose otherwise, nor to list nothing."""
    log, wanted = random_log(), Wanted("int8")
    usual = fit(log, "decay", {"dim": 8}, silently, wanted=wanted)

    def lowered(name: str, log: Log, **given: object) -> Trained:
        trained = train(name, log, **given)
        trained.biases[1:] -= 60
        return trained

    monkeypatch.setattr("export.training.train.train", lowered)
    low = fit(log, "decay", {"dim": 8}, silently, wanted=wanted)
    assert (low.exclude_seen, low.exclude_bought) == (usual.exclude_seen, usual.exclude_bought)
    assert (low.storage, low.item_storage) == (usual.storage, usual.item_storage)
    assert usual.metrics["held_out"]["listed@20"] == 20
    for name, value in usual.metrics["held_out"].items():
        assert low.metrics["held_out"][name] == pytest.approx(value, abs=0.01, rel=0.01), name
    for name, value in usual.metrics["packed_items"]["losses"].items():
        assert low.metrics["packed_items"]["losses"][name] == pytest.approx(value, abs=0.01)
    held = hold_out(log)
    assert held is not None
    served = Model(write_bundle(low, tmp_path / "bundle"), "cpu")
    longest = replay(served, held.asked, rules=Placement(k=200, exclude_bought=False))
    assert (longest.listed > 0).all()


def test_the_manifest_says_what_the_engine_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A theta of the table in a placement's settings keeps the share that the table says."""
    monkeypatch.setattr(calibrating, "THETAS", (0.0, 0.005, 0.02))
    log, said = random_log(), []
    trained = fit(log, "decay", {"dim": 8}, said.append)
    assert any("the best" in line for line in said)
    bundle = write_bundle(trained, tmp_path / "bundle")
    told = Bundle.load(bundle.path).manifest.training["calibration"]
    held = hold_out(log)
    assert held is not None
    assert trained.calibration is not None
    older = train("decay", held.older, dim=8).calibrated(trained.calibration)
    kept = {}
    with loaded(older) as served:
        settings = tmp_path / "freshet.toml"
        for row in (*told["thetas"], told["best_f1"]):
            settings.write_text(f"[placements.home]\ntheta = {row['theta']}\n")
            rules = load_settings(settings, environ={}).placements["home"]
            rules = Placement(
                k=rules.k,
                theta=rules.theta,
                exclude_seen=trained.exclude_seen,
                exclude_bought=trained.exclude_bought,
            )
            answers = replay(served, held.asked, rules=rules, storage=trained.storage)
            others = np.arange(len(answers.scores)) % 2 == 1
            hits = find_hits(answers.listed, answers.targets())
            listed, at = answers.scores[others] > 0, hits.at[others]
            kept[row["theta"]] = listed.sum()
            assert row["precision"] == pytest.approx(at.sum() / listed.sum(), abs=2e-3)
            assert row["recall"] == pytest.approx(at.sum() / hits.wanted[others].sum(), abs=2e-3)
            assert row["kept"] == pytest.approx(listed.sum() / kept[0.0], abs=2e-3)
    assert len(set(kept.values())) > 1
