"""A worker's settings file is followed: what is taken, and what is refused as a whole."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stream import live
from stream.config import Settings, load_settings, settings_file
from stream.core.bundle import Bundle
from stream.errors import TopicError
from stream.live import LiveSettings, SettingsFile
from stream.revision import revision_of
from tests.support.engine import Shop
from tests.support.followed import FIRST, OTHER, Worker, begun, metric


@pytest.fixture
def start(decay_bundle: Bundle, tmp_path: Path) -> Callable[..., Worker]:
    return functools.partial(begun, decay_bundle, tmp_path)


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "stream.live"):
        yield


def test_a_changed_file_is_taken_and_told(
    start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    worker.look()
    assert worker.length == 10
    assert not caplog.records
    before = worker.revision
    worker.put(OTHER + "\n[placements.mail]\nk = 2\n")
    assert worker.length == 4
    (line,) = [record.getMessage() for record in caplog.records]
    after = worker.revision
    assert line == f"live settings {after} instead of {before}: home.k, mail new"
    assert metric("freshet_settings_info", revision=before) is None
    worker.put(OTHER)
    assert caplog.messages[-1].endswith(": mail gone")
    assert worker.revision == revision_of(load_settings(worker.path, environ={}).placements)
    assert worker.refused == (0, False)


def test_what_is_being_written_is_not_taken(start: Callable[..., Worker]) -> None:
    worker = start()
    worker.look()
    worker.put(OTHER, looks=1)
    assert worker.length == 10
    worker.put(OTHER + "[placements.mail]\nk = 2\n", looks=1)
    assert worker.shop.engine.answers.lists.placements == ["home"]
    worker.look(1)
    assert worker.shop.engine.answers.lists.placements == ["home", "mail"]


def test_what_is_written_after_the_look_is_not_taken(start: Callable[..., Worker]) -> None:
    """A writer in place begins between the second look and what is made of it."""
    worker = start()
    worker.look()

    def load(content: bytes | None) -> Settings:
        worker.path.write_text(FIRST.replace("k = 10", "k = 1"), encoding="utf-8")
        return worker.load(content)

    worker.file = worker.file._replace(load=load)
    worker.put(OTHER)
    assert worker.length == 4  # as it stood at both looks
    worker.path.unlink()
    worker.look()
    assert worker.length == 4  # the file came while it was told why it cannot be read
    assert worker.refused == (0, False)
    worker.look(3)
    assert worker.length == 1


def test_a_link_that_points_elsewhere_is_a_changed_file(
    decay_bundle: Bundle, tmp_path: Path
) -> None:
    """As Kubernetes mounts a ConfigMap: file -> ..data/file, and `..data` is renamed over."""
    for name, text in (("one", FIRST), ("two", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "freshet.toml").write_text(text)
        os.utime(tmp_path / name / "freshet.toml", (0, 0))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "freshet.toml").symlink_to("..data/freshet.toml")
    worker = Worker(decay_bundle, tmp_path / "freshet.toml", {})
    worker.look()
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    worker.look()
    assert worker.length == 4


REFUSED = {
    "a value": (OTHER.replace("k = 4", "k = 0"), (":6: placements.home.k: is 0", "from 1")),
    "a name": (
        OTHER + "[placements.home.caps]\nbrnd = 1\n",
        (":8: placements.home.caps.brnd", "did you mean brand?"),
    ),
    "two that disagree": (
        OTHER + "[[placements.home.pins]]\nitem = 'i1'\nplace = 5\n",
        (":9: placements.home.pins[0].place: is 5", "k (4)"),
    ),
    "a rule": (
        OTHER + "[[placements.home.rules]]\ndo = 'boost'\n",
        (":7: placements.home.rules[0]: has no add",),
    ),
    "the second of two placements": (
        OTHER + "[placements.mail]\ntheta = 2\n",
        (":8: placements.mail.theta: is 2", "under 1"),
    ),
    "no placements": ("[placements]\n", (":1: placements: is empty", "such as")),
    "no TOML": (OTHER + "k = = 1\n", ("is not TOML", "line 7")),
    "what is stored": (
        OTHER.replace("ring = 10", "ring = 20"),
        (":3: state.ring: is 20, and was 10", "laid out by it", "restart the workers"),
    ),
    "stored counts": (
        OTHER + "[statistics]\nhalf_life_s = 86400\n",
        (":8: statistics.half_life_s", "faded by it", "restart the workers"),
    ),
    "what a start does": (
        OTHER.replace('"shop"', '"others"'),
        (":1: group: is 'others', and was 'shop'", "put that back", "restart"),
    ),
    "a default again": (
        OTHER.replace("ring = 10", ""),
        (":2: state.ring: is 50, and was 10", "restart the workers"),
    ),
    "a weight": (
        OTHER + "[weights]\nclick = nan\n",
        (":8: weights.click: is nan", "from -100 to 100"),
    ),
    "a weight out of range": (
        OTHER + "[weights]\nclick = 101\n",
        (":8: weights.click: is 101", "to 100"),
    ),
    "a type of event": (
        OTHER + "[weights]\nview = 1\nclik = 0.2\n",
        (":9: weights.clik: is not a setting", "did you mean weights.click?"),
    ),
    "a half-life": (
        OTHER + "[weights]\nhalf_lives_s = [60, -1]\n",
        (":8: weights.half_lives_s: is [60, -1]", "a list of seconds, each from 1 to"),
    ),
    "half-lives": (
        OTHER + "[weights]\nclick = 0.5\nhalf_lives_s = [60]\n",
        (":9: weights.half_lives_s: has 1", "2 (its own: 2.592e+06, 7200)"),
    ),
    "a secret": (OTHER + "[privacy]\nsecret = 'x'\n", (":8: privacy.secret", "does not belong")),
    "no text": ("\udcff", ("is not UTF-8",)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_file_is_refused_as_a_whole(
    start: Callable[..., Worker], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    worker.look()
    text, words = REFUSED[what]
    worker.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    worker.look(4)
    assert worker.length == 10
    assert worker.refused == (1, True)
    (record,) = caplog.records
    said = record.getMessage()
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert said.startswith(
        f"nothing of the changed settings is taken, {worker.revision} goes on: {worker.path}"
    )
    assert all(word in said for word in words), said
    worker.put(OTHER)
    assert worker.length == 4
    assert worker.refused == (1, False)
    assert "instead of" in caplog.text


def test_a_file_that_goes_away_changes_nothing(
    start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    worker.look()
    worker.path.unlink()
    worker.look(1)
    assert worker.refused == (0, False)  # an editor may be about to put another in its place
    worker.look(2)
    assert worker.refused == (1, True)
    assert "cannot be read" in caplog.text
    worker.put(FIRST)
    assert worker.refused == (1, False)
    assert worker.length == 10
    assert "holds what is in force" in caplog.text


def test_what_flags_and_environment_say_stands_as_at_the_start(
    start: Callable[..., Worker], tmp_path: Path
) -> None:
    """Another value in the file is no change where it never counted; nor is a new password."""
    word = tmp_path / "word"
    word.write_text("old")
    word.chmod(0o600)
    login = {"FRESHET_SECURITY_PASSWORD_FILE": str(word), "FRESHET_SECURITY_USERNAME": "worker"}
    worker = start(FRESHET_STATE_RING="10", FRESHET_SECURITY_PROTOCOL="sasl_ssl", **login)
    worker.look()
    word.write_text("new")
    worker.put(OTHER.replace("ring = 10", "ring = 99"))
    assert worker.length == 4
    assert worker.refused == (0, False)


def test_longer_lists_are_taken_once_their_topic_takes_them(
    start: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    narrow = True
    asked = []

    def require(settings: object) -> None:
        asked.append(settings)
        if narrow:
            raise TopicError("topic recommendations has max.message.bytes=9: run kafka-configs")

    monkeypatch.setattr(live, "require_topics", require)
    monkeypatch.setattr(live, "ASK_AGAIN_EVERY_S", 0.0)
    worker = start()
    worker.look()
    longer = FIRST.replace("k = 10", "k = 50")
    worker.put(longer, looks=4)
    assert len(asked) == 3
    assert worker.refused == (1, True)  # told once, however often the brokers are asked
    assert "run kafka-configs" in caplog.text
    assert worker.length == 10
    narrow = False
    worker.look(1)
    assert worker.length == 50
    assert worker.refused == (1, False)
    worker.put(longer.replace("50", "49"))
    worker.put(longer)
    assert len(asked) == 4  # it is known


def test_a_fault_of_ours_leaves_the_settings_in_force(
    start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start()
    worker.look()
    monkeypatch.setattr(live, "lists_bytes", lambda settings: 1 / 0)
    worker.put(OTHER)
    assert worker.refused == (1, True)
    assert "ZeroDivisionError; please report it" in caplog.text
    assert worker.length == 10


def test_without_a_file_there_is_nothing_to_follow(
    decay_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load_settings(environ={})
    shop = Shop(decay_bundle, **settings.placements)
    asyncio.run(LiveSettings(settings, None, shop.engine).run())
    assert caplog.messages == [f"live settings {shop.engine.answers.lists.revision}"]
    assert settings_file(environ={}) is None
    assert settings_file(environ={"FRESHET_CONFIG": "a.toml"}) == Path("a.toml")
    assert SettingsFile.of(None, lambda content: settings) is None


def test_looks_are_frequent_enough_for_a_second() -> None:
    assert 2 * live.LOOK_EVERY_S <= 0.5
