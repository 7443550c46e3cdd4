"""One thread of PyTorch a test: pytest-xdist already runs a test on every core, and more threads
than cores wait for each other in loops that take the cores from those they wait for."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # also of what tests start
