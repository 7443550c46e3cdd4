"""What is left of lists above a threshold. In: scores and hits of listed items. Out: shares.

Must not know: models, lists, placements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating]
Bool = npt.NDArray[np.bool_]

DIGITS = 3  # significant ones, of the thresholds that are tried
LEAST = 1e-6  # of them; published scores have six decimals


class Kept(NamedTuple):
    """Places whose score is at least `theta`, of all lists together.

    Attributes
    ----------
    kept : their share of the places that hold an item
    precision : the share of them that hold a target; 0 where none is kept
    recall : the share of all targets that they hold
    f1 : the harmonic mean of the two
    """

    theta: float
    kept: float
    precision: float
    recall: float
    f1: float


def kept_by(theta: float, scores: Scores, hits: Bool, wanted: int) -> Kept:
    """Leave out what scores less than `theta`.

    Parameters
    ----------
    scores, hits : of one shape; a score of 0 says that nothing is listed there
    wanted : targets of all lists, those that no list holds too
    """
    listed = scores > 0
    kept = listed & (scores >= theta)
    places, found = int(kept.sum()), int(hits[kept].sum())
    return Kept(
        theta,
        places / max(int(listed.sum()), 1),
        found / max(places, 1),
        found / max(wanted, 1),
        2 * found / max(places + wanted, 1),
    )


def best_theta(scores: Scores, hits: Bool, wanted: int) -> float:
    """The threshold with the best F1, of those with `DIGITS` significant digits: all are tried.

    Where scores are probabilities it is about half the F1 that it reaches: one more item of
    probability p adds to 2 found / (places + wanted) as long as p > F1 / 2 (Lipton, Elkan and
    Naryanaswamy 2014). 0 where nothing is to be left out. See `kept_by`.
    """
    listed = scores > 0
    order = np.argsort(scores[listed], kind="stable")
    score, hit = scores[listed][order].astype(np.float64), hits[listed][order]
    thetas = np.array([0.0, *_rounded_down(score)])
    first = np.searchsorted(score, thetas)  # the first place that is kept
    found = np.append(np.cumsum(hit[::-1])[::-1], 0)[first]
    f1 = 2 * found / np.maximum(len(score) - first + wanted, 1)
    return float(thetas[np.argmax(f1)])


def _rounded_down(scores: npt.NDArray[np.float64]) -> list[float]:
    """Thresholds that could be written: ascending, each once, from `LEAST` to below 1."""
    some = np.minimum(scores[scores >= LEAST], 1 - 10.0**-DIGITS)
    power = np.floor(np.log10(some)).astype(np.int64) - (DIGITS - 1)
    digits = np.floor(some / 10.0**power).astype(np.int64)
    pairs = np.unique(np.stack([power, digits], axis=1), axis=0)
    return sorted({float(f"{digit}e{exponent}") for exponent, digit in pairs.tolist()})
