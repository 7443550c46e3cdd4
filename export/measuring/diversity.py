"""What diversity costs. In: a served model, what it is asked, strengths. Out: a curve.

Must not know: files, the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from export.measuring.evaluate import AS_SERVED
from export.measuring.measure import measure_model
from export.measuring.questions import Questions
from stream.config import Placement as PlacementRules
from stream.core.model import Model


class Point(NamedTuple):
    """Lists of one length under one strength of `diversity`.

    Attributes
    ----------
    diversity : the setting of the placement
    ndcg, low, high : with its 95% interval
    recall : share of what was asked for that is listed
    unlike : mean of 1 - cosine over the pairs of a list, then over lists
    coverage : share of all items that are on a list
    """

    diversity: float
    ndcg: float
    low: float
    high: float
    recall: float
    unlike: float
    coverage: float


def diversity_curve(
    model: Model,
    asked: Questions,
    strengths: Sequence[float],
    k: int,
    rules: PlacementRules = AS_SERVED,
    *,
    whole_history: bool = False,
) -> list[Point]:
    """A point for each strength, on the same questions, as `measure_model` measures them."""
    curve = []
    for strength in strengths:
        stronger = msgspec.structs.replace(rules, diversity=strength)
        found = measure_model(model, asked, [k], rules=stronger, whole_history=whole_history)
        low, high = found.confidence[f"ndcg@{k}"]
        curve.append(
            Point(
                strength,
                found.metrics[f"ndcg@{k}"],
                low,
                high,
                found.metrics[f"recall@{k}"],
                found.metrics[f"diversity@{k}"],
                found.metrics[f"coverage@{k}"],
            )
        )
    return curve
