"""The recurrence in a worker lists what the offline evaluation says it does, event by event."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.core.policy.placement import LeavesOut
from stream.kafka.broker import BrokerProcess
from tests.support.brokers import start_broker
from tests.support.freshet import Freshet
from tests.support.streamed import Case, case_of, differences, streamed
from tests.training.shops import SMALL


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[BrokerProcess]:
    process = start_broker("embedded", tmp_path)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return case_of(
        "glr", LeavesOut(seen=False, bought=True), {**SMALL, "batch": 1024, "epochs": 2}, tmp_path
    )


def test_published_lists_of_a_recurrence_are_those_of_the_evaluation(
    case: Case, embedded: BrokerProcess, unique: str
) -> None:
    assert case.bundle.manifest.recent > 0
    published = streamed(Freshet(embedded.bootstrap, unique), case)
    assert differences(case.expected, published) == []
