"""A worker that cannot stop in order says so and ends."""

from __future__ import annotations

import logging
import os

import pytest

from stream.errors import EXIT_INTERRUPTED
from stream.kafka.transport import NOT_STOPPED, STOP_WITHIN_S, BatchWorker


def test_a_worker_that_does_not_stop_in_order_says_so_and_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fleet of the chaos tests tells by these words such an end from a wrong one."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    BatchWorker._give_up(BatchWorker.__new__(BatchWorker))
    assert codes == [EXIT_INTERRUPTED]
    assert caplog.messages == [f"{NOT_STOPPED} {STOP_WITHIN_S} s: is the broker gone? Ending"]
