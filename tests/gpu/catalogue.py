"""A large catalogue for the checks and measurements: one model, its items stored in each way.

In: sizes. Out: bundles on disk, and what they must compute, in NumPy.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, get_args

from export.compression.bundle import compress
from export.models import decay
from export.models.base import Reference
from stream.core.bundle import Bundle
from stream.core.packing import Storage
from tests.support.bundles import random_decay_bundle

STORAGES: tuple[Storage, ...] = get_args(Storage)


class Stored(NamedTuple):
    """A bundle, and the model over its item vectors in NumPy, float64 inside."""

    bundle: Bundle
    reference: Reference


def stored(bundle: Bundle) -> Stored:
    """What a `decay` bundle of `random_decay_bundle` must compute."""
    manifest = bundle.manifest
    trained = decay.assemble(
        decay.Parameters(dim=manifest.embedding_dim),
        bundle.item_ids,
        bundle.embeddings,
        bundle.biases,
        created=manifest.created,
        training={},
    )
    return Stored(bundle, trained.reference)


def catalogue(folder: Path, items: int, dim: int, clusters: int) -> dict[Storage, Stored]:
    """`decay` with random item vectors in `clusters` of near ones, stored in each way."""
    plain = random_decay_bundle(folder / "float32", items, dim=dim, clusters=clusters)
    bundles = {"float32": plain}
    for storage in STORAGES[1:]:
        bundles[storage] = compress(plain, folder / storage, storage, "int8")
    return {storage: stored(bundles[storage]) for storage in STORAGES}
