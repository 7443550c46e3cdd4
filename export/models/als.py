"""Alternating least squares: the two halves of a matrix factorization, exactly solved.

`mf` and the rating model use it. Written here and not taken from a library: the one of the field
(implicit) orders its sums by thread, so the same log would not give the same bundle, and it has
neither targets other than 1 nor a regularisation that grows with what a row holds.

Must not know: logs, bundles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from tqdm import tqdm

LEAST_RIDGE = 1e-9  # keeps every row solvable, also when nothing else does

Float64 = npt.NDArray[np.float64]


def solve_rows(
    weights: sparse.csr_array,
    targets: Float64,
    factors: Float64,
    gram: Float64,
    ridge: Float64,
) -> Float64:
    """The row vectors x that minimise, each for itself,

        sum over entries of weight * (target - x.f)^2  +  x' gram x  +  ridge * |x|^2

    Parameters
    ----------
    weights : shape (m, n); an entry is there although its weight may be 0
    targets : float64, shape (entries,), in the order of `weights.data`
    factors : float64, shape (n, d); f, one a column of `weights`
    gram : float64, shape (d, d); what the entries that are not there contribute
    ridge : float64, shape (m,), > 0

    Returns
    -------
    float64, shape (m, d). Zeros for rows without entries.
    """
    solved = np.zeros((weights.shape[0], factors.shape[1]))
    ends, columns, data = weights.indptr, weights.indices, weights.data
    diagonal = np.eye(factors.shape[1])
    for row in range(len(solved)):
        some = slice(ends[row], ends[row + 1])
        if ends[row] == ends[row + 1]:
            continue
        f, w = factors[columns[some]], data[some]
        curvature = gram + (f * w[:, None]).T @ f + ridge[row] * diagonal
        solved[row] = np.linalg.solve(curvature, (w * targets[some]) @ f)
    return solved


def implicit(
    weights: sparse.csr_array,
    targets: Float64,
    dim: int,
    *,
    unobserved: float,
    regularisation: float,
    sweeps: int,
) -> Float64:
    """Item factors of implicit ALS (Hu, Koren and Volinsky 2008), as Rendle et al. 2022 write it.

    Minimises the sum over entries of weight * (target - x.y)^2, plus `unobserved` times the sum
    over all pairs of (x.y)^2, plus a regularisation of each vector that grows with the weight of
    its row: regularisation * (weight + unobserved * columns).

    Parameters
    ----------
    weights : shape (rows, items)
    targets : float64, shape (entries,), in the order of `weights.data`

    Returns
    -------
    float64, shape (items, dim). From a fixed random start: the same input gives the same factors.
    """
    aimed = sparse.csr_array((targets, weights.indices, weights.indptr), shape=weights.shape)
    across = sparse.csr_array(weights.T)
    across_targets = sparse.csr_array(aimed.T).data
    shape = weights.shape
    by_row = np.asarray(weights.sum(axis=1), np.float64)
    by_item = np.asarray(weights.sum(axis=0), np.float64)
    row_ridge = regularisation * (by_row + unobserved * shape[1]) + LEAST_RIDGE
    item_ridge = regularisation * (by_item + unobserved * shape[0]) + LEAST_RIDGE
    items = np.random.default_rng(0).normal(0, 0.1 / np.sqrt(dim), (shape[1], dim))
    items[np.diff(across.indptr) == 0] = 0
    for _ in tqdm(range(sweeps), "sweeps", leave=False, disable=None):
        rows = solve_rows(weights, targets, items, unobserved * items.T @ items, row_ridge)
        items = solve_rows(across, across_targets, rows, unobserved * rows.T @ rows, item_ridge)
    return items
