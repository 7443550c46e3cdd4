"""The routes under /v1. In: requests. Out: lists as they were published, acknowledgements, answers.

Knows nothing of brokers: lists come from the view, everything else goes through the producer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from stream.config import Settings
from stream.contracts import MAX_ID_BYTES, Rejection
from stream.errors import BrokerError
from stream.gateway.answers import Accepted, FailureError, Invalid, Pending, Refused, fail
from stream.gateway.lists import placement_of
from stream.gateway.posting import (
    BodyError,
    erasure_of,
    read_records,
    read_request,
)
from stream.gateway.producer import Producer
from stream.gateway.view import Held, View
from stream.listening import answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ANSWER_WITHIN_S: Final = 1.0  # where a request names no deadline
ANSWER_WITHIN_AT_MOST_S: Final = 30.0
BODY_WITHIN_S: Final = 30.0
RECEIPT_WITHIN_S: Final = 10.0
PRIVATE: Final = {"Cache-Control": "no-store"}  # of answers about one user


class Routes:
    """Handlers over a view and a producer."""

    def __init__(self, settings: Settings, view: View, producer: Producer) -> None:
        self._settings = settings
        self._view = view
        self._producer = producer

    async def lists(self, request: web.Request) -> web.Response:
        """GET: the newest record of a user, as it was published."""
        return answer(self.held(user_of(request)).value, headers=PRIVATE)

    async def list_of(self, request: web.Request) -> web.Response:
        """GET: one placement of it."""
        held = self.held(user_of(request))
        placement = request.match_info["placement"]
        found = placement_in(held, placement)
        if found is None:
            raise fail(
                404,
                "no_placement",
                "this user's lists have no such placement: GET /v1/users/{user_id}/lists has all",
            )
        return answer(found, headers=PRIVATE)

    def held(self, user: str) -> Held:
        """The newest record of a user; raises FailureError."""
        key = user.encode()
        found = self._view.get(key)
        if found is not None:
            return found
        self.require_here(key)
        if not self._view.loaded:
            raise fail(
                503,
                "not_ready",
                "the lists are being read: ask again when GET /readyz is 200",
                {"Retry-After": "1"},
            )
        raise fail(404, "no_list", "nothing was published for this user: send an event first")

    def require_here(self, key: bytes) -> None:
        """Raise FailureError for a user of a partition that another gateway holds."""
        partition = self._view.elsewhere(key)
        if partition is not None:
            raise fail(
                421,
                "other_partition",
                f"this user is of partition {partition}: ask the gateway that holds it "
                f"(gateway.partitions)",
                partition=partition,
            )

    def post(self, kind: str) -> Handler:
        """POST: records of a topic, by the field of `Topics` that names it."""
        topic = getattr(self._settings.topics, kind)

        async def handle(request: web.Request) -> web.Response:
            body = await body_of(request)
            try:
                records = read_records(kind, body, _now_ms())
            except BodyError as error:
                raise fail(400, error.error, error.message) from None
            if records.rejections:
                raise invalid(records.rejections)
            await self._send(topic, records.keys, records.values)
            return answer(Accepted(len(records.values)), 202)

        return handle

    async def _send(self, topic: str, keys: list[bytes], values: list[bytes]) -> None:
        try:
            await self._producer.send(topic, keys, values)
        except BrokerError as error:
            raise broker_away(error) from None

    async def ask(self, request: web.Request) -> web.Response:
        """POST: a request, and its answer."""
        found = read_request(await body_of(request), self._settings.placements)
        if isinstance(found, list):
            raise invalid(found)
        key, value, asked = found
        self.require_here(key)
        wait_s = ANSWER_WITHIN_S
        if asked.deadline_ms is not None:
            left_s = (asked.deadline_ms - _now_ms()) / 1000
            wait_s = min(ANSWER_WITHIN_AT_MOST_S, max(0.0, left_s))
        try:
            answered = await self._producer.ask(key, value, str(asked.request_id), wait_s)
        except BrokerError as error:
            raise broker_away(error) from None
        if answered is None:
            raise fail(
                504,
                "no_answer",
                "no worker answered by the deadline: ask for more time with deadline_ms, or look "
                "whether workers run",
            )
        return answer(answered, headers=PRIVATE)

    async def forget(self, request: web.Request) -> web.Response:
        """DELETE: an erasure, and its receipt."""
        user = user_of(request)
        found = erasure_of(user, _now_ms())
        if isinstance(found, list):
            raise invalid(found)
        key, value = found
        self.require_here(key)
        try:
            receipt = await self._producer.forget(key, value, RECEIPT_WITHIN_S)
        except BrokerError as error:
            raise broker_away(error) from None
        if receipt is None:
            return answer(Pending("pending"), 202, PRIVATE)
        return answer(receipt, headers=PRIVATE)


def placement_in(held: Held, placement: str) -> bytes | None:
    """One placement of a record; raises FailureError where that is none."""
    try:
        return placement_of(held.value, placement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise fail(
            502,
            "unreadable_list",
            "what stands on the topic of recommendations for this user is no record of Freshet's",
        ) from None


def user_of(request: web.Request) -> str:
    """The user of a path; raises FailureError for an id that nobody can have."""
    user = request.match_info["user_id"]
    try:
        size = len(user.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_ID_BYTES:
        raise fail(400, "bad_user_id", f"a user_id has 1 to {MAX_ID_BYTES} bytes of UTF-8")
    return user


async def body_of(request: web.Request) -> bytes:
    """The body of a POST, which must be JSON: a page of another origin can't send that unasked."""
    if request.content_type != "application/json":
        raise fail(415, "not_json", "send JSON, with the header Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except TimeoutError:
        message = f"the body did not come within {BODY_WITHIN_S:g} s: send it in one go"
        raise fail(408, "body_too_slow", message) from None
    except web.RequestPayloadError:
        raise fail(400, "bad_body", "the body is not packed as Content-Encoding says") from None


def invalid(rejections: list[Rejection]) -> FailureError:
    """What refuses a body for its records."""
    refused = tuple(Refused(*rejection) for rejection in rejections)
    message = "nothing was sent: mend these records, or leave them out"
    return FailureError(400, Invalid("invalid", message, refused))


def broker_away(error: BrokerError) -> FailureError:
    return fail(
        503,
        "broker_away",
        f"{error}; it may have been taken all the same: send it again, with an event_id it counts "
        f"once",
        {"Retry-After": "1"},
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
