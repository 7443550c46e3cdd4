"""Every setting, metric, command and topic stands in the README, as the code has it."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from export import cli
from export.commands import parser
from export.models.glr import parameters as glr_parameters
from stream.checks import MIN_SECRET_BYTES
from stream.cli import COMMANDS
from stream.config import State, Topics
from stream.contracts import (
    REASONS,
    Answer,
    AnsweredItem,
    Because,
    Cause,
    Click,
    Erasure,
    Interaction,
    Item,
    ListedItem,
    Purchase,
    Reason,
    Receipt,
    Recommendation,
    Request,
    UserState,
)
from stream.contracts.trending import Trending, TrendingItem
from stream.core.wire import Layout
from stream.errors import EXIT_FATAL, EXIT_INTERRUPTED
from tests.support.docs import METRICS, README, RECORDS, SETTINGS, TABLES, with_tables
from tests.support.docs import PAGES as PLACES

START = README.read_text(encoding="utf-8")
# What a user looks up.
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in (README, RECORDS, SETTINGS, METRICS))
ROOT = README.parent
CHAOS = "tests/chaos/README.md"
ROOMS = ("stream", "export", "tests", "deploy")
SECURITY = ROOT / "SECURITY.md"
SECURE = ROOT / "deploy" / "SECURE.md"
PAGES = [
    README,
    SECURITY,
    ROOT / "CHANGELOG.md",
    *(p for room in ROOMS for p in (ROOT / room).rglob("*.md")),
]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_as_the_code_has_it(name: str) -> None:
    table = f"<!-- {name} -->\n{TABLES[name]()}\n<!-- end -->"
    assert table in PLACES[name].read_text("utf-8"), "run `python -m tests.support.docs`"


@pytest.mark.parametrize(("events", "more"), [(glr_parameters.LONG, False), (1, True)])
def test_glr_stays_within_a_kib_with_the_told_parameters(events: int, more: bool) -> None:
    told = TEXT[TEXT.index("A state is meant to take 1 KiB at most,") :].split("\n\n")[0]
    given = dict(re.findall(r"(\w+)=(\w+)", told))
    assert given.pop("mean") == "false"  # of visits alone: histories have none
    parsed = {name: int(value) for name, value in given.items()} | ({"mean": False} if more else {})
    p = glr_parameters.Parameters.chosen(events, **parsed)
    layout = Layout(p.members * p.member_size, "int8", State().ring, model=1)
    assert layout.max_bytes == 974
    assert f"{layout.max_bytes:,} bytes as int8" in told


def test_tables_are_written_where_they_stand() -> None:
    with pytest.raises(ValueError, match="no place for the table of settings"):
        with_tables("# Nothing")
    empty = "".join(f"<!-- {name} -->\nold\n<!-- end -->\n" for name in TABLES)
    assert all(make() in with_tables(empty) for make in TABLES.values())
    assert "\nold\n" not in with_tables(empty)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert f"`freshet {command}" in TEXT


def test_the_export_commands_are_documented() -> None:
    with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        cli.main(["--help"])
    commands = re.findall(r"^    (\w+) ", shown.getvalue(), re.MULTILINE)
    assert "train" in commands
    assert f"`freshet-export {'|'.join(commands)}`".replace("|", "\\|") in TEXT


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Long options of a parser and of its commands."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


def test_every_option_of_training_is_documented() -> None:
    pages = [README, *(ROOT / "export").rglob("README.md")]
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(p.read_text() for p in pages)))
    options = set(options_of(parser())) - {"--help"}
    assert {"--warm", "--k", "--baseline-format"} < options
    assert options - told == set()


def test_every_reason_of_a_dead_letter_is_documented() -> None:
    start = TEXT.index("`freshet-reason` is one of")
    listed = TEXT[start : TEXT.index("A recommendation holds", start)]
    words = set(re.findall(r"`([a-z_0-9]+)`", listed)) - {"user_id", "item_id"}
    assert words == REASONS


def test_the_exit_codes_are_documented() -> None:
    assert f" {EXIT_INTERRUPTED}\ninterrupted" in TEXT
    assert f" {EXIT_FATAL}: it ended itself" in TEXT


def test_the_versions_are_those_of_the_build() -> None:
    pom = (ROOT / "deploy" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    found = re.search(r"<kafka.version>(.+)</kafka.version>", pom)
    assert found is not None
    assert f"Apache Kafka {found[1]} " in TEXT
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert "CPython 3.11, 3.12 and 3.13" in TEXT


def test_what_lists_hold_today_is_documented() -> None:
    item = ListedItem("i", 0.5, 1, Reason("popular"))
    assert (item.explored, item.propensity) == (False, 1.0)
    assert "`explored` and `propensity` are `false` and `1.0`" in TEXT
    assert "`popular`" in TEXT


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_section_is_empty(page: Path) -> None:
    text = re.sub(r"```.*?```", "code", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    parts = re.split(r"^(#{1,6}) (.+)$", text, flags=re.MULTILINE)[1:]
    sections = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
    followers = [*(level for level, _, _ in sections[1:]), "#"]
    for (level, title, body), following in zip(sections, followers, strict=True):
        words = re.findall(r"\w+", body)
        placeholder = len(words) == 1 and words[0].isupper()
        holds_sections = not words and len(following) > len(level)
        assert (words and not placeholder) or holds_sections, f"{page.name}: {title} is empty"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_figure_is_left_open(page: Path) -> None:
    assert not re.search(r"@\w+@", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page",
    sorted(page for page in PAGES if page.name == "README.md" and page.parent != ROOT),
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_the_files_and_folders_of_a_table_are_there(page: Path) -> None:
    rows = re.findall(r"^\| (`.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert [name for name in named if not (page.parent / name).exists()] == []


def test_every_topic_is_documented() -> None:
    names = [value for value in msgspec.structs.astuple(Topics()) if isinstance(value, str)]
    assert len(names) == 10
    threats = SECURITY.read_text(encoding="utf-8")
    for name in names:
        assert f"`{name}`" in TEXT
        assert f"`{name}`" in threats, "who may write it, and what can they do?"


@pytest.mark.parametrize("page", [README, SECURITY, SECURE], ids=lambda page: page.name)
def test_how_long_a_secret_must_be_is_told_with_how_to_make_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert f" {MIN_SECRET_BYTES} bytes" in text
    assert f"openssl rand -hex {MIN_SECRET_BYTES}" in text


@pytest.mark.parametrize(
    "record",
    [
        *(Click, Purchase, Item, Recommendation, Cause, ListedItem, Erasure, Receipt),
        *(Request, Answer, AnsweredItem, Because, Interaction, UserState),
        *(Trending, TrendingItem),
    ],
)
def test_every_field_is_documented(record: type[msgspec.Struct]) -> None:
    for field in record.__struct_fields__:
        assert f"`{field}`" in TEXT, field


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    reasons = START[START.index("## Dependencies") :]
    for requirement in (name for group in groups for name in group):
        name = re.split(r"[\[=<>!~; ]", requirement)[0]
        assert name == "freshet" or name in reasons, name


def test_the_sections_come_in_order() -> None:
    wanted = [
        "## Two commands",
        "## The flow",
        "## Producing and subscribing",
        "## Topics",
        "## Settings",
        "## Metrics",
        "## Sizing",
        "## Guarantees and their limits",
        "## Forgetting",
        "## What trends",
        "## Dependencies",
    ]
    places = [START.index(section) for section in wanted]
    assert places == sorted(places)


def test_pages_tell_of_the_same_storm() -> None:
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("tests/README.md", CHAOS)]
    events = [re.findall(r"^\| events, users \| ([\d,]+, [\d,]+) ", page, re.M) for page in pages]
    bad = [re.findall(r"^\| bad records.*?\| ([\d,]+)[,;] ", page, re.M) for page in pages]
    assert events[0] == events[1] != []
    assert bad[0] == bad[1] != []
