"""Ratings, predicted: r = mu + b_u + b_i + u.v, regularised (Koren, Bell and Volinsky 2009).

In: a log whose events carry ratings. Out: what a user would rate an item, and how far that is off.
Trained by ALS; each vector's regularisation grows with the ratings it has seen (Zhou et al. 2008).
A bundle's graphs do not hold it: events bring no ratings to the engine. `mf` reports its error.

Must not know: bundles, graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.data.dataset import Log
from export.measuring.metrics.ratings import mae, rmse
from export.models.als import LEAST_RIDGE, Float64, solve_rows
from stream.errors import UsageError

Int64 = npt.NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Ratings:
    """The newest rating of each user and item, as codes of the log.

    Attributes
    ----------
    user, item : int64, shape (n,)
    value : float64, shape (n,)
    """

    user: Int64
    item: Int64
    value: Float64

    @classmethod
    def of(cls, log: Log) -> Ratings:
        """What the events of a log rate; a later rating replaces an earlier."""
        at = np.flatnonzero(np.isfinite(log.rating))[::-1]
        pairs = log.user[at].astype(np.int64) * len(log.items) + log.item[at]
        at = np.sort(at[np.unique(pairs, return_index=True)[1]])
        return cls(log.user[at], log.item[at], log.rating[at])

    def __len__(self) -> int:
        return len(self.value)


@dataclass(slots=True, eq=False)
class RatingModel:
    """What a user would rate an item.

    Attributes
    ----------
    mean : mu, of all ratings
    users : float64, shape (users, dim + 1): u and, last, b_u; zeros for who rated nothing
    items : float64, shape (items, dim + 1): v and, last, b_i; zeros for what nobody rated
    lowest, highest : ratings that were given; predictions stay between
    """

    mean: float
    users: Float64
    items: Float64
    lowest: float
    highest: float

    def predict(self, user: Int64, item: Int64) -> Float64:
        """The ratings of pairs of codes: float64, shape (n,)."""
        users = self.users[user]
        products = (users[:, :-1] * self.items[item, :-1]).sum(axis=1)
        rated = self.mean + users[:, -1] + self.items[item, -1] + products
        clipped: Float64 = np.clip(rated, self.lowest, self.highest)
        return clipped

    def errors(self, ratings: Ratings) -> dict[str, float]:
        """Root mean square and mean absolute error, and the first of always saying the mean."""
        predicted = self.predict(ratings.user, ratings.item)
        always = np.full(len(ratings), self.mean)
        return {
            "ratings": len(ratings),
            "rmse": round(rmse(predicted, ratings.value), 4),
            "mae": round(mae(predicted, ratings.value), 4),
            "rmse_of_mean": round(rmse(always, ratings.value), 4),
        }


def fit_ratings(
    ratings: Ratings,
    users: int,
    items: int,
    *,
    dim: int = 32,
    regularisation: float = 0.12,
    sweeps: int = 15,
) -> RatingModel:
    """Train on ratings.

    Parameters
    ----------
    users, items : how many codes there are

    Raises
    ------
    UsageError : there is no rating
    """
    if len(ratings) == 0:
        raise UsageError("the log holds no ratings; train on events alone")
    mean = float(ratings.value.mean())
    shape = (users, items)
    given = sparse.csr_array((ratings.value - mean, (ratings.user, ratings.item)), shape=shape)
    entries = sparse.csr_array((np.ones(len(given.data)), given.indices, given.indptr), shape=shape)
    entries_across, given_across = sparse.csr_array(entries.T), sparse.csr_array(given.T)
    user_ridge = regularisation * np.diff(entries.indptr).astype(np.float64)
    item_ridge = regularisation * np.diff(entries_across.indptr).astype(np.float64)
    rng = np.random.default_rng(0)
    item_vectors = np.zeros((items, dim + 1))
    item_vectors[:, :-1] = rng.normal(0, 0.1, (items, dim))
    item_vectors[item_ridge == 0] = 0
    user_vectors = np.zeros((users, dim + 1))
    for _ in range(sweeps):
        aimed = given.data - item_vectors[given.indices, -1]
        user_vectors = _half(entries, aimed, item_vectors, user_ridge)
        aimed = given_across.data - user_vectors[given_across.indices, -1]
        item_vectors = _half(entries_across, aimed, user_vectors, item_ridge)
    return RatingModel(
        mean=mean,
        users=user_vectors,
        items=item_vectors,
        lowest=float(ratings.value.min()),
        highest=float(ratings.value.max()),
    )


def _half(entries: sparse.csr_array, aimed: Float64, others: Float64, ridge: Float64) -> Float64:
    """One side's vectors and biases, the other's being as they are: float64, shape (m, dim + 1)."""
    design = np.concatenate([others[:, :-1], np.ones((len(others), 1))], axis=1)
    width = design.shape[1]
    return solve_rows(entries, aimed, design, np.zeros((width, width)), ridge + LEAST_RIDGE)
