"""`mf`: matrix factorization of users and items by implicit ALS, folded in event by event.

Training factorises a matrix of visits and items, weighted by what was done. Exact fold-in of a
user's events gives u = (G + sum of w y y')^-1 (sum of w y), where G = unobserved * Y'Y + ridge * I
is the curvature that all users share. The events' own part of it is left out here:

    u.y = (sum of w y)' G^-1 y = (sum of w z)'z    with z = L^-1 y, G = L L' (Cholesky)

So the item table holds z, and a user's state is the fading sum of z of `fading.py`: dim numbers
instead of dim * (dim + 3) / 2, constant work, in any order of arrival, finite whatever comes. On
Online Retail it also ranks as well as the exact solution at the same dim; see README.md.

The bias is the log odds of `Baskets.popularity_bias`. Ratings, where a log has them, are targets
between 0 and 1; `ratings.py` predicts them, and its error is reported.

Must not know: the bundle's files, evaluation.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from export.data.dataset import Log
from export.models import als, fading
from export.models.als import Float64
from export.models.base import Baskets, Float32, Trained
from export.models.fading import DAY_S
from export.models.ratings import Ratings, fit_ratings
from export.models.space import Range, Space
from export.weights import EVENT_WEIGHTS
from stream.core.bundle import FadingSum, Head
from stream.core.weighing import weight_table

RATED_HELD_OUT = 0.1  # of the ratings, the newest, to measure the error on
LEAST_RATINGS = 20
LEAST_SHARE = 1e-6  # of `ridge`: a small catalogue has fewer directions than dimensions


@dataclass(frozen=True, slots=True)
class Parameters:
    """Chosen on a validation month of Online Retail; see README.md."""

    dim: int = 128
    half_life_s: float = 120 * DAY_S
    beta: float = 32.0
    strength: float = 1.0
    unobserved: float = 0.3
    regularisation: float = 0.003
    sweeps: int = 8
    ridge: float = 0.3
    pause_s: float = 30 * DAY_S
    popularity: float = 1.0
    min_count: int = 1


SPACE: Final[Space] = {
    "dim": (32, 64, 128, 192),
    "half_life_s": Range(DAY_S, 730 * DAY_S, log=True),
    "beta": Range(2.0, 256.0, log=True),
    "strength": Range(0.03, 10.0, log=True),
    "unobserved": Range(0.01, 3.0, log=True),
    "regularisation": Range(1e-4, 0.1, log=True),
    "ridge": Range(0.03, 3.0, log=True),
    "pause_s": Range(DAY_S, 365 * DAY_S, log=True),
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
    return fading.assemble(
        "mf",
        baskets.item_ids,
        factor_vectors(log, baskets.item_ids, p),
        baskets.popularity_bias(p.popularity),
        sums=(FadingSum(p.half_life_s, 1.0),),
        strength=p.strength,
        beta=p.beta,
        head=Head("dot product", "squared error"),
        created=log.ends,
        training={"events": len(log), **_rating_errors(log), **asdict(p)},
    )


def factor_vectors(log: Log, item_ids: list[str], p: Parameters) -> Float32:
    """The items' z: float32, shape (n, dim). Their root mean square length is 1; row 0 zeros."""
    weights, targets = interactions(log, item_ids, p.pause_s)
    factors = als.implicit(
        weights,
        targets,
        p.dim,
        unobserved=p.unobserved,
        regularisation=p.regularisation,
        sweeps=p.sweeps,
    )
    vectors: Float32 = whitened(factors, p.ridge).astype(np.float32)
    return vectors


def interactions(log: Log, item_ids: list[str], pause_s: float) -> tuple[sparse.csr_array, Float64]:
    """What users did with items, as weights and targets.

    Parameters
    ----------
    item_ids : of the rows of the item table; events of others are left out
    pause_s : a pause of a user longer than this begins a new row, as of another user: tastes change

    Returns
    -------
    weights : shape (rows, n); the sum of |weight of the event|, their mean over the log being 1: a
        log of views alone is as sure of them as one of purchases
    targets : float64, shape (entries,); 1 for what users turned towards, 0 for what they turned
        away from, something between where they did both or rated it
    """
    row_by_id = {item_id: row for row, item_id in enumerate(item_ids)}
    row_by_code = np.array([row_by_id.get(item_id, 0) for item_id in log.items])
    weight = weight_table(EVENT_WEIGHTS).astype(np.float64)[log.event_type]
    order = np.lexsort((log.time_ms, log.user))
    order = order[(weight[order] != 0) & (row_by_code[log.item[order]] > 0)]
    user, time_ms, weight = log.user[order], log.time_ms[order], weight[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(user) != 0) | (np.diff(time_ms) > pause_s * 1000)
    row = np.cumsum(begins) - 1
    target = np.where(weight > 0, _rating_targets(log.rating[order].astype(np.float64)), 0)
    column, size = row_by_code[log.item[order]], np.abs(weight) / np.abs(weight).mean()
    shape = (int(row[-1]) + 1, len(item_ids))
    weights = sparse.csr_array((size, (row, column)), shape=shape)
    aimed = sparse.csr_array((size * target, (row, column)), shape=shape)
    return weights, aimed.data / weights.data


def _rating_targets(rating: Float64) -> Float64:
    """Ratings as targets: the highest 1, the lowest a step above 0; 1 where there is none."""
    steps = np.unique(rating[np.isfinite(rating)])
    if len(steps) < 2:
        return np.ones(len(rating))
    least = np.diff(steps).min()
    scaled = (rating - steps[0] + least) / (steps[-1] - steps[0] + least)
    return np.where(np.isfinite(rating), scaled, 1)


def whitened(factors: Float64, ridge: float) -> Float64:
    """z of factors y: float64, shape (n, d), z.z' = y' (Y'Y + ridge * mean * I)^-1 y', scaled.

    Parameters
    ----------
    factors : float64, shape (n, d)
    ridge : as a share of the mean of Y'Y's eigenvalues
    """
    gram = factors.T @ factors
    mean = max(float(np.trace(gram)) / len(gram), 1e-12)
    lower = np.linalg.cholesky(gram + max(ridge, LEAST_SHARE) * mean * np.eye(len(gram)))
    vectors: Float64 = solve_triangular(lower, factors.T, lower=True).T
    length = np.sqrt((vectors[1:] ** 2).sum(axis=1).mean())
    vectors[0] = 0
    vectors /= max(length, 1e-12)
    return vectors


def _rating_errors(log: Log) -> dict[str, Any]:
    """How well the newest ratings are predicted from the others; nothing where a log has few."""
    ratings = Ratings.of(log)
    if len(ratings) < LEAST_RATINGS:
        return {}
    newest = int(len(ratings) * (1 - RATED_HELD_OUT))
    older, newer = (
        Ratings(ratings.user[some], ratings.item[some], ratings.value[some])
        for some in (slice(newest), slice(newest, None))
    )
    model = fit_ratings(older, len(log.users), len(log.items))
    return {"held_out_ratings": model.errors(newer)}
