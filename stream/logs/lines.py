"""A line of a log and its event. In: JSON. Out: what the worker's decoder takes, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from stream.contracts import PURCHASE_TYPES, Kind, decode_events

BadLines = list[tuple[int, str]]


class Event(msgspec.Struct):
    """What Freshet's own tools look at in an event; its other fields pass, and are not checked."""

    user_id: str | int
    item_id: str | int
    type: str
    event_time_ms: int
    session_id: str | int | None = None
    quantity: float | None = None
    unit_price: float | None = None


class LoggedEvent(NamedTuple):
    """One good line: the record for its topic, and what it says.

    Attributes
    ----------
    number : of the line in the file, from 1
    kind : which topic it belongs on
    key, value : the record's bytes
    title : of the item, where the log has one
    """

    number: int
    kind: Kind
    key: bytes
    value: bytes
    event: Event
    title: str | None


class Line(NamedTuple):
    """One event as it stands in a log; a line of a file may hold several.

    Attributes
    ----------
    value : the event as JSON
    """

    number: int
    value: bytes
    title: str | None = None


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
    for number, value, title in lines:
        try:
            event = _DECODER.decode(value)
            key = str(event.user_id).encode()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            shape = isinstance(error, msgspec.ValidationError)
            bad.append((number, str(error) if shape else "is not JSON"))
            continue
        kind: Kind = "purchases" if event.type in PURCHASE_TYPES else "clicks"
        of_kind[kind].append(LoggedEvent(number, kind, key, value, event, title))
    good: list[LoggedEvent] = []
    for kind, found in of_kind.items():
        keys, values = [line.key for line in found], [line.value for line in found]
        events, rejections = decode_events(kind, keys, values, range(len(found)), now_ms)
        for position, reason, field in rejections:
            bad.append((found[position].number, f"{reason} ({field})" if field else reason))
        good += [found[position] for position in events.offsets.tolist()]
    return sorted(good, key=lambda line: line.number)
