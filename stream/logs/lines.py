"""A line of a log and its event. In: JSON. Out: what the worker's decoder takes, or why not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from stream.contracts import (
    MAX_AHEAD_MS,
    MIN_EVENT_TIME_MS,
    PURCHASE_TYPES,
    Kind,
    decode_events,
)

_VALUES: Final = re.compile(r"'.*'|\d+", re.DOTALL)


class BadLines(list[tuple[int, str]]):
    """Lines that cannot be used: (number, reason).

    Attributes
    ----------
    passed_over : reason -> lines that are sound and no event, such as postage
    """

    def __init__(self, bad: Iterable[tuple[int, str]] = ()) -> None:
        super().__init__(bad)
        self.passed_over: Counter[str] = Counter()

    def reasons(self) -> Counter[str]:
        """Reason -> lines, bad ones and passed over; without what is in a single line alone."""
        return self.passed_over + Counter(_VALUES.sub("...", reason) for _, reason in self)


class Event(msgspec.Struct):
    """What Freshet's own tools look at in an event; its other fields pass, and are not checked."""

    user_id: str | int
    item_id: str | int
    type: str
    event_time_ms: int
    event_id: str | int | None = None
    session_id: str | int | None = None
    quantity: float | None = None
    unit_price: float | None = None
    properties: dict[str, Any] | None = None

    @property
    def rating(self) -> float | None:
        """`properties.rating`, when it is a number."""
        rating = None if self.properties is None else self.properties.get("rating")
        return rating if type(rating) in (int, float) else None


class LoggedEvent(NamedTuple):
    """One good line: the record for its topic, and what it says.

    Attributes
    ----------
    number : of the line in the file, from 1
    kind : which topic it belongs on
    key, value : the record's bytes
    about : title, category, brand, price of the item, as far as the line has them
    """

    number: int
    kind: Kind
    key: bytes
    value: bytes
    event: Event
    about: Mapping[str, str]


class Line(NamedTuple):
    """One event as it stands in a log; a line of a file may hold several.

    Attributes
    ----------
    value : the event as JSON
    about : see `LoggedEvent`
    """

    number: int
    value: bytes
    about: Mapping[str, str] = {}


class OtherFormatError(Exception):
    """The file as a whole is not what its format says; the message says by what."""


_DECODER: Final = msgspec.json.Decoder(Event)


def decode_lines(lines: Sequence[Line], bad: BadLines, now_ms: int) -> list[LoggedEvent]:
    """Decode some lines, each by its own kind; the good ones in line order.

    Parameters
    ----------
    bad : gets (line number, reason) of the others
    now_ms : the clock, to refuse events from the future
    """
    of_kind: dict[Kind, list[LoggedEvent]] = {"clicks": [], "purchases": []}
    for number, value, about in lines:
        try:
            event = _DECODER.decode(value)
            key = str(event.user_id).encode()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            shape = isinstance(error, msgspec.ValidationError)
            bad.append((number, str(error) if shape else "is not JSON"))
            continue
        kind: Kind = "purchases" if event.type in PURCHASE_TYPES else "clicks"
        of_kind[kind].append(LoggedEvent(number, kind, key, value, event, about))
    good: list[LoggedEvent] = []
    for kind, found in of_kind.items():
        keys, values = [line.key for line in found], [line.value for line in found]
        events, rejections = decode_events(kind, keys, values, range(len(found)), now_ms)
        for position, reason, field in rejections:
            told = f"{reason} ({field})" if field else reason
            if reason == "event_time_too_old" and _in_seconds(found[position].event, now_ms):
                told += ": looks like seconds; write milliseconds"
            bad.append((found[position].number, told))
        good += [found[position] for position in events.offsets.tolist()]
    return sorted(good, key=lambda line: line.number)


def _in_seconds(event: Event, now_ms: int) -> bool:
    """Whether its time would do if it were seconds since 1970."""
    return MIN_EVENT_TIME_MS <= event.event_time_ms * 1000 <= now_ms + MAX_AHEAD_MS
