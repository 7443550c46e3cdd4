"""Answers that say what went wrong: `{"error": reason, "message": what to do}`.

In: a reason. Out: a status, and what becomes JSON. No message holds a token; ids alone that the
caller sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType


class Accepted(Struct, frozen=True):
    """What was posted stands on its topic, acknowledged.

    Attributes
    ----------
    accepted : how many records
    """

    accepted: int


class Pending(Struct, frozen=True):
    """The erasure stands on its topic, and no receipt came yet.

    Attributes
    ----------
    status : `pending`
    """

    status: str


class Failure(Struct, frozen=True, omit_defaults=True):
    """Why a request was not done.

    Attributes
    ----------
    error : the reason, one of a fixed set
    message : what to do about it
    partition : of `other_partition`, the user's
    """

    error: str
    message: str
    partition: int | UnsetType = UNSET


class Refused(Struct, frozen=True, omit_defaults=True):
    """A record of the body that a worker could not use.

    Attributes
    ----------
    index : its place in the array, from 0; 0 for an object alone
    reason : as dead letters have it
    field : the field at fault, where it is one
    """

    index: int
    reason: str
    field: str | None = None


class Invalid(Struct, frozen=True):
    """Nothing was sent, for some records of the body cannot be used.

    Attributes
    ----------
    error : `invalid`
    rejections : one for each of those records
    """

    error: str
    message: str
    rejections: tuple[Refused, ...]


class FailureError(Exception):
    """A request that is not done; the middleware makes an answer of it."""

    def __init__(
        self,
        status: int,
        body: Failure | Invalid,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(body.error)
        self.status = status
        self.body = body
        self.headers = headers or {}


def fail(
    status: int, error: str, message: str, headers: Mapping[str, str] | None = None, **more: Any
) -> FailureError:
    """An error to raise."""
    return FailureError(status, Failure(error, message, **more), headers)
