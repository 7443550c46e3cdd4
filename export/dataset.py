"""Read an event log. In: a file and its format. Out: a `Log`, the columns training works on.

Files and formats are `stream.logs`' business, so that training sees what `freshet replay` sends.

Must not know: models, ONNX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stream.contracts import EVENT_TYPES
from stream.errors import UsageError
from stream.logs import BadLines, read_events

_BAD_TOLD = 3
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
    attributes : what else is known of items: item id -> name ("category", "brand", "price", "tags",
        "kind") -> text
    embeddings : an image's or a text's vector by item id, all of one length
    rating : float64, shape (n,); NaN where the event rates nothing; left out: no event does
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
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    embeddings: dict[str, tuple[float, ...]] = field(default_factory=dict)
    rating: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if len(self.rating) != len(self.user):
            self.rating = np.full(len(self.user), np.nan)

    def __len__(self) -> int:
        return len(self.user)

    def select(self, mask: npt.NDArray[np.bool_]) -> Log:
        """The events where `mask` holds. Codes keep their meaning."""
        columns = ("user", "item", "event_type", "time_ms", "session", "quantity", "price")
        chosen = {name: getattr(self, name)[mask] for name in (*columns, "rating")}
        of_items = {name: getattr(self, name) for name in ("titles", "attributes", "embeddings")}
        return Log(self.users, self.items, **chosen, **of_items)

    def before(self, time_ms: int) -> Log:
        """The events before a moment."""
        return self.select(self.time_ms < time_ms)

    @property
    def ends(self) -> str:
        """ISO 8601 time of the newest event."""
        newest = int(self.time_ms[-1]) / 1000
        return datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")


def read_log(
    path: Path, format_name: str, report: Callable[[str], None] = lambda message: None
) -> Log:
    """Read a log; bad lines are left out and told to `report`.

    An item's title is its most frequent one: a few lines carry a clerk's note instead.

    Raises
    ------
    UsageError
        No such file or format, or no event at all (with the first bad line).
    """
    columns = _Columns()
    titles: dict[str, Counter[str]] = {}
    bad: BadLines = []
    for line in read_events(path, format_name, bad):
        event = line.event
        item = str(event.item_id)
        if line.title is not None:
            titles.setdefault(item, Counter())[line.title] += 1
        columns.add(
            user=line.key.decode(),
            item=item,
            event_type=int(EVENT_TYPES[event.type]),
            time_ms=event.event_time_ms,
            session=None if event.session_id is None else str(event.session_id),
            quantity=1.0 if event.quantity is None else event.quantity,
            price=event.unit_price or 0.0,
        )
    told = [f"line {number}: {reason}" for number, reason in sorted(bad)]
    if not columns.rows:
        first = f" ({told[0]})" if told else ""
        raise UsageError(f"{path}: holds no event that can be used as {format_name}{first}")
    if told:
        more = f"; and {len(told) - _BAD_TOLD} more" if len(told) > _BAD_TOLD else ""
        report(f"{len(told):,} bad lines left out: {'; '.join(told[:_BAD_TOLD])}{more}")
    return columns.log({item: names.most_common(1)[0][0] for item, names in titles.items()})


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
