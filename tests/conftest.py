"""Fixtures that every test may use. See README.md in this folder.

broker, own_broker : a real broker, once per kind that `--broker` names
unique : a suffix for topics and groups, so that tests share a broker and nothing else

Whole folders of tests are shared out over several processes, each with brokers of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.kafka.broker import BrokerProcess
from tests.support.brokers import KINDS, must_run, remove_data, start_broker, why_missing
from tests.support.quiet import Hall

_missing: dict[str, str | None] = {}
_hall = Hall()


def pytest_configure() -> None:
    _hall.open()


def pytest_unconfigure() -> None:
    _hall.close()


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


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process more than there are cores, since most tests wait for a broker.

    Single files run in this process, and so does what is to be seen (-s).
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # that is the library's to read
    whole = any(Path(str(name).split("::", maxsplit=1)[0]).is_dir() for name in config.args)
    if not whole or config.option.capture == "no" or config.option.collectonly:
        return 0
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let the tests marked `alone` wait until no other runs; outside of any test's time limit."""
    with _hall.alone() if item.get_closest_marker("alone") else _hall.among_others():
        return (yield)  # type: ignore[return-value]


def _turn(item: pytest.Item) -> tuple[int, int, bool]:
    """Long tests first, so that none is left at the end; by broker; the many small ones last.

    What runs alone comes when no long test is left to wait for.
    """
    kind = _kind(item)
    return (
        0 if item.get_closest_marker("long") else 1,
        len(KINDS) if kind is None else KINDS.index(kind),
        item.get_closest_marker("alone") is not None,
    )


@pytest.hookimpl(trylast=True)  # after pytest's own order by session fixtures
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the tests of real Kafka alone out of the runs on other brokers, and say how many."""

    def elsewhere(item: pytest.Item) -> bool:
        return item.get_closest_marker("kafka_only") is not None and _kind(item) not in (
            None,
            "kafka",
        )

    config.hook.pytest_deselected(items=[item for item in items if elsewhere(item)])
    items[:] = sorted((item for item in items if not elsewhere(item)), key=_turn)


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
