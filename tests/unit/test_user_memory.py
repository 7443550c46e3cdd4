"""A user takes no more memory than the bound that `make memory` holds for a million."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.state import BESIDES_BYTES, MOST_BYTES_A_USER, is_too_much
from tests.support.kafka import ROOT

# In each partition 1/32 of those of `make memory`, so that the index of keys is as full. A large
# page is as much as 2,000 of them take: without these (prctl's PR_SET_THP_DISABLE).
USERS = 1_000_000 // 32
SCRIPT = f"""
import ctypes, sys
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)
from tests.bench import state
sys.exit(state.main(["--users", "{USERS}"]))
"""


def test_more_than_the_bound_is_too_much() -> None:
    assert not is_too_much(1000 * MOST_BYTES_A_USER + BESIDES_BYTES, 1000)
    assert is_too_much(1000 * MOST_BYTES_A_USER + BESIDES_BYTES + 1, 1000)


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="this system does not tell resident memory"
)
def test_a_user_takes_no_more_memory_than_is_allowed() -> None:
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"([\d,]+) bytes a user of at most {MOST_BYTES_A_USER:,}\n", done.stdout)
    assert found is not None, done.stdout
    assert int(found[1].replace(",", "")) > 512, "states were really there"
