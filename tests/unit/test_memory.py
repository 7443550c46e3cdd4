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
# Not getrusage: its peak begins with what the process that forked this one held.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
alone = int(peak.split()[1]) / 1024
print(json.dumps([memory.peak_mib(), alone]))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="this system adds up no processes"
)


def _peaks(what: str) -> tuple[float, float]:
    """Of all together, and of the parent alone."""
    command = [sys.executable, "-c", SCRIPT, str(MIB), what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    together, alone = json.loads(done.stdout)
    return together, alone


def test_processes_count_together() -> None:
    together, alone = _peaks("has its own")
    assert MIB < alone < 1.5 * MIB
    assert 2 * MIB < together < 2.5 * MIB


def test_what_they_share_counts_once() -> None:
    together, alone = _peaks("shares")
    assert together < alone + 0.5 * MIB


def test_no_signal_comes_in_by_the_watcher() -> None:
    with memory.watched():
        (watcher,) = (one for one in threading.enumerate() if one.name == "memory")
        status = Path(f"/proc/self/task/{watcher.native_id}/status").read_text()
        blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
        assert int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not watcher.is_alive()
