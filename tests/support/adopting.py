"""An engine goes on by other settings, as a worker's does that follows its file."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from stream.core.engine import Engine
from stream.core.weighing import Weighing
from stream.placements import Placement
from stream.settings.weights import Weights


def adopt(
    engine: Engine, placements: Mapping[str, Placement], weights: Weights, now_ms: int
) -> None:
    """Make ready what the settings ask for, and go by them from the next step on.

    Parameters
    ----------
    now_ms : wall-clock time
    """
    change = engine.answers.lists.change_to(placements)
    deque(change.pieces(now_ms), 0)
    engine.adopt(change, Weighing.of(engine.model.bundle.manifest, weights))
