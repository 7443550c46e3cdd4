"""Make scores probabilities, and say what follows for thresholds. In: answers to held-out cases.

One half of the cases fits the map, the other one tells what it is worth. The answers are those of a
`softened` model: above a logit of 17 float32 knows no score but 1, and logits of `mf` go to 100.

Must not know: models, files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from export.calibration import Calibration, fitted
from export.measuring.evaluate import Answers
from export.measuring.metrics.calibration import reliability
from export.measuring.metrics.ranking import find_hits
from export.measuring.metrics.thresholds import Kept, best_theta, kept_by
from export.models import Trained

SOFTENING = 32.0
THETAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DIGITS = 5


class Calibrated(NamedTuple):
    """The map, and what the other half of the cases says of it.

    Attributes
    ----------
    errors : expected calibration error before and after, for the manifest's `metrics`
    kept : what thresholds keep of the lists, for `training.calibration`
    """

    calibration: Calibration
    errors: dict[str, float]
    kept: dict[str, Any]


def softened(trained: Trained) -> Trained:
    """The same lists, with scores whose logits are those of the model over `SOFTENING`."""
    ends = np.array([-SOFTENING, SOFTENING])
    return trained.calibrated(Calibration.of(ends, ends / SOFTENING))


def calibrate(answers: Answers, report: Callable[[str], None]) -> Calibrated | None:
    """Fit on every second case, measure on the others; None where there is too little to fit.

    Parameters
    ----------
    answers : of a `softened` model
    """
    logits = SOFTENING * special.logit(answers.scores.astype(np.float64))
    hits = find_hits(answers.listed, answers.targets())
    half = np.arange(len(logits)) % 2 == 0
    found = fitted(logits[half], hits.at[half])
    if found is None:
        return None
    at, wanted = hits.at[~half], int(hits.wanted[~half].sum())
    before, after = special.expit(logits[~half]), found.probability(logits[~half])
    errors = {
        "uncalibrated": round(reliability(before, at).error, DIGITS),
        "calibrated": round(reliability(after, at).error, DIGITS),
    }
    table = [kept_by(theta, after, at, wanted) for theta in THETAS]
    best = kept_by(best_theta(after, at, wanted), after, at, wanted)
    report(f"calibrated: scores are {errors['calibrated']:.4f} from probabilities, on average")
    for row in (row for row in table if row.kept > 0):
        report(f"  {_line(row)}")
    report(f"  {_line(best)}, the best")
    told = {
        "cases": len(at),
        "k": at.shape[1],
        "thetas": [_rounded(row) for row in table if row.kept > 0],
        "best_f1": _rounded(best),
    }
    return Calibrated(found, errors, told)


def _line(row: Kept) -> str:
    return (
        f"theta {row.theta:g} keeps {row.kept:.1%} of places: precision {row.precision:.3f}, "
        f"recall {row.recall:.3f}, F1 {row.f1:.3f}"
    )


def _rounded(row: Kept) -> dict[str, float]:
    return {"theta": row.theta} | {
        name: round(value, DIGITS) for name, value in row._asdict().items() if name != "theta"
    }
