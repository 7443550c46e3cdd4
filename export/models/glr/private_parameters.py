"""What a private network is trained with. `--set NAME=VALUE` sets any of it, with `--epsilon`."""

from __future__ import annotations

from dataclasses import dataclass

from export.models.glr.parameters import Parameters


@dataclass(frozen=True, slots=True)
class PrivateParameters:
    """What a private network is trained with. None of it is looked up in the log.

    Attributes
    ----------
    dim, state, hidden, longest_memory, scale : as in `parameters.Parameters`
    window : events of a user that a step looks at, in a row, from a place drawn anew each time
    batch : users that a step looks at, on average; all, of a log with fewer
    steps : all of them; more need more noise in each
    negatives : items in a step's softmax beside a user's own, drawn from all alike; a catalogue of
        up to twice as many is taken whole
    clip : the most that one user moves the sum of a step's gradients
    learning_rate : of Adam
    exclude_seen, exclude_bought : whether placements that do not say leave out what the user has
        seen, and bought
    seed : of the network's beginning and of negatives, never of the noise
    """

    dim: int = 32
    state: int = 32
    hidden: int = 64
    longest_memory: float = 30.0
    scale: float = 8.0
    window: int = 50
    batch: int = 1024
    steps: int = 200
    negatives: int = 500
    clip: float = 0.5
    learning_rate: float = 0.03
    exclude_seen: bool = False
    exclude_bought: bool = True
    seed: int = 1

    def of_network(self) -> Parameters:
        """The same for `Network`, without what is random or comes from other users."""
        return Parameters(
            **{name: getattr(self, name) for name in ("dim", "state", "hidden", "window", "seed")},
            longest_memory=self.longest_memory,
            scale=self.scale,
            layers=1,
            members=1,
            mean=True,
            query=False,
            cosine=True,
            smoothing=0.0,
            edge_dropout=0.0,
            input_dropout=0.0,
            dropout=0.0,
            label_smoothing=0.0,
            recency=0.0,
            last=1,
        )
