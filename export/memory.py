"""How much memory a command took."""

from __future__ import annotations

import resource
import sys


def peak_mib() -> float:
    """The most memory so far, in MiB: of this process, and of the largest one that it has ended."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose)
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, else KiB
