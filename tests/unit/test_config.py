"""Settings: who wins, what is refused, and that a message says where and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.cli import main
from stream.config import (
    Placement,
    Settings,
    describe_settings,
    environment_with,
    given_paths,
    load_settings,
)
from stream.errors import SettingsError
from stream.placements import Caps, Pin
from stream.settings import NEVER_EMPTY, variable

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(toml: str) -> Path:
        path = tmp_path / "freshet.toml"
        path.write_text(toml, encoding="utf-8")
        return path

    return to_file


def test_defaults() -> None:
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.bootstrap == "127.0.0.1:9092"
    assert settings.metrics_port == 9464
    assert settings.topics.dead_letters == "dead-letters"
    assert settings.placements == {"home": Placement()}


def test_flags_win_over_environment_over_file_over_defaults(write: Write) -> None:
    file = write("group = 'file'\n[state]\nring = 10\n[batch]\nmax_events = 100\nin_flight = 1")
    environ = {"FRESHET_STATE_RING": "20", "FRESHET_BATCH_MAX_EVENTS": "200"}
    settings = load_settings(file, {"batch.max_events": "300", "group": None}, environ)
    found = (
        settings.log_level,
        settings.group,
        settings.batch.in_flight,
        settings.state.ring,
        settings.batch.max_events,
    )
    assert found == ("info", "file", 1, 20, 300)


def test_the_environment_names_the_file(write: Write) -> None:
    file = write("group = 'shop'")
    assert load_settings(environ={"FRESHET_CONFIG": str(file)}).group == "shop"
    other = write("group = 'other'")
    assert load_settings(other, environ={"FRESHET_CONFIG": "/nowhere"}).group == "other"


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHET_GROUP", "from-outside")
    assert load_settings().group == "from-outside"


def test_an_empty_variable_is_not_set() -> None:
    environ = {"FRESHET_GROUP": "", "FRESHET_STATE_RING": "", "FRESHET_CONFIG": ""}
    assert load_settings(environ=environ) == Settings()


def test_placements(write: Write) -> None:
    file = write(
        """
        [placements.basket]
        k = 5
        kinds = ["product", "coupon"]
        theta = 0.25
        beta = 4
        exclude_seen = false
        seen_window_s = 3600
        exclude_bought = false
        """
    )
    assert load_settings(file, environ={}).placements == {
        "basket": Placement(5, ("product", "coupon"), 4.0, 0.25, False, 3600.0, False)
    }


def test_where_the_tests_look_for_logs_is_no_setting(write: Write) -> None:
    assert load_settings(environ={"FRESHET_DATA": "/srv/logs"}) == Settings()
    with pytest.raises(SettingsError, match="data"):
        load_settings(write("data = '/srv/logs'"), environ={})


def test_kubernetes_service_links_are_no_settings() -> None:
    environ = {
        "FRESHET_SERVICE_HOST": "10.0.0.1",
        "FRESHET_SERVICE_PORT_METRICS": "9464",
        "FRESHET_PORT": "tcp://10.0.0.1:9464",
        "FRESHET_PORT_9464_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(environ=environ) == Settings()


REFUSED_IN_FILE = {
    "rnig = 1": ("rnig", "not a setting"),
    "[state]\nrnig = 1": ("state.rnig", "did you mean state.ring?"),
    "metrics_prot = 1": ("metrics_prot", "did you mean metrics_port?"),
    "[topic]\nclicks = 'c'": ("topic", "did you mean topics?"),
    "[placements.home]\nexclude_sen = true": (
        "placements.home.exclude_sen",
        "did you mean exclude_seen?",
    ),
    "state = 5": ("state", "must be a table"),
    "placements = 5": ("placements", "must be a table"),
    "[placements]\nhome = 5": ("placements.home", "must be a table"),
    "[placements]": ("placements", "is empty"),
    "[placements.'front page']\nk = 5": ("placements.front page", "rename it"),
    "[state]\nring = 256": ("state.ring", "256", "a whole number from 0 to 255"),
    "[state]\nring = -1": ("state.ring", "-1", "a whole number from 0 to 255"),
    "[state]\nring = '5'": ("state.ring", "'5'", "a whole number"),
    "[state]\nring = true": ("state.ring", "True", "a whole number"),
    "[state]\nring = 5.5": ("state.ring", "5.5", "a whole number"),
    "metrics_port = 65536": ("metrics_port", "65536", "0 to 65535"),
    "provider = 'gpu'": ("provider", "'gpu'", "auto, cpu or cuda"),
    "log_level = 'loud'": ("log_level", "'loud'", "debug"),
    "group = ''": ("group", "''", "not empty"),
    "bootstrap = 'localhost'": ("bootstrap", "'localhost'", "HOST:PORT"),
    "bootstrap = 'a:1,b'": ("bootstrap", "'a:1,b'", "HOST:PORT"),
    "[topics]\npartitions = 0": ("topics.partitions", "0", "from 1"),
    "[topics]\nreplication = 0": ("topics.replication", "0", "from 1"),
    "[topics]\nclicks = 'my clicks'": ("topics.clicks", "'my clicks'", "letters, digits"),
    "[topics]\nclicks = 'same'\nitems = 'same'": ("topics.items", "'same'", "topics.clicks"),
    "[topics]\nclicks = 'purchases'": ("topics.purchases", "'purchases'", "topics.clicks"),
    "[batch]\nmax_events = 0": ("batch.max_events", "0", "from 1"),
    "[batch]\nin_flight = 0": ("batch.in_flight", "0", "from 1"),
    "[broker]\nheartbeat_s = 0": ("broker.heartbeat_s", "0", "above 0"),
    "[broker]\nheartbeat_s = inf": ("broker.heartbeat_s", "inf", "above 0"),
    "[broker]\nheartbeat_s = nan": ("broker.heartbeat_s", "nan", "above 0"),
    "[broker]\nheartbeat_s = 10": ("broker.heartbeat_s", "10.0", "session_timeout_s"),
    "[broker]\nfence_refresh_s = 86400": ("broker.fence_refresh_s", "86400", "to 43200"),
    "[placements.home]\nk = 0": ("placements.home.k", "0", "from 1 to 1000"),
    "[placements.home]\nk = 1001": ("placements.home.k", "1001", "from 1 to 1000"),
    "[placements.home]\ntheta = 1": ("placements.home.theta", "1", "from 0, under 1"),
    "[placements.home]\ntheta = nan": ("placements.home.theta", "nan", "from 0, under 1"),
    "[placements.home]\nbeta = 0": ("placements.home.beta", "0", "above 0"),
    "[placements.home]\nkinds = []": ("placements.home.kinds", "[]", "a list of"),
    "[placements.home]\nkinds = ['car']": ("placements.home.kinds", "['car']", "product"),
    "[placements.home]\nexclude_seen = 'no'": ("placements.home.exclude_seen", "'no'", "true or"),
    "group = = 1": ("not TOML", "line 1"),
}


@pytest.mark.parametrize("toml", REFUSED_IN_FILE)
def test_a_bad_file_is_refused_with_path_value_and_cure(toml: str, write: Write) -> None:
    file = write(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ={})
    for part in (str(file), *REFUSED_IN_FILE[toml]):
        assert part in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "bootstrap",
    [
        "host:99999",
        "host:65536",
        "host:0",
        "host:-1",
        "host:abc",
        "host:9\uff1092",
        "host:",
        "host",
        ":9092",
        "",
        ",",
        "host:9092,",
        "host:9092,other:99999",
        "a b:9092",
        "::1:9092",
    ],
)
def test_brokers_that_cannot_be_are_refused(
    bootstrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", "click", "--user", "u", "--item", "i", "--bootstrap", bootstrap]) == 2
    said = capsys.readouterr().err
    assert f"--bootstrap: is {bootstrap!r}; must be HOST:PORT (1 to 65535)" in said


@pytest.mark.parametrize("bootstrap", ["a:1", "b.c-d:65535,10.0.0.1:9092", "[::1]:29092"])
def test_brokers_that_can_be_are_taken(bootstrap: str) -> None:
    assert load_settings(None, {"bootstrap": bootstrap}, environ={}).bootstrap == bootstrap


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"FRESHET_STATE_RING": "many"}, ("FRESHET_STATE_RING", "'many'", "0 to 255")),
        ({"FRESHET_STATE_RNIG": "5"}, ("FRESHET_STATE_RNIG", "FRESHET_STATE_RING")),
        ({"FRESHET_METRICS_PORT": "-1"}, ("FRESHET_METRICS_PORT", "'-1'", "0 to 65535")),
        ({"FRESHET_BROKER_HEARTBEAT_S": "nan"}, ("FRESHET_BROKER_HEARTBEAT_S", "above 0")),
        ({"FRESHET_CONFIG": "/no/such.toml"}, ("/no/such.toml", "cannot be read", "--config")),
        (
            {"FRESHET_BROKER_HEARTBEAT_S": "60"},
            ("FRESHET_BROKER_HEARTBEAT_S", "60", "session_timeout_s"),
        ),
    ],
)
def test_a_bad_environment_is_refused(environ: Mapping[str, str], parts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    for part in parts:
        assert part in str(caught.value)


def test_a_bad_flag_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"--metrics-port: is 'x'; must be a whole number"):
        load_settings(overrides={"metrics_port": "x"}, environ={})
    with pytest.raises(SettingsError, match="did you mean bootstrap"):
        load_settings(overrides={"bootstraps": "x:1"}, environ={})


def test_files_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "freshet.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(file, environ={})
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, environ={})


@pytest.mark.parametrize(
    "bootstrap", ["kafka:9092", "a.b:1,c-d:2", "[::1]:9092", "10.0.0.1:9092,[fe80::1]:9092"]
)
def test_bootstrap(bootstrap: str) -> None:
    assert load_settings(overrides={"bootstrap": bootstrap}, environ={}).bootstrap == bootstrap


@given(st.integers(0, 255), st.integers(1, 100_000), st.floats(0.01, 5.0))
def test_strings_become_what_the_setting_is(ring: int, events: int, heartbeat_s: float) -> None:
    environ = {
        "FRESHET_STATE_RING": f" {ring} ",
        "FRESHET_BATCH_MAX_EVENTS": str(events),
        "FRESHET_BROKER_HEARTBEAT_S": repr(heartbeat_s),
    }
    settings = load_settings(environ=environ)
    assert settings.state.ring == ring
    assert settings.batch.max_events == events
    assert settings.broker.heartbeat_s == heartbeat_s


def test_every_setting_is_described_and_its_default_loads(write: Write) -> None:
    rows = describe_settings()
    assert len({row.path or row.environment for row in rows}) == len(rows)
    assert all(row.meaning for row in rows)
    paths = {row.path for row in rows}
    assert {"bootstrap", "topics.clicks", "state.ring", "placements.<name>.theta", ""} <= paths
    environ = {
        row.environment: row.default
        for row in rows
        if row.environment and not row.path.startswith("placements")
    }
    for path in NEVER_EMPTY:
        assert environ.pop(variable(path)) == ""
    assert load_settings(environ=environ) == Settings()


def test_given_paths_tell_what_was_spelled_out(write: Write) -> None:
    file = write("group = 'freshet'\n[placements.home]\nk = 5")
    assert given_paths(environ={"FRESHET_BOOTSTRAP": ""}) == set()
    environ = {"FRESHET_BOOTSTRAP": "127.0.0.1:9092", "FRESHET_CONFIG": str(file)}
    assert given_paths(environ=environ) == {"bootstrap", "group"}
    flags = {"state.ring": "5", "provider": None}
    assert given_paths(file, flags, {}) == {"group", "state.ring"}


def test_a_child_finds_the_settings_in_its_environment() -> None:
    environ = environment_with({"batch.in_flight": "1"}, {"PATH": "p", "FRESHET_GROUP": "g"})
    assert environ["PATH"] == "p"
    settings = load_settings(environ=environ)
    assert (settings.batch.in_flight, settings.group) == (1, "g")


def test_only_config_reads_freshets_environment() -> None:
    stream = Path(__file__).parents[2] / "stream"
    # A library may be told something through it.
    reads = re.compile(r"os\.(environ(?!\.setdefault\(\"ORT_)|getenv)")
    found = [path.name for path in stream.rglob("*.py") if reads.search(path.read_text("utf-8"))]
    assert found == ["config.py"]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_settings(environ={}).group = "other"  # type: ignore[misc]


NESTED = """
[placements.home]
k = 5
diversity = 0.5
[placements.home.caps]
category = 2

[[placements.home.pins]]
item = "a"
place = 1
start = 2026-12-01T00:00:00+01:00

[[placements.home.pins]]
item = "b"
place = 3
"""


def test_tables_of_a_placement(write: Write) -> None:
    (home,) = load_settings(write(NESTED), environ={}).placements.values()
    start = datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert home.caps == Caps(category=2)
    assert home.pins == (Pin("a", 1, start), Pin("b", 3))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("k = 5", "k = 0", (":3: placements.home.k: is 0; must be a whole number from 1",)),
        ("category = 2", "category = 0", (":6: placements.home.caps.category: is 0",)),
        (
            "category = 2",
            "categry = 2",
            (":6: placements.home.caps.categry", "did you mean category"),
        ),
        ("place = 3", "place = 0", (":15: placements.home.pins[1].place: is 0", "from 1 to 1000")),
        ("place = 3", "", (":13: placements.home.pins[1]: has no place; add it",)),
        ("+01:00", "", (":11: placements.home.pins[0].start", "with its offset")),
        ("place = 3", "place = 6", (":15: placements.home.pins[1].place: is 6", "k (5)")),
        ("place = 3", "place = 1", (":15: placements.home.pins[1].place: is 1", "pins[0]")),
        (
            "diversity = 0.5",
            "pins = 5",
            (":4: placements.home.pins: is 5", "[[placements.home.pins]]"),
        ),
        ("[placements.home.caps]\ncategory = 2", "caps = 2", (":5: placements.home.caps: is 2",)),
        (
            "k = 5\ndiversity = 0.5",
            "k = 51\nreason_shares = true",
            (":4: placements.home.reason_shares: is true, yet k is 51", "lower k to 50"),
        ),
        ("diversity = 0.5", "caps = {brand = -1}", (":4: placements.home.caps.brand: is -1",)),
    ],
)
def test_what_is_wrong_in_a_table_is_told_with_its_line(
    old: str, new: str, parts: tuple[str, ...], write: Write
) -> None:
    text = NESTED.replace(old, new)
    if "pins = 5" in new or "brand = -1" in new:
        text = text.split("[placements.home.caps]")[0]
    assert text != NESTED
    file = write(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ={})
    for part in (str(file), *parts):
        assert part in str(caught.value)
