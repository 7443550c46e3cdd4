"""Read an event log. In: a file and its format. Out: a `Log`, the columns training works on.

Formats: `online-retail` (the CSV of UCI Online Retail) and `events` (Freshet's own records, one
JSON object a line, as on the topics); both plain or gzip. A line that cannot be used ends the
reading with its number.

Must not know: models, ONNX.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts import EVENT_TYPES, EventType
from stream.errors import UsageError

SESSION_GAP_MS = 30 * 60_000  # events of a user closer than this belong together


@dataclass(slots=True, eq=False)
class Log:
    """Events in time order, as columns.

    Attributes
    ----------
    users, items : ids; the codes in `user` and `item` index them
    user, item : int64, shape (n,)
    event_type : int64, shape (n,), codes of `EventType`
    time_ms : int64, shape (n,), ascending
    session : int64, shape (n,); equal for the events of one basket or visit of one user
    quantity, price : float64, shape (n,); 1 and 0 where the log does not say
    titles : title by item id, where the log has them
    """

    users: list[str]
    items: list[str]
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    event_type: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    session: npt.NDArray[np.int64]
    quantity: npt.NDArray[np.float64]
    price: npt.NDArray[np.float64]
    titles: dict[str, str]

    def __len__(self) -> int:
        return len(self.user)

    def select(self, mask: npt.NDArray[np.bool_]) -> Log:
        """The events where `mask` holds. Codes keep their meaning."""
        columns = ("user", "item", "event_type", "time_ms", "session", "quantity", "price")
        chosen = {name: getattr(self, name)[mask] for name in columns}
        return Log(self.users, self.items, **chosen, titles=self.titles)

    def before(self, time_ms: int) -> Log:
        """The events before a moment."""
        return self.select(self.time_ms < time_ms)

    @property
    def ends(self) -> str:
        """ISO 8601 time of the newest event."""
        newest = int(self.time_ms[-1]) / 1000
        return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")


def read_log(path: Path, format_name: str) -> Log:
    """Read a log.

    Raises
    ------
    UsageError
        No such file or format, a line that cannot be used (with its number), or no event at all.
    """
    reader = FORMATS.get(format_name)
    if reader is None:
        raise UsageError(f"format {format_name!r} is not one of {', '.join(sorted(FORMATS))}")
    try:
        log = reader(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the path of an event log") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text ({error.reason}); convert it first") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a text or gzip file") from None
    if len(log) == 0:
        raise UsageError(f"{path}: holds no event that can be used as {format_name}")
    return log


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a plain or gzip text file for reading."""
    with open(path, "rb") as probe:
        packed = probe.read(2) == b"\x1f\x8b"
    if packed:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            yield lines
    else:
        with open(path, encoding="utf-8", newline="") as lines:
            yield lines


class _Columns:
    """Rows collected in file order; `log` sorts them and numbers ids by first appearance."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.sessions: dict[str, int] = {}
        self.rows: list[tuple[int, int, int, int, int, float, float]] = []

    def add(
        self,
        *,
        user: str,
        item: str,
        event_type: int,
        time_ms: int,
        session: str | None,
        quantity: float,
        price: float,
    ) -> None:
        key = -1
        if session is not None:  # a session id is one user's: two users may both have "1"
            key = self.sessions.setdefault(f"{user}\0{session}", len(self.sessions))
        self.rows.append(
            (
                self.users.setdefault(user, len(self.users)),
                self.items.setdefault(item, len(self.items)),
                event_type,
                time_ms,
                key,
                quantity,
                price,
            )
        )

    def log(self, titles: dict[str, str]) -> Log:
        ordered = sorted(self.rows, key=lambda row: row[3])  # stable: file order within a moment
        columns = [np.array(column) for column in zip(*ordered, strict=True)] or [np.empty(0)] * 7
        user, item, event_type, time_ms, session = (c.astype(np.int64) for c in columns[:5])
        return Log(
            list(self.users),
            list(self.items),
            user,
            item,
            event_type,
            time_ms,
            _sessions(user, time_ms, session),
            columns[5].astype(np.float64),
            columns[6].astype(np.float64),
            titles,
        )


def _sessions(
    user: npt.NDArray[np.int64], time_ms: npt.NDArray[np.int64], given: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Number the visits of events that name no session, after the sessions that are named."""
    session = given.copy()
    unnamed = np.flatnonzero(given < 0)
    if len(unnamed) == 0:
        return session
    order = unnamed[np.lexsort((time_ms[unnamed], user[unnamed]))]
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (np.diff(user[order]) != 0) | (np.diff(time_ms[order]) > SESSION_GAP_MS)
    session[order] = np.cumsum(starts) + max(int(given.max()), -1)
    return session


class _Line(msgspec.Struct):
    """What training needs of a `clicks` or `purchases` record; other fields pass."""

    user_id: str | int
    item_id: str | int
    type: str
    event_time_ms: int
    session_id: str | int | None = None
    quantity: float | None = None
    unit_price: float | None = None


def _read_events(path: Path) -> Log:
    decoder = msgspec.json.Decoder(_Line)
    columns = _Columns()
    with open_text(path) as lines:
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                line = decoder.decode(text)
            except msgspec.MsgspecError as error:
                raise UsageError(f"{path}, line {number}: {error}") from None
            if line.type not in EVENT_TYPES:
                raise UsageError(f"{path}, line {number}: unknown event type {line.type!r}")
            if line.user_id == "" or line.item_id == "":
                raise UsageError(f"{path}, line {number}: user_id and item_id must not be empty")
            columns.add(
                user=str(line.user_id),
                item=str(line.item_id),
                event_type=int(EVENT_TYPES[line.type]),
                time_ms=line.event_time_ms,
                session=None if line.session_id is None else str(line.session_id),
                quantity=1.0 if line.quantity is None else line.quantity,
                price=line.unit_price or 0.0,
            )
    return columns.log({})


_RETAIL_FIELDS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
)


def _read_online_retail(path: Path) -> Log:
    """Purchases and cancellations of known customers; postage, fees and repeated lines left out.

    A stock code is a product when it starts with five digits; its case varies in the file. An
    item's title is its most frequent description: a few lines carry a clerk's note instead.
    """
    columns = _Columns()
    descriptions: dict[str, Counter[str]] = {}
    seen: set[tuple[str, str]] = set()
    moments: dict[str, int] = {}
    with open_text(path) as lines:
        reader = csv.reader(lines)
        names = next(reader, [])
        missing = [f for f in _RETAIL_FIELDS if f not in names]
        if missing:
            raise UsageError(f"{path}: not Online Retail, no column {', '.join(missing)}")
        columns_of = [names.index(f) for f in _RETAIL_FIELDS]
        try:
            for cells in reader:
                if not cells:
                    continue
                if len(cells) < len(names):
                    raise ValueError(f"{len(cells)} columns, the header has {len(names)}")
                invoice, item, title, count, date, price, customer = (cells[i] for i in columns_of)
                item, quantity = item.strip().upper(), int(count)
                cancelled = invoice.startswith("C")
                usable = customer and item[:5].isdigit() and (quantity > 0) != cancelled
                if not usable or (invoice, item) in seen:
                    continue
                seen.add((invoice, item))
                if date not in moments:
                    moment = datetime.fromisoformat(date).replace(tzinfo=UTC)
                    moments[date] = int(moment.timestamp() * 1000)
                descriptions.setdefault(item, Counter())[title.strip()] += 1
                columns.add(
                    user=customer.split(".")[0],
                    item=item,
                    event_type=EventType.CANCEL if cancelled else EventType.PURCHASE,
                    time_ms=moments[date],
                    session=invoice,
                    quantity=abs(quantity),
                    price=float(price),
                )
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from None
    return columns.log({i: names.most_common(1)[0][0] for i, names in descriptions.items()})


FORMATS: dict[str, Callable[[Path], Log]] = {
    "events": _read_events,
    "online-retail": _read_online_retail,
}
