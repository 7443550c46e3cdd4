"""Bundles for tests and benchmarks: the real `decay` graphs around random item vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.bundle import write_bundle
from export.models import decay
from export.models.base import EVENT_WEIGHTS, Trained, weight_table
from stream.core.bundle import NO_ITEM_BIAS, Bundle


def random_decay_bundle(
    folder: Path,
    items: int,
    *,
    dim: int = 64,
    storage: str = "int8",
    exclude_seen: bool = False,
    seed: int = 0,
) -> Bundle:
    """A `decay` bundle of items "i1" to "i<items>" with random unit vectors and biases.

    Parameters
    ----------
    items : rows besides "no item"
    storage : "float32" or "int8"
    """
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((items + 1, dim)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    table[0] = 0
    biases = rng.normal(-4, 0.5, items + 1).astype(np.float32)
    biases[0] = NO_ITEM_BIAS
    p = decay.Parameters(dim=dim)
    weights = weight_table(EVENT_WEIGHTS)
    trained = Trained(
        model="decay",
        item_ids=["", *(f"i{row}" for row in range(1, items + 1))],
        embeddings=table,
        biases=biases,
        state_size=2 * dim,
        storage=storage,  # type: ignore[arg-type]
        beta=p.beta,
        half_life_s=p.half_life_s,
        event_weights=EVENT_WEIGHTS,
        update_onnx=decay._update(weights, p),
        score_onnx=decay._score(p),
        reference=decay.DecayReference(table, biases, weights, p),
        created="2026-01-01",
        training={"random": True},
        exclude_seen=exclude_seen,
    )
    return write_bundle(trained, folder, "random")
