"""The models that `freshet-export train --model` knows. In: a log. Out: a `Trained` model."""

from collections.abc import Callable, Mapping
from typing import Any

from export.data.dataset import Log
from export.models import ensemble, glr
from export.models.base import Reference, Trained
from export.models.registry import LEARNED, SINGLE, SINGLE_PARAMETERS, SPACES

AUTO = "auto"  # in the place of a name: the one that is best on the newest events
ENSEMBLE = "ensemble"

MODELS: dict[str, Callable[..., Trained]] = {**SINGLE, ENSEMBLE: ensemble.train}

PARAMETERS: dict[str, type[Any]] = {**SINGLE_PARAMETERS, ENSEMBLE: ensemble.Parameters}

# Held-out events settle something of them: they take `held_out`, `settled` and `run` beside their
# parameters.
SETTLED = LEARNED | {ENSEMBLE}

# What a trial of a search for parameters has unless it is given: what is better for one network is
# better for several.
TRIED_AS: dict[str, dict[str, Any]] = {"glr": {"members": 1}}


def parameters_for(model: str, log: Log, given: Mapping[str, Any]) -> Any:
    """The `Parameters` that a model would train on a log with; `given` are some of its fields."""
    if model == "glr":
        return glr.Parameters.chosen(glr.length(log), **given)
    return PARAMETERS[model](**given)


def train(model: str, log: Log, **parameters: Any) -> Trained:
    """Train a model of `MODELS`; `parameters` are the fields of its `Parameters`.

    Those of an ensemble's members stand beside its own, as `MEMBER.NAME`.
    """
    return MODELS[model](log, **parameters)


__all__ = [
    "AUTO",
    "ENSEMBLE",
    "LEARNED",
    "MODELS",
    "PARAMETERS",
    "SETTLED",
    "SPACES",
    "TRIED_AS",
    "Reference",
    "Trained",
    "parameters_for",
    "train",
]
