"""`make soak` in seconds: it measures the peak, runs, and tells at Ctrl-C what it has so far."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from stream.errors import EXIT_INTERRUPTED
from stream.kafka.broker import BrokerProcess
from tests.soak.report import Soak
from tests.support.kafka import ROOT

pytestmark = [
    pytest.mark.kafka_only,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

LINES = 6
BEGUN_S = 90.0
ENDED_S = 90.0


def test_a_soak_that_is_interrupted_tells_what_it_found(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    out, log = tmp_path / "soak.json", tmp_path / "soak.log"
    options = ["--bootstrap", broker.bootstrap, "--out", str(out), "--users", "200"]
    options += ["--peak-seconds", "1", "--share", "0.2", "--every", "0.5", "--warm-up", "1"]
    with log.open("w") as file:
        soak = subprocess.Popen(
            [sys.executable, "-m", "tests.soak", *options, "--minutes", "60"],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + BEGUN_S
        while log.read_text().count("\n    0.") < LINES:
            assert soak.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        soak.send_signal(signal.SIGINT)
        assert soak.wait(ENDED_S) == EXIT_INTERRUPTED, log.read_text()
    finally:
        soak.kill()
        soak.wait()
    said = log.read_text()
    assert "Traceback" not in said
    head, *lines = said[said.rindex(" minute ") :].splitlines()
    assert "RSS MiB" in head
    found = msgspec.json.decode(out.read_bytes(), type=Soak)
    assert found.interrupted
    assert LINES <= len(found.samples) == sum(line.startswith("    0.") for line in lines)
    assert found.rate_events_s == pytest.approx(0.2 * found.peak_events_s)
    assert found.rate_events_s > 0
    last = found.samples[-1]
    assert last.users == 200
    assert last.rss_mib > 50
    assert last.p50_ms > 0
    assert last.lists_s > 0
    assert last.items > 1000
    assert found.verdict in said
