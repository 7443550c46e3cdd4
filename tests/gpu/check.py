"""Hold a provider against NumPy. In: a loaded model, its reference. Out: how far it is off.

Allowed is `TOLERANCE`: for a state relative to its largest number, for a score absolute; two items
may change ranks when their scores are no further apart than twice that. A float32 table lists the
best exactly. A packed one may miss some (`export/compression/README.md`): `LEAST_FOUND` of them
must be there, with the scores that they have by the packed vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from export.models.base import Reference
from stream.core.bundle import NEVER_LISTED
from stream.core.model import Model

TOLERANCE = 2e-5
LEAST_FOUND = {"float32": 1.0, "float16": 0.99, "int8": 0.99}
USERS, EVENTS, STRUCK = 32, 8, 20


def check(model: Model, reference: Reference, k: int) -> dict[str, Any]:
    """Fold and score, before and after rows change. `right` says whether all is within bounds."""
    n = model.bundle.manifest.items
    rng = np.random.default_rng(11)
    state = np.zeros((USERS, model.state_size), np.float32)
    expected = state
    for _ in range(EVENTS):
        event = (
            rng.integers(0, n, USERS),
            rng.integers(1, 10, USERS),
            rng.normal(3_600, 86_400, USERS).astype(np.float32),
        )
        state, expected = model.update(state, *event), reference.update(expected, *event)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    state_error = float((np.abs(state - expected) / np.maximum(largest, 1e-9)).max())
    struck = rng.integers(1, n, (USERS, STRUCK))
    beta = model.bundle.manifest.beta
    logits = reference.logits(expected, beta)
    np.put_along_axis(logits, struck, np.float32(NEVER_LISTED), axis=1)
    bias = model.new_bias()
    rows, scores = model.score(expected, bias, struck, beta, k)
    score_error, found = _compared(rows, scores, logits)
    # The best item's vector put elsewhere, with a bias that puts it first.
    target = int(np.setdiff1d(np.arange(1, n), struck)[0])
    model.set_embeddings(np.array([target]), model.embeddings_of(rows[:1, 0])[0][:1])
    bias.set(np.array([target]), 30.0)
    changed = model.score(expected, bias, struck, beta, k)[0]
    live = bool((changed[:, 0] == target).all())
    storage = model.bundle.manifest.item_storage
    right = max(state_error, score_error) <= TOLERANCE and found >= LEAST_FOUND[storage] and live
    return {
        "right": right,
        "tolerance": TOLERANCE,
        "state_error": state_error,
        "score_error": score_error,
        "found": round(found, 5),
        "least_found": LEAST_FOUND[storage],
        "changed_rows_count": live,
    }


def _compared(rows: np.ndarray, scores: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """The largest error of a score, and the share of the best that are listed."""
    k = rows.shape[1]
    own = np.take_along_axis(logits, rows, axis=1).astype(np.float64)
    score_error = float(np.abs(scores - _sigmoid(own)).max())
    last = -np.partition(-logits, k - 1, axis=1)[:, k - 1 : k].astype(np.float64)
    as_good = _sigmoid(own) >= _sigmoid(last) - 2 * TOLERANCE
    distinct = np.array([len(set(line)) for line in rows.tolist()])
    return score_error, float(np.minimum(as_good.sum(axis=1), distinct).mean() / k)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.maximum(logits, -80)))
