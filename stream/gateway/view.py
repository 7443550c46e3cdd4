"""Each user's newest record of `recommendations`, as it was published, and who waits for the next.

In: records of the topic's partitions, in offset order. Out: bytes by user. Knows nothing of HTTP
and brokers, and never decodes a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from msgspec import Struct

from stream.contracts import partition_of
from stream.errors import SettingsError
from stream.metrics import GATEWAY_USERS


class Held(Struct, frozen=True, gc=False):
    """A user's newest record: its value as it came, and where it stands."""

    value: bytes
    partition: int
    offset: int


class Record(Protocol):
    """What the view looks at of a consumed record. A null value: the user was forgotten."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


class Watcher:
    """One stream's wait for a user's records: the newest alone is kept for it.

    However slow its reader, it holds one record.
    """

    def __init__(self) -> None:
        self.closed = False
        self._changed = asyncio.Event()
        self._newest: Held | None = None

    def put(self, held: Held | None) -> None:
        """A newer record; None: the user was forgotten."""
        self._newest = held
        self._changed.set()

    def close(self) -> None:
        """Nothing will come any more."""
        self.closed = True
        self._changed.set()

    async def next(self) -> Held | None:
        """The newest record since the last call, once there is one; None: forgotten, or closed."""
        await self._changed.wait()
        self._changed.clear()
        newest, self._newest = self._newest, None
        return newest


class View:
    """Lists by user, of some partitions.

    Parameters
    ----------
    partitions : of the topic
    own : those whose users are held here; None: all

    Attributes
    ----------
    loaded : all that was there at the start has been read
    """

    def __init__(self, partitions: int, own: frozenset[int] | None = None) -> None:
        self.partitions = partitions
        self.own = frozenset(range(partitions)) if own is None else own
        self.loaded = False
        self._by_user: dict[bytes, Held] = {}
        self._watchers: dict[bytes, set[Watcher]] = {}

    def __len__(self) -> int:
        return len(self._by_user)

    def put(self, records: Iterable[Record]) -> None:
        """Take records in, in the order of their partition."""
        for record in records:
            key = record.key
            if key is None:
                continue
            value = record.value
            if value is None:
                self._forget(key, record.partition)
                continue
            held = Held(value, record.partition, record.offset)
            self._by_user[key] = held
            for watcher in self._watchers.get(key, ()):
                watcher.put(held)
        GATEWAY_USERS.set(len(self._by_user))

    def _forget(self, key: bytes, partition: int) -> None:
        """A tombstone speaks for its own partition: a user's records may stand in two."""
        held = self._by_user.get(key)
        if held is not None and held.partition == partition:
            del self._by_user[key]
            for watcher in self._watchers.get(key, ()):
                watcher.put(None)

    def get(self, user: bytes) -> Held | None:
        """The newest record of a user; None where there is none."""
        return self._by_user.get(user)

    def elsewhere(self, user: bytes) -> int | None:
        """The partition of a user who is not held here; None for one who is."""
        if len(self.own) == self.partitions:
            return None
        partition = partition_of(user, self.partitions)
        return None if partition in self.own else partition

    def watch(self, user: bytes) -> Watcher:
        """Wait for the records of a user from now on; `leave` ends it."""
        watcher = Watcher()
        self._watchers.setdefault(user, set()).add(watcher)
        return watcher

    def leave(self, user: bytes, watcher: Watcher) -> None:
        """Wait no longer."""
        watchers = self._watchers.get(user, set())
        watchers.discard(watcher)
        if not watchers:
            self._watchers.pop(user, None)

    def close(self) -> None:
        """End every wait."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()


def partitions_named(text: str, partitions: int) -> frozenset[int]:
    """The partitions that `gateway.partitions` names.

    Parameters
    ----------
    text : all, or numbers and ranges with commas between
    partitions : of the topic

    Raises
    ------
    SettingsError : one of them does not exist, or a range runs backwards
    """
    if text == "all":
        return frozenset(range(partitions))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if low > high or high >= partitions:
            raise SettingsError(
                f"gateway.partitions (FRESHET_GATEWAY_PARTITIONS): is {text!r}; {part} must lie "
                f"within 0-{partitions - 1}, for topics.partitions is {partitions}."
            )
        found.update(range(low, high + 1))
    return frozenset(found)
