"""The wiring: what settings say reaches the engine and the table."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from stream import app
from stream.config import Placement, Settings, State
from stream.core.lifecycle import Limits
from stream.core.pseudonyms import Pseudonyms
from stream.errors import SettingsError
from stream.kafka.holding import Holding
from stream.placements import Explore
from stream.secrets import Secret
from stream.settings import Privacy
from stream.settings.statistics import Statistics
from stream.words.settings import Wording
from tests.support.bundles import random_decay_bundle

WORD = "swordfish-" * 4


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "bundle"
    random_decay_bundle(folder, 5, dim=4)
    return folder


def test_a_secret_keys_the_states_and_their_changelog(bundle: Path) -> None:
    settings = Settings(bundle=str(bundle), privacy=Privacy(secret=Secret(WORD)))
    right = Pseudonyms(WORD.encode())
    built = app.build_app(settings)
    assert built.interests is not None
    assert built.interests._keyed_by == right.fingerprint != ""
    assert app.load_engine(settings).pseudonyms.key_of(b"u") == right.key_of(b"u") != b"u"


def test_without_a_secret_ids_are_the_keys(bundle: Path) -> None:
    engine = app.load_engine(Settings(bundle=str(bundle)))
    assert engine.pseudonyms.key_of(b"u") == b"u"
    assert engine.pseudonyms.fingerprint == ""


def test_what_waits_for_the_brokers_is_told(bundle: Path) -> None:
    interests = app.build_app(Settings(bundle=str(bundle))).interests
    assert interests is not None
    assert REGISTRY.get_sample_value("freshet_unacknowledged_seconds") == 0
    holding = interests.holdings[3] = Holding(3, interests._new_shard(3))
    holding.turns.append(SimpleNamespace(sent_s=time.monotonic() - 7))
    assert 7 <= (REGISTRY.get_sample_value("freshet_unacknowledged_seconds") or 0) < 12


def test_limits_of_users_reach_the_shards(bundle: Path) -> None:
    state = State(ring=9, expire_after_s=0.0001, max_users=20)
    engine = app.load_engine(Settings(bundle=str(bundle), state=state))
    shard = engine.new_shard(0, 6)
    assert shard._lifecycle.limits == Limits(expire_after_ms=1, max_users=4)
    assert shard.layout.ring == 9


def test_what_workers_tell_each_other_of_items_reaches_the_lists(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    class Kept(app.Tally):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            built.append(self)

    monkeypatch.setattr(app, "Tally", Kept)
    load = app.load_engine
    monkeypatch.setattr(app, "load_engine", lambda *given: built.append(load(*given)) or built[-1])
    rules = Placement(explore=Explore(optimism=1.0))
    app.build_app(Settings(bundle=str(bundle), placements={"home": rules}))
    engine, tally = built
    assert engine._lists._explorers["home"]._counts is tally.merged
    assert engine._own_counts is None


def test_words_reach_answers_and_lists_as_far_as_that_is_set(bundle: Path) -> None:
    for written_to, titles, answers, lists in (
        ("nothing", False, False, False),
        ("answers", True, True, False),
        ("lists", True, True, True),
    ):
        words = Wording(written_to=written_to)  # type: ignore[arg-type]
        engine = app.load_engine(Settings(bundle=str(bundle), words=words))
        assert (engine.catalogue._titles is not None) is titles
        assert (engine.answers._room.words is not None) is answers
        assert engine.answers.lists._in_words is lists


def test_words_that_cannot_be_used_are_told_at_the_start(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text("purchas = 'x'", encoding="utf-8")
    words = Wording(file=str(tmp_path / "ours.toml"), written_to="nothing")
    with pytest.raises(SettingsError, match="did you mean purchase"):
        app.load_engine(Settings(bundle=str(bundle), words=words))


def test_contexts_reach_the_shards(bundle: Path) -> None:
    statistics = Statistics(contexts="country,hour,country")
    engine = app.load_engine(Settings(bundle=str(bundle), statistics=statistics))
    assert engine.new_shard(0, 1).counts.contexts == ("country", "hour")
