"""Who waits for which record of `answers` and `receipts`. In: records. Out: futures fulfilled.

Knows nothing of HTTP and brokers. A record that nobody waits for is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Struct

from stream.contracts import Cause
from stream.gateway.view import Record


class Place(NamedTuple):
    """Where an erasure stands: partition and offset of its topic."""

    partition: int
    offset: int


class _Answered(Struct, gc=False):
    """What tells whose an answer is; the rest stays as it came."""

    request_id: Annotated[str, msgspec.Meta(max_length=1024)]


class _Received(Struct, gc=False):
    """What tells which erasure a receipt is of."""

    erasure: Cause


_ANSWERED = msgspec.json.Decoder(_Answered)
_RECEIVED = msgspec.json.Decoder(_Received)
_MOST_EARLY = 10_000
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Reply = asyncio.Future[bytes]


class Replies:
    """Futures by what they wait for; several may wait for the same.

    Parameters
    ----------
    erasures : the topic that receipts must be of
    """

    def __init__(self, erasures: str) -> None:
        self._erasures = erasures
        self._by_request: dict[tuple[bytes, str], set[Reply]] = {}
        self._by_erasure: dict[Place, set[Reply]] = {}
        # A receipt may come before the acknowledgement that tells the erasure's place.
        self._early: dict[Place, bytes] | None = None
        self._erasing = 0

    @contextlib.contextmanager
    def answer_to(self, key: bytes, request_id: str) -> Iterator[Reply]:
        """Wait for the answer to a request of the user `key`."""
        reply: Reply = asyncio.get_running_loop().create_future()
        waiting = self._by_request.setdefault((key, request_id), set())
        waiting.add(reply)
        try:
            yield reply
        finally:
            waiting.discard(reply)
            if not waiting and self._by_request.get((key, request_id)) is waiting:
                del self._by_request[key, request_id]
            reply.cancel()

    @contextlib.contextmanager
    def erasing(self) -> Iterator[None]:
        """Keep receipts from before an erasure is sent until its place is known."""
        self._erasing += 1
        if self._early is None:
            self._early = {}
        try:
            yield
        finally:
            self._erasing -= 1
            if not self._erasing:
                self._early = None

    @contextlib.contextmanager
    def receipt_of(self, place: Place) -> Iterator[Reply]:
        """Wait for the receipt of the erasure at `place`; to be called within `erasing`."""
        reply: Reply = asyncio.get_running_loop().create_future()
        if self._early is not None and place in self._early:
            reply.set_result(self._early[place])
        waiting = self._by_erasure.setdefault(place, set())
        waiting.add(reply)
        try:
            yield reply
        finally:
            waiting.discard(reply)
            if not waiting and self._by_erasure.get(place) is waiting:
                del self._by_erasure[place]
            reply.cancel()

    def put_answers(self, records: Iterable[Record]) -> None:
        """Hand answers on."""
        if not self._by_request:
            return
        for record in records:
            if record.value is None or record.key is None:
                continue
            with contextlib.suppress(*_BAD):
                request_id = _ANSWERED.decode(record.value).request_id
                _fulfil(self._by_request.get((record.key, request_id)), record.value)

    def put_receipts(self, records: Iterable[Record]) -> None:
        """Hand receipts on."""
        if self._early is None and not self._by_erasure:
            return
        for record in records:
            if record.value is None:
                continue
            with contextlib.suppress(*_BAD):
                erasure = _RECEIVED.decode(record.value).erasure
                if erasure.topic == self._erasures:
                    place = Place(erasure.partition, erasure.offset)
                    if self._early is not None:
                        self._early[place] = record.value
                        if len(self._early) > _MOST_EARLY:
                            del self._early[next(iter(self._early))]
                    _fulfil(self._by_erasure.get(place), record.value)


def _fulfil(waiting: set[Reply] | None, value: bytes) -> None:
    for reply in waiting or ():
        if not reply.done():
            reply.set_result(value)
