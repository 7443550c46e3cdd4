"""Logs of events on disk. In: a file. Out: records ready to be sent, and the bad lines by number.

Everything that comes out was read by the worker's own decoder, so that none of it ends among the
dead letters. Knows nothing of brokers.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec
import numpy as np

from stream.contracts import PURCHASE_TYPES, Kind, decode_events
from stream.errors import UsageError

_CHUNK_LINES = 1024


class Line(NamedTuple):
    """One line of a log as an event's JSON."""

    number: int
    value: bytes


class _Head(msgspec.Struct):
    """What tells a line's key and topic; the rest is the decoder's business."""

    user_id: str | int
    type: str


_HEAD = msgspec.json.Decoder(_Head)


@dataclass
class Log:
    """Good events in event-time order, and what was wrong with the rest.

    Attributes
    ----------
    times_ms : event times, ascending
    kinds, keys, values : of the events, in the same order
    bad : (line number, reason), in line order
    """

    times_ms: list[int] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    bad: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.times_ms)

    def sort(self) -> None:
        """Put the events into event-time order; those of one time keep theirs."""
        times = np.array(self.times_ms, np.int64)
        if np.all(times[1:] >= times[:-1]):
            return
        order = np.argsort(times, kind="stable").tolist()
        self.times_ms = [self.times_ms[position] for position in order]
        self.kinds = [self.kinds[position] for position in order]
        self.keys = [self.keys[position] for position in order]
        self.values = [self.values[position] for position in order]


def read_log(path: Path, log_format: str, advance: Callable[[int], object]) -> Log:
    """Read a whole log into memory (about 400 bytes an event).

    Parameters
    ----------
    path : plain or gzip, whatever its name
    log_format : a key of `FORMATS`
    advance : told the bytes read from the file since the last call

    Raises
    ------
    UsageError : the file cannot be read, or is not what the format says as a whole
    """
    log = Log()
    now_ms = time.time_ns() // 1_000_000
    try:
        with path.open("rb") as raw, _unpacked(raw) as text:
            lines = FORMATS[log_format](text, log.bad)
            told = 0
            while chunk := list(islice(lines, _CHUNK_LINES)):
                _add(log, chunk, now_ms)
                advance(raw.tell() - told)
                told = raw.tell()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    log.bad.sort()
    log.sort()
    return log


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return gzip.open(raw, "rb") if packed else raw  # type: ignore[return-value]


def _add(log: Log, chunk: list[Line], now_ms: int) -> None:
    """Decode some lines, each by its own kind, and add the good ones in line order."""
    of_kind: dict[Kind, list[tuple[Line, bytes]]] = {"clicks": [], "purchases": []}
    for line in chunk:
        try:
            head = _HEAD.decode(line.value)
            key = str(head.user_id).encode()
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            shape = isinstance(error, msgspec.ValidationError)
            log.bad.append((line.number, str(error) if shape else "is not JSON"))
            continue
        kind: Kind = "purchases" if head.type in PURCHASE_TYPES else "clicks"
        of_kind[kind].append((line, key))
    good: list[tuple[int, int, Kind, bytes, bytes]] = []
    for kind, lines in of_kind.items():
        numbers = [line.number for line, _ in lines]
        keys = [key for _, key in lines]
        values = [line.value for line, _ in lines]
        events, rejections = decode_events(kind, keys, values, range(len(lines)), now_ms)
        for position, reason, at in rejections:
            log.bad.append((numbers[position], f"{reason} ({at})" if at else reason))
        for position, time_ms in zip(
            events.offsets.tolist(), events.times_ms.tolist(), strict=True
        ):
            good.append((numbers[position], time_ms, kind, keys[position], values[position]))
    for _, time_ms, kind, key, value in sorted(good, key=lambda event: event[0]):
        log.times_ms.append(time_ms)
        log.kinds.append(kind)
        log.keys.append(key)
        log.values.append(value)


def _events(text: IO[bytes], bad: list[tuple[int, str]]) -> Iterator[Line]:
    """Freshet's own: a line is the JSON object of `clicks` or `purchases`."""
    for number, line in enumerate(text, 1):
        if value := line.strip():
            yield Line(number, value)


def _online_retail(text: IO[bytes], bad: list[tuple[int, str]]) -> Iterator[Line]:
    """UCI Online Retail as CSV: invoice lines; a `C` before the number makes a cancellation."""

    def event(row: dict[str, str]) -> dict[str, Any]:
        at = datetime.fromisoformat(row["InvoiceDate"]).replace(tzinfo=UTC)
        return {
            "user_id": str(int(float(row["CustomerID"]))),
            "item_id": row["StockCode"],
            "type": "cancel" if row["InvoiceNo"].startswith("C") else "purchase",
            "event_time_ms": int(at.timestamp() * 1000),
            "session_id": row["InvoiceNo"],
            "quantity": abs(int(row["Quantity"])),
            "unit_price": float(row["UnitPrice"]),
            "currency": "GBP",
        }

    return _csv(text, bad, event)


def _rees46(text: IO[bytes], bad: list[tuple[int, str]]) -> Iterator[Line]:
    """REES46 shop logs as CSV: view, cart, remove_from_cart and purchase events."""
    names = {"cart": "add_to_cart"}

    def event(row: dict[str, str]) -> dict[str, Any]:
        at = datetime.fromisoformat(row["event_time"].removesuffix(" UTC")).replace(tzinfo=UTC)
        name = names.get(row["event_type"], row["event_type"])
        fields: dict[str, Any] = {
            "user_id": row["user_id"],
            "item_id": row["product_id"],
            "type": name,
            "event_time_ms": int(at.timestamp() * 1000),
            "session_id": row["user_session"],
        }
        return fields | ({"unit_price": float(row["price"])} if name == "purchase" else {})

    return _csv(text, bad, event)


def _csv(
    text: IO[bytes], bad: list[tuple[int, str]], event: Callable[[dict[str, str]], dict[str, Any]]
) -> Iterator[Line]:
    rows = csv.DictReader(line.decode("utf-8", "replace") for line in text)
    for row in rows:
        try:
            fields = event(row)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            bad.append((rows.line_num, str(error)))
        except KeyError as error:
            raise UsageError(f"the log has no column {error}: is --format right?") from error
        else:
            yield Line(rows.line_num, json.dumps(fields).encode())


FORMATS: dict[str, Callable[[IO[bytes], list[tuple[int, str]]], Iterator[Line]]] = {
    "events": _events,
    "online-retail": _online_retail,
    "rees46": _rees46,
}
