"""A library's repeated complaints are told now and then, with how many there were."""

from __future__ import annotations

import logging

import pytest

from stream.kafka.repeats import hold_back_repeats


def test_the_same_complaint_passes_once_in_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr("stream.kafka.repeats.time.monotonic", lambda: now[0])
    theirs, other = logging.getLogger("noisy.client"), logging.getLogger("noisy.conn")
    ours = logging.getLogger("noisyless")
    hold_back_repeats("noisy")
    hold_back_repeats("noisy")  # as of a second app in this process
    assert len(theirs.filters) == 1
    with caplog.at_level(logging.DEBUG):
        for second in range(12):
            now[0] = 100.0 + second
            theirs.error("cannot reach %s: %s", second, "100% gone")
            theirs.error("another")
            theirs.debug("a detail")
            other.error("cannot reach %s: %s", second, "gone")
            ours.error("cannot reach %s", second)
    told = [message for message in caplog.messages if message != "a detail"]
    assert [message for message in told if not message.startswith("cannot reach")] == [
        "another",
        "another (9 more like it held back)",
    ]
    assert told.count("cannot reach 0: 100% gone") == 1
    assert told.count("cannot reach 10: 100% gone (9 more like it held back)") == 1
    assert told.count("cannot reach 0: gone") == 1
    assert caplog.messages.count("a detail") == 12
    assert sum(record.name == "noisyless" for record in caplog.records) == 12
