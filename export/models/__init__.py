"""The models that `freshet-export train --model` knows. In: a log. Out: a `Trained` model."""

from collections.abc import Callable, Mapping
from typing import Any

from export.data.dataset import Log
from export.models import content, cooccurrence, decay, glr, mf
from export.models.base import Reference, Trained
from export.models.space import Space

AUTO = "auto"  # in the place of a name: the one that is best on the newest events

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

# What `freshet-export tune` looks for.
SPACES: dict[str, Space] = {
    "decay": decay.SPACE,
    "cooccurrence": cooccurrence.SPACE,
    "mf": mf.SPACE,
    "content": content.SPACE,
    "glr": glr.SPACE,
}

# What a trial of that search has unless it is given: what is better for one network is better for
# several.
TRIED_AS: dict[str, dict[str, Any]] = {"glr": {"members": 1}}


def parameters_for(model: str, log: Log, given: Mapping[str, Any]) -> Any:
    """The `Parameters` that a model would train on a log with; `given` are some of its fields."""
    if model == "glr":
        return glr.Parameters.chosen(glr.length(log), **given)
    return PARAMETERS[model](**given)


def train(model: str, log: Log, **parameters: Any) -> Trained:
    """Train a model of `MODELS`; `parameters` are the fields of its `Parameters`."""
    return MODELS[model](log, **parameters)


__all__ = [
    "AUTO",
    "LEARNED",
    "MODELS",
    "PARAMETERS",
    "SPACES",
    "TRIED_AS",
    "Reference",
    "Trained",
    "parameters_for",
    "train",
]
