"""A correction by counts that says something of everything."""

from __future__ import annotations

import numpy as np

from export.models.glr.correction import Correction, Perceptron
from export.models.glr.counts import ITEM_FEATURES, PAIR_FEATURES


def drawn(seed: int = 0) -> Correction:
    """Of random numbers, so that terms are about one logit large."""
    rng = np.random.default_rng(seed)

    def perceptron(features: int) -> Perceptron:
        def some(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return rng.normal(0, 1, shape).astype(np.float32)

        return Perceptron(
            minimum=np.full(features, -3, np.float32),
            maximum=np.full(features, 3, np.float32),
            mean=some(features),
            std=np.full(features, 2, np.float32),
            weight_1=some(features, 5) / np.float32(features**0.5),
            bias_1=some(5),
            weight_2=some(5),
            bias_2=0.25,
        )

    return Correction(perceptron(ITEM_FEATURES), perceptron(PAIR_FEATURES))
