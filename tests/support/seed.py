"""The seed of traffic, faults and tests: the environment's SEED, or always the same."""

from __future__ import annotations

import os

SEED = int(os.environ.get("SEED", "20261122"))
