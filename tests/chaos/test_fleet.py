"""Which ends of a worker a supervisor answers by another one, and which are wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import fleet
from tests.chaos.fleet import FRESHET, Fleet


class Ended:
    """A worker that has ended by itself."""

    name = "worker"
    alive = False
    code = 1

    def __init__(self, engine: Any, config: Path, log: Path) -> None:
        self.engine = engine
        self.expected = False
        self.process = SimpleNamespace(wait=lambda: self.code)

    def last_words(self) -> str:
        return "topic lists is missing: make it"


@pytest.mark.parametrize(
    ("code", "refused", "right"),
    [
        (70, (), True),
        (1, (), False),
        (1, ("max.message.bytes", "is missing"), True),
        (1, ("max.message.bytes",), False),
        (2, ("is missing",), False),
    ],
)
def test_a_start_is_refused_for_the_reason_of_the_fault_alone(
    code: int,
    refused: tuple[str, ...],
    right: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Ended, "code", code)
    monkeypatch.setattr(fleet, "Worker", Ended)
    workers = Fleet(tmp_path / "freshet.toml", tmp_path, FRESHET)
    workers.refused = refused
    workers.start()
    workers.tend()
    assert (not workers.wrong) == right
    assert len(workers.workers) == 1, "another one is started in its place"
    assert [end[1] for end in workers.ends] == [code]
