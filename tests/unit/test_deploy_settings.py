"""`deploy/`: each setting, variable, topic and right that is named there is Freshet's own."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from stream.config import load_settings
from stream.errors import SettingsError
from stream.kafka.specs import source_names, wanted_topics
from stream.settings import CONFIG_VARIABLE, FIELDS, variable
from tests.support.deployed import COMPOSE, DEPLOY, KUBERNETES
from tests.support.secured import PAGE


@pytest.mark.parametrize(
    "file",
    sorted(path for path in DEPLOY.rglob("*") if path.is_file()),
    ids=lambda path: str(path.relative_to(DEPLOY)),
)
def test_every_variable_that_is_named_exists(file: Path) -> None:
    known = {CONFIG_VARIABLE, *map(variable, FIELDS)}
    named = re.findall(r"\bFRESHET_[A-Z0-9_]+\b", file.read_text(encoding="utf-8"))
    assert set(named) - known == set()


def test_every_setting_that_is_named_exists() -> None:
    sections = {path.split(".")[0] for path in FIELDS if "." in path}
    for file in (path for path in DEPLOY.rglob("*") if path.is_file()):
        if "kafka" in file.parts:
            continue  # the broker's own settings look alike
        named = re.findall(
            rf"(?<![\w./-])((?:{'|'.join(sections)})\.[a-z]\w*)\b", file.read_text("utf-8")
        )
        named = [name for name in named if not re.search(r"\.(sh|py|md|pem|toml|ya?ml)$", name)]
        assert set(named) - set(FIELDS) == set(), file


@pytest.mark.parametrize(
    "file", sorted(DEPLOY.rglob("freshet.toml")), ids=lambda path: path.parent.name
)
def test_a_settings_file_is_one(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.bundle is None or settings.bundle.startswith("/var/lib/")


def test_a_settings_file_with_a_slip_is_none(tmp_path: Path) -> None:
    text = (COMPOSE / "freshet.toml").read_text(encoding="utf-8")
    (tmp_path / "freshet.toml").write_text(text.replace("partitions", "partition"))
    with pytest.raises(SettingsError, match=r"topics\.partition"):
        load_settings(tmp_path / "freshet.toml", environ={})


def calls(file: Path, name: str) -> list[list[str]]:
    """The arguments of each call of a shell function."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("name", ["topics.sh", "acls.sh"])
def test_a_script_is_shell(name: str) -> None:
    subprocess.run(["sh", "-n", str(DEPLOY / "kafka" / name)], check=True)


def test_the_example_topics_are_those_that_a_worker_needs() -> None:
    file = DEPLOY / "kafka" / "topics.sh"
    settings = load_settings(KUBERNETES / "base" / "freshet.toml", environ={})
    made = {}
    for name, *options in calls(file, "topic"):
        assert options[::2] == ["--config"] * (len(options) // 2)
        made[name] = dict(option.split("=", 1) for option in options[1::2])
    assert made == {spec.name: spec.config for spec in wanted_topics(settings)}
    assert set(source_names(settings)) < set(made)
    topics = settings.topics
    shape = f"--partitions {topics.partitions} --replication-factor {topics.replication} "
    assert shape in file.read_text(encoding="utf-8")


def test_the_example_rights_are_those_of_the_page() -> None:
    page = re.findall(r"^ *acl (User:.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert calls(DEPLOY / "kafka" / "acls.sh", "acl") == [shlex.split(line) for line in page]
