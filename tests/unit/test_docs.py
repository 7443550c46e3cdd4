"""Every setting, metric, command and topic stands in the README, as the code has it."""

from __future__ import annotations

import re
import tomllib

import msgspec
import pytest

from export.cli import main as export_main
from stream.cli import COMMANDS
from stream.config import Topics
from stream.contracts import Cause, Click, Item, ListedItem, Purchase, Recommendation
from tests.support.docs import README, TABLES, with_tables

TEXT = README.read_text(encoding="utf-8")
ROOT = README.parent


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_as_the_code_has_it(name: str) -> None:
    assert TABLES[name]() in TEXT, "run `python -m tests.support.docs`"


def test_the_tables_are_in_place() -> None:
    assert with_tables(TEXT) == TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert f"`freshet {command}" in TEXT


def test_the_export_commands_are_documented() -> None:
    assert export_main is not None
    assert "`freshet-export train" in TEXT


def test_every_topic_is_documented() -> None:
    names = [value for value in msgspec.structs.astuple(Topics()) if isinstance(value, str)]
    assert len(names) == 9
    for name in names:
        assert f"`{name}`" in TEXT


@pytest.mark.parametrize("record", [Click, Purchase, Item, Recommendation, Cause, ListedItem])
def test_every_field_is_documented(record: type[msgspec.Struct]) -> None:
    for field in record.__struct_fields__:
        assert f"`{field}`" in TEXT, field


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    reasons = TEXT[TEXT.index("## Dependencies") :]
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
        "## Dependencies",
    ]
    places = [TEXT.index(section) for section in wanted]
    assert places == sorted(places)
