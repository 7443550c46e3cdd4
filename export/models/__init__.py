"""The models that `freshet-export train --model` knows. In: a log. Out: a `Trained` model."""

from collections.abc import Callable
from typing import Any

from export.dataset import Log
from export.models import content, cooccurrence, decay, mf
from export.models.base import Reference, Trained

MODELS: dict[str, Callable[..., Trained]] = {
    "decay": decay.train,
    "cooccurrence": cooccurrence.train,
    "mf": mf.train,
    "content": content.train,
}

PARAMETERS: dict[str, type[Any]] = {
    "decay": decay.Parameters,
    "cooccurrence": cooccurrence.Parameters,
    "mf": mf.Parameters,
    "content": content.Parameters,
}


def train(model: str, log: Log, **parameters: Any) -> Trained:
    """Train a model of `MODELS`; `parameters` are the fields of its `Parameters`."""
    return MODELS[model](log, **parameters)


__all__ = ["MODELS", "PARAMETERS", "Reference", "Trained", "train"]
