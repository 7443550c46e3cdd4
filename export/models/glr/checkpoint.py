"""A training's checkpoint on disk, whole or not at all. Must not know: what is in it. PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from stream.errors import TrainingError


def keep(file: Path, content: dict[str, Any]) -> None:
    """Write it in the place of the one before.

    Raises
    ------
    TrainingError
        It cannot be written; the one before stays.
    """
    new = file.with_name(file.name + ".new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as output:
            torch.save(content, output)
            output.flush()
            os.fsync(output.fileno())
        new.replace(file)
    except (OSError, RuntimeError):  # PyTorch has no error of its own for a full disk
        new.unlink(missing_ok=True)
        raise TrainingError(
            f"{file}: cannot be written; make room there, and the same training goes on from "
            "what was kept last"
        ) from None


def kept(file: Path, device: str) -> dict[str, Any]:
    """Read one.

    Raises
    ------
    TrainingError
        It is damaged.
    """
    with file.open("rb") as opened:
        try:
            content: dict[str, Any] = torch.load(opened, weights_only=True, map_location=device)
        except Exception:  # PyTorch has no error of its own for a damaged file, nor one kind alone
            raise TrainingError(f"{file}: is damaged; delete it to begin anew") from None
    return content
