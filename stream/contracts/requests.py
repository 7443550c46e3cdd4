"""Requests and their answers: the records of both topics, and how a request is read.

In: records of `requests`. Out: requests, or the reason why not. What is answered is the business of
`stream.core.answers`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from stream.contracts.codec import Rejection, check_key, decode_record
from stream.contracts.records import (
    MAX_ID_BYTES,
    EventTimeMs,
    Id,
    ItemKind,
    Label,
    ListedItem,
    Properties,
)
from stream.errors import RecordError

MAX_CANDIDATES: Final = 1000
MAX_EXPLAINED: Final = 100  # of them: each is scored once for every interaction that it may owe

RequestType = Literal["list", "rank", "similar", "together", "trending", "explain", "state"]


class Request(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """A record of `requests`. Key: user_id.

    Attributes
    ----------
    type : `list`, k items of a placement; `rank`, these candidates; `similar` to `item_id`; bought
        `together` with it; `trending` in a kind or category; `explain` why these candidates score
        as they do; `state`, what is known of the user
    user_id : nobody whom Freshet knows: a guest
    placement : whose rules and settings hold; None = the first one of the settings
    k : length of the answer; None = the placement's, and for `rank` all
    candidates : of `rank` and `explain`
    relevance : of `rank`, the caller's own score of each candidate, on any scale
    weight : of `rank`, in [0, 1]: what relevance counts for, against the user's interest
    kind, category : of `trending`
    deadline_ms : what is not answered by then is answered by `late`
    properties : of `list`, what is known of a guest's visit, such as country or campaign
    """

    request_id: Id
    user_id: Id
    type: RequestType
    placement: Label | None = None
    k: Annotated[int, Meta(ge=1, le=1000)] | None = None
    item_id: Id | None = None
    candidates: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=MAX_CANDIDATES)] | None = (
        None
    )
    relevance: Annotated[tuple[float, ...], Meta(max_length=MAX_CANDIDATES)] | None = None
    weight: Annotated[float, Meta(ge=0, le=1)] | None = None
    kind: ItemKind | None = None
    category: Label | None = None
    deadline_ms: EventTimeMs | None = None
    properties: Properties | None = None

    @property
    def user(self) -> str:
        """The user_id as a text."""
        return str(self.user_id)

    @property
    def item(self) -> str:
        """The item_id as a text; empty where there is none."""
        return "" if self.item_id is None else str(self.item_id)

    @property
    def candidate_ids(self) -> list[str]:
        """The candidates as texts."""
        return list(map(str, self.candidates or ()))


# What a list of the caller's own holds and Freshet would not have listed.
Mark = Literal["unknown", "ineligible", "excluded", "repeated"]
Status = Literal["answered", "late", "unknown_item", "unavailable"]


class Because(Struct, frozen=True, gc=False):
    """An interaction and what an item's score owes to it.

    Attributes
    ----------
    share : the score with it less the score without it; below 0 for one that speaks against
    words : the same for people to read, where the settings want it here
    """

    type: str
    item_id: str | None
    event_time_ms: int
    share: float
    words: str | UnsetType = UNSET


class AnsweredItem(ListedItem, frozen=True, gc=False):
    """One line of an answer: a listed item, and where it was asked for more.

    Attributes
    ----------
    score : 0 for an item that nobody knows; of `similar` the cosine of both vectors, of `together`
        the share of the buyers
    mark : of a candidate: `unknown` to catalogue and model; `ineligible` in this placement (of
        another kind, not available, not in the catalogue); `excluded` for this user (bought,
        seen, disliked, as the placement says); `repeated`, given before
    relevance, value : of `rank` with relevance: the caller's score, and what the order is by
    because : of `explain`
    """

    mark: Mark | UnsetType = UNSET
    relevance: float | UnsetType = UNSET
    value: float | UnsetType = UNSET
    because: tuple[Because, ...] | UnsetType = UNSET


class Interaction(Struct, frozen=True, gc=False):
    """What a user did; `item_id` is null for an item that is not known any more."""

    type: str
    item_id: str | None
    event_time_ms: int


class UserState(Struct, frozen=True, gc=False):
    """What the state of a user says.

    Attributes
    ----------
    events : how many were folded, ever
    newest_event_ms : 0 before the first
    interactions : the last ones, newest first by arrival; impressions are not among them
    state_bytes : what is stored of the user
    purchases, spent : how often the user bought, and for how much where prices were told, less what
        was cancelled
    newest_purchase_ms : 0 before the first
    """

    events: int
    newest_event_ms: int
    interactions: tuple[Interaction, ...]
    state_bytes: int
    purchases: int
    spent: float
    newest_purchase_ms: int


class Answer(Struct, frozen=True, gc=False):
    """A record of `answers`: what a request asked for. Key: user_id.

    Attributes
    ----------
    status : `answered`; `late`, after the deadline; `unknown_item`, nobody knows the request's
        item; `unavailable`, nothing here can tell
    known_user : False for a guest, who has no state here
    model : bundle id
    variant : of the placement, that the user gets; "default" where it is the placement itself
    basis : of `together`: `users`, the last interactions of this partition's; or `model`
    settings : revision of the live settings that it was made by, 12 hexadecimal digits
    name : of `list`, for the `list_name` of what is done on it
    """

    request_id: str
    user_id: str
    type: RequestType
    status: Status
    placement: str
    known_user: bool
    model: str
    variant: str
    generated_ms: int
    items: tuple[AnsweredItem, ...] = ()
    basis: Literal["users", "model"] | UnsetType = UNSET
    state: UserState | UnsetType = UNSET
    settings: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


_NEEDED: Final[dict[str, str]] = {
    "rank": "candidates",
    "explain": "candidates",
    "similar": "item_id",
    "together": "item_id",
}


def decode_requests(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], placements: Collection[str]
) -> tuple[list[tuple[int, Request]], list[Rejection]]:
    """Records of `requests` with their positions, and rejections.

    Parameters
    ----------
    placements : names that a request may ask for
    """
    requests, rejections = [], []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            request = decode_record(Request, value)
            _check(request, placements)
            check_key(key, "user_id", request.user_id)
            requests.append((position, request))
        except RecordError as error:
            rejections.append(Rejection(position, error.reason, error.field))
    return requests, rejections


def decode_answer(value: bytes | None) -> Answer:
    """A record of `answers`, of any size: lists may be long. Raises RecordError."""
    return decode_record(Answer, value, max_bytes=sys.maxsize)


def _check(request: Request, placements: Collection[str]) -> None:
    """What no field can say by itself; raises RecordError."""
    needed = _NEEDED.get(request.type)
    if needed is not None and getattr(request, needed) is None:
        raise RecordError("missing_field", needed)
    candidates = request.candidate_ids
    for candidate in candidates:
        # A character has 4 bytes at most.
        if len(candidate) > MAX_ID_BYTES // 4 and len(candidate.encode()) > MAX_ID_BYTES:
            raise RecordError("id_too_long", "candidates")
    if request.type == "explain" and len(candidates) > MAX_EXPLAINED:
        raise RecordError("out_of_range", "candidates")
    if request.relevance is not None and len(request.relevance) != len(candidates):
        raise RecordError("length_mismatch", "relevance")
    if request.placement is not None and request.placement not in placements:
        raise RecordError("unknown_placement", "placement")
