"""Bundles for tests and benchmarks: the real `decay` graphs around random item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from export.bundle import write_bundle
from export.models import decay
from stream.core.bundle import NEVER_LISTED, Bundle


def random_decay_bundle(
    folder: Path,
    items: int,
    *,
    dim: int = 64,
    storage: Literal["float32", "int8"] = "int8",
    exclude_seen: bool = False,
    seed: int = 0,
) -> Bundle:
    """A `decay` bundle of items "i1" to "i<items>" with random unit vectors and biases.

    Parameters
    ----------
    items : rows besides "no item"
    """
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((items + 1, dim)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    table[0] = 0
    biases = rng.normal(-4, 0.5, items + 1).astype(np.float32)
    biases[0] = NEVER_LISTED
    trained = decay.assemble(
        decay.Parameters(dim=dim),
        ["", *(f"i{row}" for row in range(1, items + 1))],
        table,
        biases,
        created="2026-01-01",
        training={"random": True},
    )
    trained.storage = storage
    trained.exclude_seen = exclude_seen
    return write_bundle(trained, folder, "random")
