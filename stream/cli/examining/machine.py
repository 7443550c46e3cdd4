"""Versions and machine. In: nothing but where this runs. Out: findings.

Reads /proc and cgroups where there are such, and asks nvidia-smi for GPUs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

from stream.cli.examining.finding import Finding, size

_GPU_QUERY: Final = "name,driver_version,memory.total"
_CGROUP: Final = Path("/sys/fs/cgroup")


def examine_machine() -> Iterator[Finding]:
    """What a supporter asks first."""
    yield versions()
    yield _machine()


def versions() -> Finding:
    """Freshet, Python and the packages that Freshet asks for, each with its version."""
    try:
        own = metadata.version("freshet")
        wanted = metadata.requires("freshet") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        own, wanted = "(not installed)", []
    packages: dict[str, str | None] = {}
    wrong = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue  # of an extra, or of another platform
        name = requirement.name
        found = packages[name] = _version(name)
        if found is None:
            wrong.append(f"{name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{name} is {found} and must be {requirement.specifier}")
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    facts = {
        "freshet": own,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "system": system,
        "packages": packages,
    }
    told = (
        f"Freshet {own}, {platform.python_implementation()} {platform.python_version()}, {system}"
    )
    listed = [f"{name} {version}" for name, version in packages.items()]
    more = tuple(", ".join(listed[at : at + 4]) for at in range(0, len(listed), 4))
    if wrong:
        cure = "install what the lock names: pip install --no-deps -r requirements.lock"
        return Finding("versions", "fault", "; ".join(wrong), cure, (told, *more), facts)
    return Finding("versions", "ok", told, more=more, facts=facts)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory()
    gpus = _gpus()
    facts: dict[str, Any] = {
        "cpu": _first(Path("/proc/cpuinfo"), r"model name\s*: (.+)") or platform.processor(),
        "cpus": os.cpu_count(),
        "usable_cpus": usable,
        "cpu_limit": _cpu_limit(),
        "memory_bytes": memory.get("MemTotal"),
        "available_bytes": memory.get("MemAvailable"),
        "memory_limit_bytes": _memory_limit(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "gpus": gpus,
    }
    told = [f"{usable} CPUs ({facts['cpu'] or 'of unknown kind'})"]
    if facts["cpu_limit"] is not None:
        told.append(f"limited to {facts['cpu_limit']:g}")
    if memory:
        total, free = facts["memory_bytes"] or 0, facts["available_bytes"] or 0
        told.append(f"{size(free)} of {size(total)} memory available")
    if facts["memory_limit_bytes"] is not None:
        told.append(f"limited to {size(facts['memory_limit_bytes'])}")
    told.append(f"GPU {'; '.join(gpus)}" if gpus else "no NVIDIA GPU that nvidia-smi tells of")
    return Finding("machine", "ok", ", ".join(told), facts=facts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first(path: Path, pattern: str) -> str | None:
    found = re.search(pattern, _read(path))
    return found[1].strip() if found else None


def _memory() -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", _read(Path("/proc/meminfo")), re.MULTILINE)
    return {name: int(kib) * 1024 for name, kib in lines}


def _memory_limit() -> int | None:
    told = _read(_CGROUP / "memory.max").strip()
    return int(told) if told.isdigit() else None


def _cpu_limit() -> float | None:
    """CPUs that a container may take, of the cgroup's quota."""
    quota, _, period = _read(_CGROUP / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else []
