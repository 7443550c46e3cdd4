"""A worker's settings file is followed: what is taken, and what is refused as a whole."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from stream import live
from stream.app import load_engine
from stream.cli import main
from stream.cli.examining.configuration import examine_configuration
from stream.cli.examining.workers import examine_worker
from stream.config import Settings, given_origins, load_settings, settings_file
from stream.core.bundle import Bundle
from stream.errors import SettingsError, TopicError
from stream.live import LiveSettings, SettingsFile
from stream.revision import revision_of
from tests.support.bundles import fixed_weights
from tests.support.engine import Shop, lists

FIRST = """\
group = "shop"
[state]
ring = 10

[placements.home]
k = 10
"""
OTHER = FIRST.replace("k = 10", "k = 4")


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


class Worker:
    """An engine whose settings are followed, a look at a time."""

    def __init__(self, bundle: Bundle, path: Path, environ: dict[str, str]) -> None:
        self.path, self.environ = path, environ
        settings = load_settings(path, environ=environ)
        self.shop = Shop(bundle, weights=settings.weights, **settings.placements)
        self.model = self.shop.engine.model
        self.file = SettingsFile(path, self.load)
        self.live = LiveSettings(settings, self.file, self.shop.engine)
        self.refusals = metric("freshet_settings_refusals_total")

    def load(self, content: bytes | None) -> Settings:
        return load_settings(self.path, environ=self.environ, content=content)

    def look(self, times: int = 2) -> None:
        async def several() -> None:
            for _ in range(times):
                await self.live.look(self.file)

        asyncio.run(several())

    def put(self, text: str, looks: int = 2) -> None:
        self.path.write_text(text, encoding="utf-8")
        self.look(looks)

    @property
    def length(self) -> int:
        """Of the list that an event makes now; it names the settings in force."""
        (record,) = lists(self.shop.step({"item_id": "i7"}))
        assert record.settings == self.revision
        assert metric("freshet_settings_info", revision=str(record.settings)) == 1
        return len(record.lists["home"].items)

    @property
    def revision(self) -> str:
        """Of the settings in force."""
        return self.shop.engine.answers.lists.revision

    @property
    def refused(self) -> tuple[float, bool]:
        """How often since the start, and whether it is so now."""
        counted = metric("freshet_settings_refusals_total") or 0
        return counted - (self.refusals or 0), bool(metric("freshet_settings_refused"))


@pytest.fixture
def start(decay_bundle: Bundle, tmp_path: Path) -> Callable[..., Worker]:
    def begin(text: str = FIRST, **environ: str) -> Worker:
        path = tmp_path / "freshet.toml"
        path.write_text(text, encoding="utf-8")
        return Worker(decay_bundle, path, environ)

    return begin


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


class _Endpoints(BaseHTTPRequestHandler):
    """A worker's endpoints, as far as the doctor looks at them."""

    told = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.told if self.path == "/metrics" else b'{"ready": true}')

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_doctor_compares_the_file_with_what_a_worker_has_in_force(tmp_path: Path) -> None:
    path = tmp_path / "freshet.toml"
    with HTTPServer(("127.0.0.1", 0), _Endpoints) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        path.write_text(
            f"metrics_host = '0.0.0.0'\nmetrics_port = {port}\n[placements.home]\nk = 5"
        )
        settings = load_settings(path, environ={})
        revision = revision_of(settings.placements)
        told = examine_configuration(settings, {})
        assert f"placements: home, settings {revision}" in told.more
        found = []
        for in_force in (revision, "0123456789ab", "none"):
            _Endpoints.told = f'freshet_settings_info{{revision="{in_force}"}} 1.0\n'.encode()
            found.append(examine_worker(settings))
        server.shutdown()
    assert [one.status for one in found] == ["ok", "fault", "ok"]  # the last is of an older version
    assert f"has live settings 0123456789ab in force, and what is set here is {revision}" in (
        found[1].detail
    )
    assert "its log" in str(found[1].cure)
