"""A correction by counts that says something of everything."""

from __future__ import annotations

import numpy as np

from export.models.glr.correction import Correction, Perceptron


def drawn(seed: int = 0) -> Correction:
    """Of random numbers, so that terms are about one logit large."""
    rng = np.random.default_rng(seed)

    def perceptron(features: int) -> Perceptron:
        def some(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return rng.normal(0, 1, shape).astype(np.float32)

        low = np.full(features, -3, np.float32)
        return Perceptron(
            low=low,
            high=-low,
            middle=some(features),
            spread=np.full(features, 2, np.float32),
            inward=some(features, 5) / np.float32(features**0.5),
            shift=some(5),
            outward=some(5),
            constant=0.25,
        )

    return Correction(perceptron(6), perceptron(8))
