"""Search spaces: between which values a model's parameters are looked for.

A space stands beside the `Parameters` that it is of; what it does not name stays as it is. Must not
know: the models, how they are searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where `low` is.

    `log`: every factor is as likely as every other, in place of every difference.
    """

    low: float
    high: float
    log: bool = False


Choices = tuple[bool | int | float, ...]
Space = Mapping[str, Range | Choices]
