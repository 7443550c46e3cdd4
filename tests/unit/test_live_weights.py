"""Weights of events and half-lives change while a worker runs, where its bundle takes them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream.app import load_engine
from stream.cli import main
from stream.config import given_origins, load_settings
from stream.core.bundle import Bundle
from stream.errors import SettingsError
from stream.revision import revision_of
from tests.support.bundles import fixed_weights
from tests.support.engine import lists
from tests.support.followed import FIRST, OTHER, Worker, begun


@pytest.fixture
def start(decay_bundle: Bundle, tmp_path: Path) -> Callable[..., Worker]:
    return functools.partial(begun, decay_bundle, tmp_path)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "stream.live"):
        yield


def score_of_next(worker: Worker, user: str) -> tuple[float, str | None]:
    """How a first click moves a user's first item, and by which settings."""
    event = {"user_id": user, "item_id": "i7"}
    (record,) = lists(worker.shop.step(event))
    return record.lists["home"].items[0].score, record.settings


def test_weights_count_from_the_next_list_on(
    start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    worker.look()
    before, of_start = score_of_next(worker, "a")
    worker.put(FIRST + "[weights]\nclick = 1.0\n")
    assert caplog.messages[-1].endswith(": weights.click")
    after, of_change = score_of_next(worker, "b")
    assert after > before
    settings = load_settings(worker.path, environ={})
    assert of_change == revision_of(settings.placements, settings.weights) != of_start
    worker.put(FIRST + "[weights]\nclick = 1.0\nhalf_lives_s = [60, 60]\n")
    assert caplog.messages[-1].endswith(": weights.half_lives_s")
    additive = worker.model.weighing.additive
    assert additive is not None
    assert [fading.half_life_s for fading in additive.sums] == [60, 60]
    worker.put(FIRST)
    assert score_of_next(worker, "c") == (before, of_start)
    assert worker.refused == (0, False)


def test_a_refused_weight_changes_none(start: Callable[..., Worker]) -> None:
    worker = start(FIRST + "[weights]\nclick = 1.0\n")
    worker.look()
    before = score_of_next(worker, "a")
    settings = load_settings(worker.path, environ={})
    assert worker.revision == revision_of(settings.placements, settings.weights)
    worker.put(OTHER + "[weights]\nclick = 0.1\nhalf_lives_s = [60]\n")
    assert score_of_next(worker, "b") == before
    assert worker.refused == (1, True)


def test_weights_of_a_bundle_that_has_them_fixed_are_refused(
    decay_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fixed = fixed_weights(decay_bundle, tmp_path / "fixed")
    path = tmp_path / "freshet.toml"
    path.write_text(FIRST)
    worker = Worker(fixed, path, {})
    worker.look()
    before = score_of_next(worker, "a")
    worker.put(OTHER + "[weights]\nclick = 1.0\n")
    assert f"{path}:8: weights.click: is set, yet this bundle's model (decay) has" in caplog.text
    assert "take [weights] out" in caplog.text
    assert score_of_next(worker, "b") == before
    assert worker.refused == (1, True)
    worker.put(OTHER)
    assert worker.length == 4


def test_a_worker_does_not_start_with_weights_that_its_bundle_does_not_take(
    decay_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixed = fixed_weights(decay_bundle, tmp_path / "fixed")
    environ = {"FRESHET_BUNDLE": str(fixed.path), "FRESHET_WEIGHTS_VIEW": "0.5"}
    settings, origins = load_settings(environ=environ), given_origins(environ=environ)
    with pytest.raises(SettingsError, match=r"^environment: FRESHET_WEIGHTS_VIEW: is set, yet"):
        load_engine(settings, origins=origins)
    with pytest.raises(SettingsError, match=r"^weights\.view: is set, yet this bundle"):
        load_engine(settings)
    file = tmp_path / "freshet.toml"
    file.write_text(f"bundle = '{fixed.path}'\n[weights]\nlike = 1\n")
    monkeypatch.setenv("FRESHET_CONFIG", str(file))
    assert main(["worker", "--metrics-port", "0"]) == SettingsError.exit_code
    assert f"{file}:3: weights.like: is set, yet this bundle" in capsys.readouterr().err
    environ |= {"FRESHET_BUNDLE": str(decay_bundle.path)}
    environ |= {"FRESHET_WEIGHTS_HALF_LIVES_S": "600, 60"}
    weighing = load_engine(load_settings(environ=environ)).model.weighing
    assert weighing.event_weights["view"] == 0.5
    assert weighing.event_weights["click"] == decay_bundle.manifest.event_weights["click"]
    assert weighing.given.half_lives_s == (600, 60)
