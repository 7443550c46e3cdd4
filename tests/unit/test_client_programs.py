"""The producers of stream/README.md: there for each client, and told apart from what is missing."""

from __future__ import annotations

import shutil

import pytest

from tests.support import clients


def test_the_page_has_a_program_of_each_client() -> None:
    programs = clients.programs()
    assert programs.keys() == clients.CLIENTS.keys()
    assert 'partitioner": "murmur2_random"' in programs["confluent-kafka"]
    assert "Partitioners.DefaultPartitioner" in programs["node"]


@pytest.mark.parametrize(
    ("name", "program", "cure"),
    [("node", "npm", "apt install nodejs npm"), ("java", "javac", "default-jdk-headless")],
)
def test_a_missing_tool_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, program: str, cure: str
) -> None:
    found = shutil.which

    def which(asked: str) -> str | None:
        return None if asked == program else found(asked) or f"/usr/bin/{asked}"

    monkeypatch.setattr(shutil, "which", which)
    assert cure in str(clients.why_missing(name))


def test_a_client_must_run_where_its_tool_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_NODE", raising=False)
    assert not clients.must_run("node")
    monkeypatch.setenv("REQUIRE_NODE", "1")
    assert clients.must_run("node")
    assert not clients.must_run("kafka-python")
