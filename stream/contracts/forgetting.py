"""Erasures and their receipts, as types: the records by which users are forgotten."""

from __future__ import annotations

from msgspec import Struct

from stream.contracts.records import Cause, EventTimeMs, Id


class Erasure(Struct, frozen=True, gc=False):
    """A record of `erasures`: forget this user. Key: user_id; null: it is done.

    Attributes
    ----------
    event_time_ms : events of the user up to here will not bring the user back
    """

    user_id: Id
    event_time_ms: EventTimeMs

    @property
    def user(self) -> str:
        """The user_id as a text."""
        return str(self.user_id)


class Receipt(Struct, frozen=True, gc=False):
    """A record of `receipts`: an erasure is done. Key: `user_hash`.

    Attributes
    ----------
    user_hash : hexadecimal; of the user id (or its pseudonym), salted by the partition's own salt
    erasure : the record that asked for it; its event_time_ms is the user's newest that is gone
    removed : topics whose records of the user are replaced by tombstones
    copies_until_ms : topic -> when its last copy of the user's records will be gone by the topic's
        own settings, as they are now; null where these keep it for ever
    completed_ms : when the last removal was acknowledged
    copies_unknown : topics that may hold copies too; the brokers did not tell their settings
    without_user_ids : what else Freshet keeps: topics on which no record holds an id of a user
    """

    user_hash: str
    erasure: Cause
    removed: tuple[str, ...]
    copies_until_ms: dict[str, int | None]
    completed_ms: int
    copies_unknown: tuple[str, ...] = ()
    without_user_ids: tuple[str, ...] = ()
