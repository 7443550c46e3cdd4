"""Decoded events, as columns. In: nothing. Out: what the codec gives and the fold takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream.contracts.records import Properties


@dataclass(slots=True)
class Events:
    """The n good events of a record batch as columns, in offset order.

    Attributes
    ----------
    users : n user ids in UTF-8, equal to the records' keys
    items : n item ids
    types : uint8, shape (n,); `EventType`
    times_ms : int64, shape (n,); event time
    event_hashes : uint32, shape (n,); 0 = the record had no event_id
    offsets : int64, shape (n,)
    amounts : float64, shape (n,), finite, >= 0; quantity times unit price of a purchase or a
        cancellation, 0 where it does not say its price
    placements : n names of the placements that the events name, None where one names none
    list_names : n names of the lists that the events name, None where one names none
    properties : n, as the events have them
    """

    users: list[bytes]
    items: list[str]
    types: npt.NDArray[np.uint8]
    times_ms: npt.NDArray[np.int64]
    event_hashes: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    amounts: npt.NDArray[np.float64]
    placements: list[str | None]
    list_names: list[str | None]
    properties: list[Properties | None]

    def __len__(self) -> int:
        return len(self.users)

    def tail(self, first: int) -> Events:
        """Events from position `first` on."""
        if first == 0:
            return self
        return Events(
            self.users[first:],
            self.items[first:],
            self.types[first:],
            self.times_ms[first:],
            self.event_hashes[first:],
            self.offsets[first:],
            self.amounts[first:],
            self.placements[first:],
            self.list_names[first:],
            self.properties[first:],
        )

    def take(self, at: npt.NDArray[np.int64]) -> Events:
        """The events at these positions."""
        chosen = at.tolist()
        return Events(
            [self.users[position] for position in chosen],
            [self.items[position] for position in chosen],
            self.types[at],
            self.times_ms[at],
            self.event_hashes[at],
            self.offsets[at],
            self.amounts[at],
            [self.placements[position] for position in chosen],
            [self.list_names[position] for position in chosen],
            [self.properties[position] for position in chosen],
        )

    @classmethod
    def none(cls) -> Events:
        """No events."""
        numbers = np.empty(0, np.int64)
        types, hashes, amounts = np.empty(0, np.uint8), np.empty(0, np.uint32), np.empty(0)
        return cls([], [], types, numbers, hashes, numbers, amounts, [], [], [])

    @classmethod
    def join(cls, parts: Sequence[Events]) -> Events:
        """The events of several batches, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            [user for part in parts for user in part.users],
            [item for part in parts for item in part.items],
            np.concatenate([part.types for part in parts]),
            np.concatenate([part.times_ms for part in parts]),
            np.concatenate([part.event_hashes for part in parts]),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.amounts for part in parts]),
            [placement for part in parts for placement in part.placements],
            [name for part in parts for name in part.list_names],
            [properties for part in parts for properties in part.properties],
        )
