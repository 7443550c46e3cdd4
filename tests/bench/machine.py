"""What the machine was doing meanwhile: cores, steal, and a process's CPU seconds and peak memory.

Reads /proc, so Linux alone. Knows nothing of the benchmark's jobs.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuTicks(NamedTuple):
    """Ticks of all cores together since boot."""

    total: int
    idle: int
    steal: int


def cpu_ticks() -> CpuTicks:
    """Read the first line of /proc/stat."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return CpuTicks(sum(fields), fields[3] + fields[4], fields[7])


def describe_machine() -> str:
    """One line: processor, cores, memory, kernel."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}"


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process and its living descendants."""
    ticks = 0
    for member in _descendants(pid):
        try:
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def peak_rss_mib(pid: int) -> float:
    """Peak resident memory of a process and its living descendants, in MiB."""
    kib = 0
    for member in _descendants(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                kib += int(line.split()[1])
    return kib / 1024


class Usage:
    """The machine, this process and some others at one moment, to compare with an earlier one."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.ticks = cpu_ticks()
        self.cpu_s = [cpu_seconds(pid) for pid in pids]
        self._own_s = time.process_time()

    def steal_percent_since(self, before: Usage) -> float:
        """Share of all cores' time that the host took away meanwhile, in percent."""
        passed = max(1, self.ticks.total - before.ticks.total)
        return 100.0 * (self.ticks.steal - before.ticks.steal) / passed

    def others_percent_since(self, before: Usage) -> float:
        """Share of all cores' time that other processes took meanwhile, in percent."""
        passed = max(1, self.ticks.total - before.ticks.total)
        idle = self.ticks.idle - before.ticks.idle + self.ticks.steal - before.ticks.steal
        ours_s = sum(self.cpu_s) - sum(before.cpu_s) + self._own_s - before._own_s
        return max(0.0, 100.0 * (passed - idle - ours_s * _TICKS_PER_S) / passed)
