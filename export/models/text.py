"""Parameters of models as text: what `--set` takes. Must not know: the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

from export.models import AUTO, ENSEMBLE, MODELS, PARAMETERS, ensemble, glr
from export.models.registry import SINGLE
from stream.core.manifest import MAX_DIM, MAX_RECENT
from stream.errors import UsageError

# Of parameters that several models have: from, to. A bundle holds no more.
LIMITS: Final[dict[str, tuple[float, float]]] = {
    "dim": (1, MAX_DIM),
    "last": (1, MAX_RECENT),
    **dict.fromkeys(("half_life_s", "mood_half_life_s", "pause_s", "strength"), (1e-6, 1e12)),
}


def parse_parameters(model: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of a model from text.

    Raises
    ------
    UsageError
        The model, or a member of the ensemble, has no such parameter, or the value is not of its
        kind.
    """
    if model == AUTO and not given:
        return {}
    if model not in MODELS:
        if model == AUTO:
            raise UsageError("--set: say with --model of which model it is a parameter")
        raise UsageError(f"model {model!r} is not one of {', '.join(sorted(MODELS))}")
    if model != ENSEMBLE:
        parsed = parse_values(model, PARAMETERS[model], given)
        if model == "glr":
            glr.Parameters.chosen(0.0, **parsed)  # its ranges, before a log is read
        return parsed
    own = {name: text for name, text in given.items() if "." not in name}
    parsed = parse_values(model, PARAMETERS[model], own)
    for name, text in given.items():
        member, dot, parameter = name.partition(".")
        if dot and member not in SINGLE:
            raise UsageError(f"{name}: {member!r} is not one of {', '.join(sorted(SINGLE))}")
        if dot:
            parsed[name] = parse_values(member, PARAMETERS[member], {parameter: text})[parameter]
    ensemble.by_member(parsed)
    return parsed


def parse_values(whose: str, fields: type[Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Fields of a dataclass from text; `whose` they are is for messages.

    Raises
    ------
    UsageError
        There is no such field, or the value is not a number of its kind.
    """
    kinds = {name: type(v) for name, v in dataclasses.asdict(fields()).items()}
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        if name not in kinds:
            raise UsageError(f"{whose} has no parameter {name!r}; it has {', '.join(kinds)}")
        if kinds[name] is str:
            parsed[name] = text
            continue
        if kinds[name] is bool:
            if text not in ("true", "false"):
                raise UsageError(f"{name}={text}: must be true or false")
            parsed[name] = text == "true"
            continue
        try:
            parsed[name] = kinds[name](text)
        except ValueError:
            raise UsageError(f"{name}={text}: not a number ({kinds[name].__name__})") from None
        if not 0 <= parsed[name] < float("inf") or (kinds[name] is int and parsed[name] < 1):
            raise UsageError(f"{name}={text}: must be positive and finite")
        low, high = LIMITS.get(name, (0, math.inf))
        if not low <= parsed[name] <= high:
            raise UsageError(f"{name}={text}: must be from {low:g} to {high:g}")
    return parsed


def as_options(parameters: Mapping[str, Any]) -> str:
    """The options that `parse_parameters` reads the same values from."""
    return " ".join(f"--set {name}={as_text(value)}" for name, value in parameters.items())


def as_text(value: bool | int | float) -> str:
    """As `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:.12g}"
