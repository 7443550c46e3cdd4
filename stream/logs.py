"""Logs of events on disk. In: a file and its format. Out: records as the topics hold them.

`freshet replay` and `freshet-export` both read by this room, so that what is sent is what was
trained on. Every record that comes out was read by the worker's own decoder: none of it ends among
the dead letters. Bad lines are told by number. Knows nothing of brokers, models or arrays.
"""

from __future__ import annotations

import csv
import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec

from stream.contracts import PURCHASE_TYPES, Kind, decode_events
from stream.errors import UsageError

_CHUNK_LINES: Final = 1024

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


class _Line(NamedTuple):
    number: int
    value: bytes  # the event as JSON
    title: str | None = None


def read_events(
    path: Path,
    log_format: str,
    bad: BadLines,
    advance: Callable[[int], object] = lambda read_bytes: None,
) -> Iterator[LoggedEvent]:
    """Yield the good events of a log in the order of its lines.

    Parameters
    ----------
    path : plain or gzip, whatever its name
    log_format : a key of `FORMATS`
    bad : gets (line number, reason) of the lines that cannot be used
    advance : told the bytes read from the file since the last call

    Raises
    ------
    UsageError : no such file or format, or not what the format says as a whole
    """
    if log_format not in FORMATS:
        raise UsageError(f"format {log_format!r} is not one of {', '.join(FORMATS)}")
    now_ms = time.time_ns() // 1_000_000
    try:
        with path.open("rb") as raw, _unpacked(raw) as text:
            lines = FORMATS[log_format](text, bad)
            told = 0
            while chunk := list(islice(lines, _CHUNK_LINES)):
                yield from _decode(chunk, bad, now_ms)
                advance(raw.tell() - told)
                told = raw.tell()
            advance(raw.tell() - told)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the path of an event log") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a text or gzip file") from error
    except _OtherFormatError as error:
        raise UsageError(f"{path}: not {log_format}, {error}: is --format right?") from None


class _OtherFormatError(Exception):
    pass


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return gzip.open(raw, "rb") if packed else raw  # type: ignore[return-value]


_DECODER: Final = msgspec.json.Decoder(Event)


def _decode(chunk: list[_Line], bad: BadLines, now_ms: int) -> list[LoggedEvent]:
    """Decode some lines, each by its own kind; the good ones in line order."""
    of_kind: dict[Kind, list[LoggedEvent]] = {"clicks": [], "purchases": []}
    for number, value, title in chunk:
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
    for kind, lines in of_kind.items():
        keys, values = [line.key for line in lines], [line.value for line in lines]
        events, rejections = decode_events(kind, keys, values, range(len(lines)), now_ms)
        for position, reason, field in rejections:
            bad.append((lines[position].number, f"{reason} ({field})" if field else reason))
        good += [lines[position] for position in events.offsets.tolist()]
    return sorted(good, key=lambda line: line.number)


def _events(text: IO[bytes], bad: BadLines) -> Iterator[_Line]:
    """Freshet's own: a line is the JSON object of `clicks` or `purchases`."""
    for number, line in enumerate(text, 1):
        if value := line.strip():
            yield _Line(number, value)


def _online_retail(text: IO[bytes], bad: BadLines) -> Iterator[_Line]:
    """UCI Online Retail as CSV: what known customers bought and cancelled.

    A `C` before the invoice number makes a cancellation. Left out without a word, for they are no
    shopper's choice of a product: lines without a customer, stock corrections, postage and fees (a
    stock code is a product when it starts with five digits; its case varies in the file), and
    repeated lines of an invoice.
    """
    names = (
        *("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"),
        "CustomerID",
    )
    seen: set[tuple[str, str]] = set()

    def event(cells: list[str]) -> tuple[dict[str, Any], str] | None:
        invoice, stock_code, title, count, date, price, customer = cells
        item_id, quantity = stock_code.strip().upper(), int(count)
        cancelled = invoice.startswith("C")
        usable = customer and item_id[:5].isdigit() and (quantity > 0) != cancelled
        if not usable or (invoice, item_id) in seen:
            return None
        fields = {
            "user_id": customer.split(".")[0],
            "item_id": item_id,
            "type": "cancel" if cancelled else "purchase",
            "event_time_ms": _moment_ms(date),
            "session_id": invoice,
            "quantity": abs(quantity),
            "unit_price": float(price),
            "currency": "GBP",
        }
        seen.add((invoice, item_id))
        return fields, title.strip()

    return _csv(text, bad, names, event)


def _rees46(text: IO[bytes], bad: BadLines) -> Iterator[_Line]:
    """REES46 shop logs as CSV: view, cart, remove_from_cart and purchase events."""
    names = ("event_time", "event_type", "product_id", "price", "user_id", "user_session")
    types = {"cart": "add_to_cart"}

    def event(cells: list[str]) -> tuple[dict[str, Any], None]:
        date, given, product_id, price, user_id, session_id = cells
        name = types.get(given, given)
        fields: dict[str, Any] = {
            "user_id": user_id,
            "item_id": product_id,
            "type": name,
            "event_time_ms": _moment_ms(date.removesuffix(" UTC")),
        }
        if session_id:  # a few lines of the published files lack it
            fields["session_id"] = session_id
        if name == "purchase":
            fields["unit_price"] = float(price)
        return fields, None

    return _csv(text, bad, names, event)


def _moment_ms(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp() * 1000)


def _csv(
    text: IO[bytes],
    bad: BadLines,
    names: tuple[str, ...],
    event: Callable[[list[str]], tuple[dict[str, Any], str | None] | None],
) -> Iterator[_Line]:
    """Turn rows into events by `event`, which gets the columns `names` and leaves out by None."""
    rows = csv.reader(line.decode("utf-8", "replace") for line in text)
    head = next(rows, [])
    if missing := [name for name in names if name not in head]:
        raise _OtherFormatError(f"no column {', '.join(missing)}")
    columns = [head.index(name) for name in names]
    while True:
        try:
            cells = next(rows)
            if not cells:
                continue
            if len(cells) < len(head):
                raise ValueError(f"{len(cells)} columns, the header has {len(head)}")
            found = event([cells[column] for column in columns])
        except StopIteration:
            return
        except (ValueError, OverflowError, csv.Error) as error:
            bad.append((rows.line_num, str(error)))
            continue
        if found is not None:
            fields, title = found
            yield _Line(rows.line_num, msgspec.json.encode(fields), title)


FORMATS: Final[dict[str, Callable[[IO[bytes], BadLines], Iterator[_Line]]]] = {
    "events": _events,
    "online-retail": _online_retail,
    "rees46": _rees46,
}
