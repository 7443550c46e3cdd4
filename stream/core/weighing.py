"""How much events move interests, and how fast those fade: by the bundle, or by settings instead.

In: a manifest, the table `[weights]` of the settings. Out: the numbers in force, and the inputs of
an update graph that takes them. Must not know: ONNX Runtime, states, files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts import EVENT_TYPES, EventType
from stream.core.manifest import Additive, Manifest
from stream.errors import SettingsError
from stream.settings.weights import UNSET, Weights

EVENT_CODES: Final = 16  # numbers in `type_weights`
TYPE_WEIGHTS: Final = "type_weights"
FADING_RATES: Final = "fading_rates"

Float32 = npt.NDArray[np.float32]


def weight_table(event_weights: Mapping[EventType, float]) -> Float32:
    """Weights by event code: float32, shape (16,); codes without a weight get 0."""
    table = np.zeros(EVENT_CODES, np.float32)
    for event_type, weight in event_weights.items():
        table[event_type] = weight
    return table


def weight_inputs(
    event_weights: Mapping[EventType, float], half_lives_s: Sequence[float]
) -> dict[str, Float32]:
    """What an update graph with live weights takes beside events.

    Returns
    -------
    `type_weights`: of `weight_table`; `fading_rates`: float32, shape (sums,), per second: ln 2 over
    the half-life
    """
    fading_rates = (np.log(2) / np.array(half_lives_s)).astype(np.float32)
    return {TYPE_WEIGHTS: weight_table(event_weights), FADING_RATES: fading_rates}


class Weighing(NamedTuple):
    """The weights that events are folded with.

    Attributes
    ----------
    given : the settings, which may set nothing
    event_weights : by name of the type
    additive : the manifest's, with the half-lives in force; None: the state is no such sum
    inputs : of the update graph, by name; none where the graph has its weights inside
    """

    given: Weights
    event_weights: dict[str, float]
    additive: Additive | None
    inputs: dict[str, Float32]

    @classmethod
    def of(
        cls,
        manifest: Manifest,
        weights: Weights = UNSET,
        at: Callable[[str], str] = str,
    ) -> Weighing:
        """The bundle's, with those in their place that the settings give.

        Parameters
        ----------
        at : where a setting was given, in words fit for a message, by its path

        Raises
        ------
        SettingsError : the bundle's are fixed, or it has another number of half-lives
        """
        given, additive = [*weights.given()], manifest.additive
        live = manifest.live_weights
        if given and not live:
            raise SettingsError(
                f"{at(f'weights.{given[0]}')}: is set, yet this bundle's model "
                f"({manifest.model}) has its weights fixed inside its graph; take [weights] out, "
                "or train a bundle with live ones: `freshet-export train --model decay`, mf, "
                "content, or an ensemble of which one is a member."
            )
        event_weights = {name: float(weight) for name, weight in manifest.event_weights.items()}
        event_weights |= weights.event_weights()
        half_lives_s = manifest.fading_s
        if weights.half_lives_s is not None:
            half_lives_s = _in_the_place_of(half_lives_s, weights.half_lives_s, at)
        if additive is not None:
            additive = _with(additive, half_lives_s)
        inputs: dict[str, Float32] = {}
        if live:
            by_type = {EVENT_TYPES[name]: weight for name, weight in event_weights.items()}
            inputs = weight_inputs(by_type, half_lives_s)
        return cls(weights, event_weights, additive, inputs)


def _in_the_place_of(
    own: Sequence[float], given: tuple[float, ...], at: Callable[[str], str]
) -> tuple[float, ...]:
    """What is given, one for each of the bundle's."""
    if len(given) != len(own):
        told = ", ".join(f"{half_life_s:g}" for half_life_s in own)
        raise SettingsError(
            f"{at('weights.half_lives_s')}: has {len(given)}; must have as many as the "
            f"bundle's model has sums, {len(own)} (its own: {told})."
        )
    return given


def _with(additive: Additive, half_lives_s: Sequence[float]) -> Additive:
    """The sums with other half-lives."""
    sums = additive.sums
    replaced = (
        msgspec.structs.replace(fading, half_life_s=half_life_s)
        for fading, half_life_s in zip(sums, half_lives_s, strict=True)
    )
    return Additive(sums=tuple(replaced), strength=additive.strength)
