"""How far a training is, and how long it still takes. Needs no PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

IN_MINUTES_S = 90  # from here on


@dataclass(slots=True)
class Progress:
    """Where a training is: all that a checkpoint holds beside the tensors."""

    epoch: int = 0
    step: int = 0  # within the epoch
    steps: int = 0  # altogether
    epochs: int = 0
    batches: int = 1  # of an epoch
    best: float = -math.inf
    best_epoch: int = 0
    spent_s: float = 0.0
    loss: float = 0.0  # sum of the epoch's steps
    done: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)

    def left(self, epochs: float) -> str:
        """The time that so many epochs take at the rate so far, for people."""
        seconds = epochs * self.batches * self.spent_s / max(self.steps, 1)
        told = f"{seconds / 60:.0f} min" if seconds > IN_MINUTES_S else f"{seconds:.0f} s"
        return f"{told} left at most"  # early stopping may need less
