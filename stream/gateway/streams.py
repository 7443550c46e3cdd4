"""Server-sent events: a user's lists as they come. In: a watcher. Out: one event a record, at most.

A reader that is slow misses records, never the newest: one waits for it, and no more is kept than
that and what the socket holds.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from stream.gateway.answers import FailureError, fail
from stream.gateway.lists import one_line
from stream.gateway.routes import Routes, placement_in, user_of
from stream.gateway.view import Held, View, Watcher
from stream.metrics import GATEWAY_STREAMS

HEARTBEAT_S: Final = 15.0
LOOK_EVERY_S: Final = 1.0  # whether the reader is still there
WRITE_WITHIN_S: Final = 60.0  # a reader that takes nothing for so long is let go
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy would collect events
}


class Streams:
    """The streams that are open, `most` at once."""

    def __init__(self, routes: Routes, view: View, most: int) -> None:
        self._routes = routes
        self._view = view
        self._most = most
        self._open = 0
        self._closing = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """GET: the current record at once, then each new one."""
        user = user_of(request).encode()
        self._routes.require_here(user)
        if self._open >= self._most or self._closing:
            raise fail(
                503,
                "too_many_streams",
                f"{self._most} streams are open (gateway.max_streams): ask again later",
                {"Retry-After": "5"},
            )
        watcher = self._view.watch(user)
        self._count(1)
        try:
            current = self._view.get(user)
            if current is not None:
                watcher.put(current)
            return await _follow(request, watcher)
        finally:
            self._view.leave(user, watcher)
            self._count(-1)

    def _count(self, more: int) -> None:
        self._open += more
        GATEWAY_STREAMS.set(self._open)

    async def close(self) -> None:
        """End them all."""
        self._closing = True
        self._view.close()


async def _follow(request: web.Request, watcher: Watcher) -> web.StreamResponse:
    placement = request.query.get("placement")
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    await _write(response, b"retry: 2000\n\n")
    silent_s = 0.0
    while True:
        try:
            held = await asyncio.wait_for(watcher.next(), LOOK_EVERY_S)
        except TimeoutError:
            if request.transport is None or request.transport.is_closing():
                return response  # whoever asked has left
            silent_s += LOOK_EVERY_S
            if silent_s >= HEARTBEAT_S:
                await _write(response, b": still here\n\n")
                silent_s = 0.0
            continue
        silent_s = 0.0
        if watcher.closed:
            return response
        event = _event(held, placement)
        if event is not None:
            await _write(response, event)


def _event(held: Held | None, placement: str | None) -> bytes | None:
    """A record as an event; None where it says nothing of the placement."""
    if held is None:
        return b"event: forgotten\ndata: {}\n\n"
    value: bytes | None = held.value
    if placement is not None:
        try:
            value = placement_in(held, placement)
        except FailureError:  # no record of lists: the next one may be
            return None
    if value is None:
        return None
    return b"event: lists\nid: %d:%d\ndata: %b\n\n" % (
        *(held.partition, held.offset),
        one_line(value),
    )


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        await asyncio.wait_for(response.write(data), WRITE_WITHIN_S)
    except TimeoutError:
        raise ConnectionResetError("a stream's reader takes nothing") from None
