"""`freshet worker` whose clock is set while it runs: the file CLOCK_STEP says by how many seconds.

Only the wall clock steps: monotonic time goes on, as it does on a real machine.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

_real = time.time
_step_s = 0.0


def _follow(file: Path) -> None:
    global _step_s  # noqa: PLW0603
    while True:
        if file.exists():
            _step_s = float(file.read_text() or _step_s)
        time.sleep(0.05)


if __name__ == "__main__":
    threading.Thread(target=_follow, args=(Path(os.environ["CLOCK_STEP"]),), daemon=True).start()
    time.time = lambda: _real() + _step_s
    time.time_ns = lambda: int((_real() + _step_s) * 1e9)

    from stream.cli import main

    sys.exit(main())
