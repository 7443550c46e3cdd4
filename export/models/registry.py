"""The models by name, all but the ensemble, which is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from export.models import content, cooccurrence, decay, glr, mf
from export.models.base import Trained
from export.models.space import Space

SINGLE: Final[dict[str, Callable[..., Trained]]] = {
    "decay": decay.train,
    "cooccurrence": cooccurrence.train,
    "mf": mf.train,
    "content": content.train,
    "glr": glr.train,
}

# Trained in epochs, by PyTorch: they take `held_out`, `settled` and `run` beside their parameters.
LEARNED: Final = frozenset({"glr"})

SINGLE_PARAMETERS: Final[dict[str, type[Any]]] = {
    "decay": decay.Parameters,
    "cooccurrence": cooccurrence.Parameters,
    "mf": mf.Parameters,
    "content": content.Parameters,
    "glr": glr.Parameters,
}

# What `freshet-export tune` looks for.
SPACES: Final[dict[str, Space]] = {
    "decay": decay.SPACE,
    "cooccurrence": cooccurrence.SPACE,
    "mf": mf.SPACE,
    "content": content.SPACE,
    "glr": glr.SPACE,
}
