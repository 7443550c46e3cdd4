"""A test that measures time has the machine to itself, and the others wait for it, not for ever."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.quiet import Hall

_WAIT_S = 20.0


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hall]:
    monkeypatch.delenv("TESTS_HALL", raising=False)
    hall = Hall()
    hall.open()
    yield hall
    hall.close()


def door_is_held(hall: Hall) -> bool:
    assert hall._folder is not None
    with (hall._folder / "door").open("w") as door:
        try:
            fcntl.flock(door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_many_are_inside_together(hall: Hall) -> None:
    with hall.among_others(), hall.among_others():
        pass


def test_one_alone_waits_for_those_inside_and_is_let_in_before_later_ones(hall: Hall) -> None:
    order: list[str] = []
    out, waits = threading.Event(), threading.Event()

    def first() -> None:
        with hall.among_others():
            waits.set()
            assert out.wait(_WAIT_S)
            order.append("first")

    def alone() -> None:
        with hall.alone():
            order.append("alone")
            time.sleep(0.05)
            order.append("alone still")

    def later() -> None:
        with hall.among_others():
            order.append("later")

    threads = [threading.Thread(target=run, daemon=True) for run in (first, alone, later)]
    threads[0].start()
    assert waits.wait(_WAIT_S)
    threads[1].start()
    deadline = time.monotonic() + _WAIT_S
    while not door_is_held(hall):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    threads[2].start()
    time.sleep(0.1)
    assert order == []
    out.set()
    for thread in threads:
        thread.join(_WAIT_S)
    assert order == ["first", "alone", "alone still", "later"]


def test_a_process_started_by_the_first_one_finds_its_hall(hall: Hall) -> None:
    second = Hall()
    second.open()
    assert second._folder == hall._folder
    second.close()
    with hall.alone():  # it is still there
        pass
