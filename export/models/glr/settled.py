"""What a training on the older events settles for the one on the whole log."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from export.models.glr.correction import Correction
from export.models.glr.parameters import Parameters
from export.models.glr.warm import Grown

UNTOLD = ("parameters", "grown", "correction")


@dataclass(frozen=True, slots=True)
class Settled:
    """What held-out events decided.

    Attributes
    ----------
    epochs : that the best network had seen
    exclude_seen : whether lists are better without what the user has seen
    again, together : weights of the last interactions
    temperature : factor of the network's logits
    half_life_days, lately : of `popularity.drift`, and its weight in the biases
    level : what is subtracted from logits, so that their sigmoid is near a probability
    correction : what counts of items and companions tell beside all that; None: nothing
    ndcg, recall, mrr : at `judging.K`, on the held-out events that settled all this, but for the
        correction, which other users than those of each list had fitted; 0 where there were none
    parameters : that it was settled with; the whole log may look like another kind of log
    grown : the networks of the older events; with `refit` below 1 the whole log goes on from them
    """

    epochs: int
    exclude_seen: bool = False
    again: tuple[float, ...] = ()
    together: tuple[float, ...] = ()
    temperature: float = 1.0
    half_life_days: float = 0.0
    lately: float = 0.0
    level: float = 0.0
    ndcg: float = 0.0
    recall: float = 0.0
    mrr: float = 0.0
    parameters: Parameters | None = None
    correction: Correction | None = None
    grown: Grown | None = field(default=None, compare=False)

    def told(self) -> dict[str, Any]:
        """For the manifest, where the parameters stand already."""
        names = [one.name for one in fields(self) if one.name not in UNTOLD]
        told = {name: getattr(self, name) for name in names}
        return {**told, "corrected": self.correction is not None}
