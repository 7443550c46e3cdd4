"""`decay`: an interest is the fading sum of the vectors of the items a user turned towards.

The state is two such sums side by side (`fading.py`): the taste, which fades over weeks, and the
mood, which fades within hours: what a user is after right now. Item vectors come from co-occurrence
in sessions.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from export.data.dataset import Log
from export.models import fading
from export.models.base import Baskets, Float32, Trained, item_vectors
from export.models.fading import DAY_S, HOUR_S
from export.models.space import Range, Space
from stream.core.bundle import FadingSum, Head


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on a validation month of Online Retail; see README.md."""

    dim: int = 64
    half_life_s: float = 30 * DAY_S
    beta: float = 7.0
    strength: float = 0.3
    mood_half_life_s: float = 2 * HOUR_S
    mood_share: float = 0.7
    damping: float = 0.5
    smoothing: float = 0.75
    power: float = 0.0
    popularity: float = 1.0
    min_count: int = 1


SPACE: Final[Space] = {
    "dim": (32, 64, 128),
    "half_life_s": Range(DAY_S, 365 * DAY_S, log=True),
    "beta": Range(1.0, 64.0, log=True),
    "strength": Range(0.03, 3.0, log=True),
    "mood_half_life_s": Range(HOUR_S / 6, 7 * DAY_S, log=True),
    "mood_share": Range(0.0, 2.0),
    "damping": Range(0.0, 1.0),
    "smoothing": Range(0.3, 1.0),
    "power": Range(0.0, 1.0),
    "popularity": Range(0.0, 1.0),
}


def train(log: Log, **given: object) -> Trained:
    """Train on a log. `given` overrides fields of `Parameters`.

    Raises
    ------
    UsageError
        The log has fewer than two items that stand in `min_count` sessions.
    """
    p = Parameters(**given)  # type: ignore[arg-type]
    baskets = Baskets.of(log, p.min_count)
    table = item_vectors(
        baskets.cooccurrence(p.damping),
        p.dim,
        smoothing=p.smoothing,
        power=p.power,
    )
    return assemble(
        p,
        baskets.item_ids,
        table,
        baskets.popularity_bias(p.popularity),
        created=log.ends,
        training={"events": len(log), "sessions": baskets.matrix.shape[0]},
    )


def assemble(
    p: Parameters,
    item_ids: list[str],
    table: Float32,
    biases: Float32,
    *,
    created: str,
    training: dict[str, Any],
) -> Trained:
    """The model around given item vectors (`table`, float32 [n, dim]) and `biases`, float32 [n]."""
    return fading.assemble(
        "decay",
        item_ids,
        table,
        biases,
        sums=(FadingSum(p.half_life_s, 1.0), FadingSum(p.mood_half_life_s, p.mood_share)),
        strength=p.strength,
        beta=p.beta,
        head=Head("cosine", "none"),  # softened; lengths of item vectors are 1
        created=created,
        training={**training, **asdict(p)},
    )
