"""What a training was: data, settings, code, metrics, time, memory. In: a run. Out: `run.json`.

The card lies beside the bundle's own files and is no part of it: time and memory differ between two
runs that give the same bundle, and the bundle's id must not. The engine does not open it.

Must not know: how models work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.data.columns import AnyColumn
from export.data.dataset import COLUMNS, Log
from export.memory import peak_mib

CARD: Final = "run.json"
MOST_BYTES: Final = 4 << 20  # of a card that is read
PACKAGES: Final = ("freshet", "numpy", "scipy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch")
GIT_S: Final = 10.0
_BLOCK = 1 << 20  # numbers hashed at once


class Clock:
    """Runs from its making. `code`: the version that is loaded, before the run writes anything."""

    def __init__(self) -> None:
        self.started, self.code = datetime.now(UTC), code_version()
        self._begun = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._begun


def card(
    clock: Clock,
    log: Log,
    data: str,
    options: argparse.Namespace,
    bundle_id: str,
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """The card of a run that ends now, ready for JSON. `data` is the log's `data_sha256`."""
    return {
        "bundle_id": bundle_id,
        "started": clock.started.isoformat(timespec="seconds"),
        "wall_s": round(clock.seconds(), 3),
        "peak_memory_mib": round(peak_mib(), 1),
        "data": {
            "sha256": data,
            "events": len(log),
            "users": len(np.unique(log.user)),
            "items": len(np.unique(log.item)),
            "begins": log.begins,
            "ends": log.ends,
        },
        "settings": settings(options),
        "code": clock.code,
        "machine": {"system": platform.platform(), "processors": os.cpu_count()},
        "metrics": dict(metrics),
    }


def write_card(card: Mapping[str, Any], file: Path) -> None:
    """Write a card, whole or not at all."""
    new = file.with_name(file.name + ".new")
    new.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(file)


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card in a bundle folder; None where there is none that can be read."""
    file = folder / CARD
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return None
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def data_sha256(log: Log) -> str:
    """SHA-256, hex, of all that a log holds: ids, events, and what is known of items."""
    found = hashlib.sha256()

    def text(value: object) -> None:
        found.update(json.dumps(value, sort_keys=True).encode() + b"\n")

    text([log.users, log.items, log.titles, log.attributes])
    for name in sorted(COLUMNS):
        _hash_column(found, name, getattr(log, name))
    for item_id, vector in sorted(log.embeddings.items()):
        text(item_id)
        found.update(np.ascontiguousarray(vector, np.float32).data)
    return found.hexdigest()


def _hash_column(found: Any, name: str, column: AnyColumn) -> None:
    found.update(f"{name} {column.dtype.str} {len(column)}\n".encode())
    for first in range(0, len(column), _BLOCK):
        found.update(np.ascontiguousarray(column[first : first + _BLOCK]).data)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """A command's options by name, paths as texts."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in vars(options).items() if not callable(value)}


def code_version() -> dict[str, Any]:
    """Versions of Python and of the packages that are installed; the commit, in a git checkout.

    `changed` is whether tracked files differ from the commit.
    """
    versions: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():  # else git would look for another project's further up
        commit, changed = (
            _git(root, "rev-parse", "HEAD"),
            _git(root, "status", "--porcelain", "-uno"),
        )
        if commit is not None and changed is not None:
            versions |= {"commit": commit, "changed": bool(changed)}
    return versions


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
