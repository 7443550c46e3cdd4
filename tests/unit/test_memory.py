"""What a command's processes take together is told, and what they share is counted once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export import memory
from tests.support.kafka import ROOT

MIB = 160  # of each process
SCRIPT = """
import json, os, subprocess, sys, time
from export import memory

memory.EVERY_S = 0.02
mib = int(sys.argv[1])
with memory.watched():
    own = bytearray(b"x") * (mib << 20)
    if sys.argv[2] == "shares":
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.read(read, 1)
            os._exit(0)
        time.sleep(0.5)
        os.write(write, b"x")
        os.waitpid(child, 0)
    else:
        code = f"own = bytearray(b'x') * ({mib} << 20); print(flush=True); input()"
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        child.stdout.readline()
        time.sleep(0.5)
        child.communicate(b"\\n")
print(json.dumps([memory.peak_mib(), memory._Together.peak_kib / 1024]))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system adds up no processes"
)


def _together(what: str) -> float:
    """What was seen of all processes together, MiB."""
    command = [sys.executable, "-c", SCRIPT, str(MIB), what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told, together = json.loads(done.stdout)
    assert told >= together  # what a process inherits of the size of its parent may be more
    return float(together)


def test_processes_count_together() -> None:
    assert 2 * MIB < _together("has its own") < 2.5 * MIB


def test_what_they_share_counts_once() -> None:
    assert MIB < _together("shares") < 1.5 * MIB


def test_no_signal_comes_in_by_the_watcher() -> None:
    with memory.watched():
        (watcher,) = (one for one in threading.enumerate() if one.name == "memory")
        status = Path(f"/proc/self/task/{watcher.native_id}/status").read_text()
        blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
        assert int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not watcher.is_alive()
