"""The models that `freshet-export train --model` knows. In: a log. Out: a `Trained` model."""

from collections.abc import Callable
from typing import Any

from export.dataset import Log
from export.models import content, cooccurrence, decay, glr, mf
from export.models.base import Reference, Trained

MODELS: dict[str, Callable[..., Trained]] = {
    "decay": decay.train,
    "cooccurrence": cooccurrence.train,
    "mf": mf.train,
    "content": content.train,
    "glr": glr.train,
}

# Trained in epochs: they take `held_out`, `settled` and `run` beside their parameters.
LEARNED = frozenset({"glr"})

PARAMETERS: dict[str, type[Any]] = {
    "decay": decay.Parameters,
    "cooccurrence": cooccurrence.Parameters,
    "mf": mf.Parameters,
    "content": content.Parameters,
    "glr": glr.Parameters,
}


def train(model: str, log: Log, **parameters: Any) -> Trained:
    """Train a model of `MODELS`; `parameters` are the fields of its `Parameters`."""
    return MODELS[model](log, **parameters)


__all__ = ["LEARNED", "MODELS", "PARAMETERS", "Reference", "Trained", "train"]
