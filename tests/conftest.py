"""Fixtures that every test may use. See README.md in this folder.

broker, own_broker : a real broker, once per kind that `--broker` names
unique : a suffix for topics and groups, so that tests share a broker and nothing else
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.support.brokers import KINDS, must_run, remove_data, start_broker, why_missing

_missing: dict[str, str | None] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        action="append",
        choices=KINDS,
        help="run the tests that need a broker on this kind (repeatable; default: each kind)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker_kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("broker") or KINDS
        metafunc.parametrize("broker_kind", kinds, scope="session", indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the tests of real Kafka alone out of the runs on other brokers, and say how many."""

    def elsewhere(item: pytest.Item) -> bool:
        return item.get_closest_marker("kafka_only") is not None and _kind(item) not in (
            None,
            "kafka",
        )

    config.hook.pytest_deselected(items=[item for item in items if elsewhere(item)])
    items[:] = [item for item in items if not elsewhere(item)]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for the brokers before the first test: fetching Kafka is not a test's time."""
    if not session.config.option.collectonly:
        kinds = {_kind(item) for item in session.items}
        _missing.update({kind: why_missing(kind) for kind in kinds if kind is not None})


def _kind(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    kind: str | None = callspec.params.get("broker_kind") if callspec else None
    return kind


@pytest.fixture(scope="session")
def broker_kind(request: pytest.FixtureRequest) -> str:
    """`kafka` or `embedded`. Skips where it cannot run; REQUIRE_KAFKA=1 makes that a failure."""
    kind: str = request.param
    if reason := _missing[kind]:
        if must_run(kind):
            pytest.fail(f"{kind} is required here: {reason}", pytrace=False)
        pytest.skip(f"no {kind} broker: {reason}")
    return kind


def _run(kind: str, folder: Path) -> Iterator[BrokerProcess]:
    process = start_broker(kind, folder)
    try:
        yield process
    finally:
        process.stop()
        remove_data(folder)


@pytest.fixture(scope="session")
def broker(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """A broker that all tests share: name topics and groups by `unique`, leave it running."""
    yield from _run(broker_kind, tmp_path_factory.mktemp(broker_kind))


@pytest.fixture
def own_broker(broker_kind: str, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A broker for this test alone, to be stopped, killed and started again at will."""
    yield from _run(broker_kind, tmp_path)


@pytest.fixture
def unique() -> str:
    """Eight characters that no other test has."""
    return uuid.uuid4().hex[:8]
