"""Which options a model looks at. In: options. Out: a line for those that it does not, or an error.

Must not know: how models work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from export.models import AUTO, ENSEMBLE, LEARNED, glr
from export.models.ensemble import by_member

Report = Callable[[str], None]


def heed(
    options: argparse.Namespace, parameters: dict[str, Any], report: Report, limited: bool = False
) -> None:
    """Say which of `--minutes` and `--device` this model does not look at.

    Parameters
    ----------
    limited : whether the command itself keeps to the minutes

    Raises
    ------
    UsageError
        The device that was asked for cannot be used.
    """
    device = getattr(options, "device", "auto")
    if learns(options.model, parameters):
        if device == "cuda":
            glr.require(device)
        return
    if options.minutes is not None and not limited:
        report(
            f"--minutes: has no effect on {options.model}, which trains as long as it takes; the "
            "option is for glr"
        )
    if device == "cuda":
        report(f"--device cuda: {options.model} is trained on the CPU; the option is for glr")


def learns(model: str, parameters: dict[str, Any]) -> bool:
    """Whether this model, or one that it may become or is made of, is trained in epochs.

    That is within minutes, on a device, and from checkpoints on.
    """
    names = by_member(parameters) if model == ENSEMBLE else (model,)
    return model == AUTO or any(name in LEARNED for name in names)
