"""The take-over protocol as a model: right as it stands, wrong without any one of its rules."""

from __future__ import annotations

import os

import pytest

from tests.model.spin import BROKEN, FENCING, INTRUDER, MODEL, search, why_missing


@pytest.fixture(scope="module", autouse=True)
def _spin() -> None:
    """Skips without spin; REQUIRE_SPIN=1 makes that a failure."""
    if reason := why_missing():
        if os.environ.get("REQUIRE_SPIN", "") not in ("", "0"):
            pytest.fail(f"spin is required here: {reason}", pytrace=False)
        pytest.skip(reason)


def test_nothing_is_lost_doubled_or_overwritten_and_nobody_is_stuck() -> None:
    found = search()
    assert found.error is None
    assert found.complete
    assert found.states > 500_000
    assert found.unreached == []  # every line of the model was part of it


@pytest.mark.parametrize("rule", BROKEN)
def test_without_a_rule_the_search_finds_the_harm(rule: str) -> None:
    found = search(rule, "HARM_ALONE")
    assert found.error is not None
    assert BROKEN[rule] in found.error


@pytest.mark.parametrize("rule", FENCING)
def test_without_a_rule_of_the_fence_the_search_names_the_intruder(rule: str) -> None:
    found = search(rule)
    assert found.error is not None
    assert INTRUDER in found.error


def test_the_rules_are_those_of_the_model() -> None:
    text = MODEL.read_text(encoding="utf-8")
    assert all(f" *   {rule} " in text and f"def {rule}\n" in text for rule in BROKEN)
