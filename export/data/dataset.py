"""Event logs as training sees them. In: events, or a file of them. Out: a `Log` of columns.

`Cases` are questions with their answers, for evaluation. Where events come from is the business of
`sources`; files and formats are `stream.logs`', so that training sees what `freshet replay` sends.

Must not know: models, ONNX.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.data.columns import AnyColumn, take
from export.data.reading import COLUMNS, LogColumns
from export.data.sources import Asides, events_of, files_of
from export.data.visits import SESSION_GAP_MS
from stream.contracts import EventType, Item
from stream.errors import UsageError
from stream.logs import (
    CLICK_STEP_MS,
    SESSION_STEP_MS,
    SESSIONS_BEGIN_MS,
    BadLines,
    prefixes,
    read_lines,
)
from stream.terminal import counted

__all__ = ["COLUMNS", "SESSION_GAP_MS", "Cases", "Log", "by_user", "read_cases", "read_log"]

_BAD_TOLD = 3

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Log:
    """Events in time order, as columns: 37 bytes an event, and about 200 an id.

    Codes are int32: make them int64 before multiplying them.

    Attributes
    ----------
    users, items : ids; the codes in `user` and `item` index them
    user, item : int32, shape (n,)
    event_type : uint8, shape (n,), codes of `EventType`
    time_ms : int64, shape (n,), ascending
    session : int32, shape (n,); equal for the events of one basket or visit of one user
    quantity, price : float32, shape (n,); 1 and 0 where the log does not say
    titles : title by item id, where the log or the catalogue has them; also of items without events
    rating : float32, shape (n,); NaN where the event is none
    event_hash : uint32, shape (n,); 0 = the event had no event_id
    attributes : by item id: category, brand, price (a range), ... as texts
    embeddings : by item id: float32, shape (dim,), where the catalogue has them
    unusable : reason -> lines of the log that are none of these events
    offsets : topic -> partition -> offset that reading stopped before, of a log from topics
    scratch : folder whose nameless files hold the columns; None when they are in memory
    """

    users: list[str]
    items: list[str]
    user: AnyColumn
    item: AnyColumn
    event_type: AnyColumn
    time_ms: AnyColumn
    session: AnyColumn
    quantity: AnyColumn
    price: AnyColumn
    titles: dict[str, str]
    rating: AnyColumn = field(default_factory=lambda: np.empty(0, np.float32))
    event_hash: AnyColumn = field(default_factory=lambda: np.empty(0, np.uint32))
    attributes: dict[str, dict[str, str]] = field(default_factory=dict)
    embeddings: dict[str, Float32] = field(default_factory=dict)
    unusable: Counter[str] = field(default_factory=Counter)
    offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if len(self.rating) != len(self):
            self.rating = np.full(len(self), np.nan, np.float32)
        if len(self.event_hash) != len(self):
            self.event_hash = np.zeros(len(self), np.uint32)

    def __len__(self) -> int:
        return len(self.user)

    def select(self, mask: npt.NDArray[np.bool_]) -> Log:
        """The events where `mask` holds. Codes keep their meaning."""
        return self.at(np.flatnonzero(mask))

    def at(self, positions: Int64) -> Log:
        """The events at ascending positions. Codes keep their meaning."""
        return self.with_columns(
            **{name: take(getattr(self, name), positions, self.scratch) for name in COLUMNS}
        )

    def before(self, time_ms: int) -> Log:
        """The events before a moment; no copy."""
        end = int(np.searchsorted(self.time_ms, time_ms))
        return self.with_columns(**{name: getattr(self, name)[:end] for name in COLUMNS})

    def with_columns(self, **columns: Any) -> Log:
        """The same with other columns."""
        return replace(self, **columns)

    def only_users(self, codes: Int64) -> Log:
        """The events of these users, which become users 0, 1, ... in the order given."""
        code_by_user = np.full(len(self.users), -1, np.int32)
        code_by_user[codes] = np.arange(len(codes), dtype=np.int32)
        chosen = self.select(code_by_user[self.user] >= 0)
        users = [self.users[code] for code in codes.tolist()]
        return replace(chosen, users=users, user=code_by_user[chosen.user])

    @property
    def begins(self) -> str:
        """ISO 8601 time of the oldest event."""
        return _iso(int(self.time_ms[0]))

    @property
    def ends(self) -> str:
        """ISO 8601 time of the newest event."""
        return _iso(int(self.time_ms[-1]))


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


def by_user(log: Log) -> Int64:
    """Positions of the events, user by user, each user's in time order: int64, shape (n,)."""
    return np.argsort(log.user, kind="stable")


@dataclass(slots=True, eq=False)
class Cases:
    """Questions with their answers: a user of `log` is a case, whose events are all that is known.

    Attributes
    ----------
    targets : int64, one array of codes of `log.items` per user of `log.users`, in that order
    """

    log: Log
    targets: list[Int64]

    def __len__(self) -> int:
        return len(self.targets)


Report = Callable[[str], None]


def read_log(
    path: Path,
    format_name: str,
    report: Report = lambda message: None,
    *,
    items: Sequence[Item] = (),
    scratch: Path | None = None,
    until: Mapping[tuple[str, int], int] | None = None,
) -> Log:
    """Read a log; lines that cannot be used are left out and told to `report`.

    Takes about 85 bytes of memory an event at its height, 37 of them for the columns, and 200 an
    id; with `scratch` some 30 an event while it is sorted, the columns being on disk.

    Parameters
    ----------
    path : a file, or a folder whose files are read in the order of their names
    format_name : one of `SOURCES`; "kafka" reads the topics of the settings file `path`
    items : the catalogue: titles and attributes that go before those of the log
    scratch : folder for the columns of a log that does not fit into memory
    until : for "kafka": (topic, partition) -> offset to stop before

    Raises
    ------
    UsageError
        No such file or format, or no event at all (with the first bad line).
    """
    columns = LogColumns(scratch)
    asides = Asides()
    unusable: Counter[str] = Counter()
    first_bad = ""
    files = files_of(path, format_name)
    for file in files:
        asides.bad = BadLines()
        for line in events_of(file, format_name, asides, until):
            columns.add(line)
        unusable.update(asides.bad.reasons())
        told = _tell(file, asides.bad, report)
        if file != path:
            told = told.replace("(", f"({file.name}, ", 1)
        first_bad = first_bad or told
    if not columns.users:
        wanted = f"event that can be used as {format_name}"
        raise UsageError(_why_nothing(path, files, wanted, first_bad))
    facts = asides.facts
    facts.join(items)
    return Log(
        list(columns.users),
        list(columns.items),
        **columns.in_time_order(),
        titles=facts.titles(),
        attributes=facts.attributes(),
        embeddings=facts.embeddings,
        unusable=unusable,
        offsets=asides.offsets,
        scratch=scratch,
    )


def _why_nothing(path: Path, files: Sequence[Path], wanted: str, first_bad: str) -> str:
    """What to say of a path without an event; `first_bad` from `_tell`."""
    if not files:
        return f"{path}: is a folder without files; give the path of an event log"
    if all(file.is_file() and not file.stat().st_size for file in files):
        return f"{path}: is empty; give a log that holds something"
    if [path] == list(files):
        return f"{path}: holds no {wanted}{first_bad}"
    within = counted(len(files), "file")
    return f"{path}: is a folder, and none of its {within} holds an {wanted}{first_bad}"


def _tell(path: Path, lines: BadLines, report: Report) -> str:
    """Report bad lines, if any; the first one in brackets."""
    told = [f"line {number}: {reason}" for number, reason in sorted(lines)]
    if told:
        more = f"; and {len(told) - _BAD_TOLD} more" if len(told) > _BAD_TOLD else ""
        bad = counted(len(told), "bad line")
        report(f"{path}: {bad} left out: {'; '.join(told[:_BAD_TOLD])}{more}")
    return f" ({told[0]})" if told else ""


def read_cases(path: Path, report: Report = lambda message: None) -> Cases:
    """Read `prefixes`: a line is item ids in time order, a tab, and the item that came next.

    A line is a case, in the order of the lines; its user is `c` and the line's number. Times are
    made up as those of `sessions` are. An item may be known as a target alone.

    Raises
    ------
    UsageError
        No such file, or no case at all (with the first bad line).
    """
    bad = BadLines()
    items: dict[str, int] = {}
    users: list[str] = []
    known: list[int] = []
    lengths: list[int] = []
    targets: list[int] = []
    for chunk in read_lines(path, "prefixes", prefixes, bad):
        for number, prefix, target in chunk:
            users.append(f"c{number}")
            known += [items.setdefault(item, len(items)) for item in prefix]
            lengths.append(len(prefix))
            targets.append(items.setdefault(target, len(items)))
    first_bad = _tell(path, bad, report)
    if not users:
        raise UsageError(_why_nothing(path, [path], "case that can be used as prefixes", first_bad))
    n = len(known)
    user = np.repeat(np.arange(len(users), dtype=np.int32), lengths)
    log = Log(
        users=users,
        items=list(items),
        user=user,
        item=np.array(known, np.int32),
        event_type=np.full(n, int(EventType.CLICK), np.uint8),
        time_ms=SESSIONS_BEGIN_MS
        + np.arange(n) * CLICK_STEP_MS
        + user.astype(np.int64) * SESSION_STEP_MS,
        session=user.copy(),
        quantity=np.ones(n, np.float32),
        price=np.zeros(n, np.float32),
        titles={},
        unusable=bad.reasons(),
    )
    return Cases(log, [np.array([target]) for target in targets])
