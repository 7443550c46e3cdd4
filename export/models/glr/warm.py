"""Where a training begins that goes on from an earlier one. In: its networks. Out: arrays by name.

Item vectors go with the item's id: an item that is new begins as in a training from nothing. Must
not know: PyTorch, files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from export.models.base import Float32
from export.models.glr.parameters import Parameters
from export.models.warm import WarmStart
from stream.errors import UsageError

SHAPES = ("dim", "state", "hidden", "layers", "members", "mean", "query", "cosine")
SHARE = 3  # of the epochs from nothing, one in so many is trained


class Start(NamedTuple):
    """A network's numbers; rows of items it did not have are NaN. `digest` tells it from others."""

    numbers: dict[str, Float32]
    digest: str


class Grown(NamedTuple):
    """The networks of the older events, from which the training on the whole log goes on.

    Attributes
    ----------
    item_ids : of their rows, the first one ""
    numbers : float32 arrays by name, as `Members.kept`
    digest : tells them from others, hex
    name : for messages
    """

    item_ids: Sequence[str]
    numbers: Mapping[str, Float32]
    digest: str
    name: str = "the networks of the older events"

    @classmethod
    def of(cls, item_ids: Sequence[str], numbers: Mapping[str, Float32]) -> Grown:
        """Those just trained."""
        found = hashlib.blake2b(digest_size=16)
        for name in sorted(numbers):
            found.update(np.ascontiguousarray(numbers[name]).data)
        return cls(item_ids, numbers, found.hexdigest())


def going_on(warm: WarmStart, length: float, given: Mapping[str, Any]) -> Parameters:
    """The earlier parameters, changed by `given`; epochs are a part of those of such a log.

    Parameters
    ----------
    length : see `Parameters.chosen`

    Raises
    ------
    UsageError
        A network of that shape cannot begin from this one.
    """
    names = [field.name for field in fields(Parameters)]
    if missing := [name for name in names if name not in warm.parameters]:
        raise UsageError(
            f"{warm.name}: was made by another version, which had no parameter {missing[0]}; train "
            "without --warm"
        )
    earlier = {name: warm.parameters[name] for name in names}
    for name in SHAPES:
        if given.get(name, earlier[name]) != earlier[name]:
            raise UsageError(
                f"{warm.name}: its networks have {name} {earlier[name]}, not {given[name]}; leave "
                f"--set {name} out, or train without --warm"
            )
    epochs = max(1, Parameters.chosen(length).epochs // SHARE)
    return Parameters.of({**earlier, "epochs": epochs, **given})


def starts(earlier: Grown | WarmStart, item_ids: Sequence[str], p: Parameters) -> list[Start]:
    """The beginning of each member.

    Parameters
    ----------
    earlier : the networks of the older events, or of a bundle
    item_ids : of the rows to be trained, the first one ""

    Raises
    ------
    UsageError
        The arrays are not those of such networks.
    """
    row_by_id = {item_id: row for row, item_id in enumerate(earlier.item_ids)}
    rows = np.array([row_by_id.get(item_id, -1) for item_id in item_ids])
    found = []
    for member in range(p.members):
        mark = f"{member}."
        numbers = {
            name.removeprefix(mark): value
            for name, value in earlier.numbers.items()
            if name.startswith(mark)
        }
        n = len(earlier.item_ids)
        shapes = {name: getattr(numbers.get(name), "shape", None) for name in ("items", "biases")}
        if shapes != {"items": (n, p.dim), "biases": (n,)}:
            raise UsageError(
                f"{earlier.name}: its network.npz is of another model; train without --warm"
            )
        for name in shapes:
            chosen = numbers[name][rows]
            chosen[rows < 0] = np.nan
            numbers[name] = chosen
        found.append(Start(numbers, earlier.digest))
    return found
