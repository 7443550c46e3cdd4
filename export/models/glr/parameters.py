"""What a gated linear recurrence is trained with. `--set NAME=VALUE` sets any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from export.data.dataset import Log
from export.models.space import Range, Space
from stream.core.manifest import MAX_RECENT
from stream.errors import UsageError

# What long histories want in place of the defaults, and how long is long.
HISTORIES: Final[dict[str, Any]] = {
    "state": 256,
    "hidden": 512,
    "layers": 2,
    "mean": False,
    "cosine": False,
    "longest_memory": 200.0,
    "smoothing": 0.0,
    "input_dropout": 0.3,
    "dropout": 0.3,
    "label_smoothing": 0.0,
    "recency": 0.0,
    "window": 200,
    "batch": 6_400,
    "learning_rate": 0.006,
    "weight_decay": 0.01,
    "epochs": 16,
    "refit": 0.2,
}
LEAST_LENGTH: Final = 1e-8  # is added to lengths that are divided by
WIDEST: Final = 4.0  # |log w| of the running mean
# From, to. What is left out may be anything.
LIMITS: Final[dict[str, tuple[float, float]]] = {
    **dict.fromkeys(("dim", "state", "hidden"), (1, 4096)),
    **dict.fromkeys(("layers", "members"), (1, 16)),
    **dict.fromkeys(("neighbours", "companions", "min_count", "epochs"), (1, 1_000_000)),
    "last": (1, MAX_RECENT),
    **dict.fromkeys(("window", "batch", "negatives"), (1, 100_000_000)),
    **dict.fromkeys(("edge_dropout", "input_dropout", "dropout", "label_smoothing"), (0, 0.99)),
    "longest_memory": (1.2, 1e9),
    "scale": (0.1, 1000),
    "smoothing": (0, 100),
    "recency": (0, 100),
    "learning_rate": (1e-8, 1),
    "refit": (0.01, 1),
    "weight_decay": (0, 10),
    "seed": (0, (1 << 63) - 100),
}
LONG: Final = 30.0  # events of a user, of which the median event has so many
STEPS: Final = 2_000  # that a network wants; a batch is smaller where there would be fewer
SMALLEST_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Parameters:
    """Defaults are those of a log of short visits; `HISTORIES` has what long ones want.

    Attributes
    ----------
    dim : d, length of an item vector (of each member)
    state : width of a layer's recurrence
    hidden : width of a layer's MLP
    layers : gated linear recurrences on top of each other
    members : networks of different seeds whose vectors are concatenated into one
    mean, query : the readouts that are added up: a running weighted mean of the vectors of the
        items a user turned to, and a linear map of the last layer's output
    cosine : logits are scale * cosine of vectors of length 1; else the dot product of free ones
    longest_memory : the largest time constant, in events, that a gate starts with
    scale : factor of the cosine in the loss; learned from there
    smoothing : share of its neighbours' vectors in an item's vector; 0 for none
    neighbours, edge_dropout : neighbours that it has, and the share of them left out in a step
    input_dropout, dropout : shares of numbers set to zero, of item vectors and within a layer
    label_smoothing : probability that the loss spreads over all items
    recency : an event of the log's begin weighs exp(-recency) against one of its end
    window : events of a user that are trained on at once; older ones begin another window
    batch : events in a step; fewer where the log is too small for `STEPS`
    negatives : items in a step's softmax beside those that stand in it; a smaller catalogue is
        taken whole
    learning_rate, weight_decay : of AdamW; networks learn at half the rate of item vectors
    epochs : passes over the log, unless the time is over
    refit : share of the epochs that were best on the older events, in which the whole log is
        trained on: below 1 from the networks of the older events, 1 from nothing
    last : interactions that the repeat bias and the co-occurrence term look at
    companions : co-occurring items that each of them brings
    min_count : items in fewer events get no row
    seed : of everything random
    """

    dim: int = 128
    state: int = 128
    hidden: int = 256
    layers: int = 1
    members: int = 2
    mean: bool = True
    query: bool = True
    cosine: bool = True
    longest_memory: float = 30.0
    scale: float = 14.0
    smoothing: float = 0.5
    neighbours: int = 12
    edge_dropout: float = 0.4
    input_dropout: float = 0.35
    dropout: float = 0.2
    label_smoothing: float = 0.05
    recency: float = 1.5
    window: int = 20
    batch: int = 2560
    negatives: int = 4000
    learning_rate: float = 4e-3
    weight_decay: float = 0.0
    epochs: int = 6
    refit: float = 1.0
    last: int = 6
    companions: int = 100
    min_count: int = 1
    seed: int = 1

    @classmethod
    def chosen(cls, length: float, events: int | None = None, **given: Any) -> Parameters:
        """Those for a log, changed by `given`.

        Parameters
        ----------
        length : see `length`
        events : of the log; None: many
        """
        chosen = {**asdict(cls()), **(HISTORIES if length >= LONG else {}), **given}
        if events is not None and "batch" not in given:
            fitting = max(SMALLEST_BATCH, int(events * chosen["epochs"] / STEPS))
            chosen["batch"] = min(chosen["batch"], fitting)
        return cls.of(chosen)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Parameters:
        """Those with these values.

        Raises
        ------
        UsageError
            There is no readout, or a number is out of its range.
        """
        p = cls(**values)
        for name, (low, high) in LIMITS.items():
            if not low <= values.get(name, low) <= high:
                raise UsageError(f"--set {name}={values[name]}: must be from {low:g} to {high:g}")
        if not (p.mean or p.query):
            raise UsageError("glr needs a readout: mean=true, query=true, or both")
        return p

    @property
    def member_size(self) -> int:
        """Numbers in one member's state."""
        return self.layers * self.state + self.dim * (self.mean + self.query)


def length(log: Log) -> float:
    """Events of its user that the median event of the log has; a few robots change it little."""
    return float(np.median(np.bincount(log.user)[log.user])) if len(log) else 0.0


SPACE: Final[Space] = {
    "dim": (32, 64, 128, 256),
    "state": (64, 128, 256),
    "layers": (1, 2),
    "mean": (True, False),
    "query": (False, True),
    "cosine": (True, False),
    "longest_memory": Range(5.0, 400.0, log=True),
    "smoothing": Range(0.0, 1.0),
    "edge_dropout": Range(0.0, 0.8),
    "input_dropout": Range(0.0, 0.6),
    "dropout": Range(0.0, 0.5),
    "label_smoothing": Range(0.0, 0.2),
    "recency": Range(0.0, 4.0),
    "learning_rate": Range(5e-4, 2e-2, log=True),
    "weight_decay": Range(0.0, 0.1),
}
