"""Lines of item ids alone. In: ids in time order, separated by blanks. Out: clicks as JSON.

Such files carry neither times nor users. Both are made up, the same for the same file, so that a
line keeps its order and lines keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

import msgspec

from stream.contracts import MAX_ID_BYTES
from stream.logs.lines import BadLines, Line, OtherFormatError

SESSIONS_BEGIN_MS: Final = 946_684_800_000  # 2000-01-01: room for 12 million sessions until 2025
CLICK_STEP_MS: Final = 1000  # between two events of a visit
SESSION_STEP_MS: Final = 60_000  # from the end of a line to the begin of the next

_HAS_COMMA: Final = "has a comma, ids are separated by blanks"
_TRIED: Final = 1_000  # bad lines before the first good one that make it another file

HISTORIES_END_MS: Final = 1_577_836_800_000  # 2020-01-01
HISTORY_STEP_MS: Final = 3_600_000  # more than what a visit pauses


def sessions(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """One visit of an anonymous user a line: user and session are `s` and the line's number.

    Events are a second apart and lines follow each other after a minute: no two visits overlap, and
    a later line is a later visit.
    """
    time_ms = SESSIONS_BEGIN_MS
    for number, items in item_lines(text, bad):
        visitor = f"s{number}"
        for item_id in items:
            yield _click(number, visitor, item_id, time_ms, visitor)
            time_ms += CLICK_STEP_MS
        time_ms += SESSION_STEP_MS


def histories(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """The whole history of one user a line: the user is `u` and the line's number.

    Events are an hour apart, each a visit of its own, and all histories end at one moment: the
    newest events of the log are the last of every user.
    """
    for number, items in item_lines(text, bad):
        begins_ms = HISTORIES_END_MS - (len(items) - 1) * HISTORY_STEP_MS
        for position, item_id in enumerate(items):
            time_ms = begins_ms + position * HISTORY_STEP_MS
            yield _click(number, f"u{number}", item_id, time_ms, str(position))


def prefixes(text: IO[bytes], bad: BadLines) -> Iterator[tuple[int, list[str], str]]:
    """Cases for evaluation: line number, known items, and after a tab the item that came next."""
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            before, tab, after = line.decode().partition("\t")
        except UnicodeDecodeError:
            bad.append((number, "not_utf8"))
            continue
        known, target = before.split(), after.split()
        if b"," in line:
            bad.append((number, _HAS_COMMA))
        elif not tab:
            bad.append((number, "no tab before the target"))
        elif not known:
            bad.append((number, "no item before the tab"))
        elif len(target) != 1:
            bad.append((number, f"{len(target)} targets, not one"))
        elif len(line) > MAX_ID_BYTES and _too_long([*known, *target]):
            bad.append((number, "id_too_long"))
        else:
            yield number, known, target[0]


def _too_long(items: list[str]) -> bool:
    return max(len(item_id.encode()) for item_id in items) > MAX_ID_BYTES


def item_lines(text: IO[bytes], bad: BadLines) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and their item ids; empty lines are passed over.

    Raises
    ------
    OtherFormatError : no line is good, or none of the first `_TRIED`, and they look like another's
    """
    good, first = False, ""
    for number, line in enumerate(text, 1):
        if why := _foreign(line):
            bad.append((number, why))
            first = first or f"line {number} {why}"
            if not good and len(bad) >= _TRIED:
                break
            continue
        try:
            items = line.decode().split()
        except UnicodeDecodeError:
            bad.append((number, "not_utf8"))
            continue
        if items:
            good = True
            yield number, items
    if first and not good:
        raise OtherFormatError(first)


def _foreign(line: bytes) -> str:
    """Why a line belongs to a file of another format; nothing where it may be ids."""
    if line.startswith(b"{"):
        return "is JSON"
    if b"\t" in line:  # prefixes and their targets: nothing to train on by mistake
        return "has a tab"
    return _HAS_COMMA if b"," in line else ""


def _click(number: int, user_id: str, item_id: str, time_ms: int, session_id: str) -> Line:
    fields = {
        "user_id": user_id,
        "item_id": item_id,
        "type": "click",
        "event_time_ms": time_ms,
        "session_id": session_id,
    }
    return Line(number, msgspec.json.encode(fields))
