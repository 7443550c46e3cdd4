"""A file to events. In: a path and a format's name. Out: good events, numbers of the bad lines."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Final, TypeVar

from stream.errors import UsageError
from stream.logs.lines import BadLines, Line, LoggedEvent, OtherFormatError, decode_lines
from stream.logs.parquet import parquet
from stream.logs.ratings import ratings
from stream.logs.sessions import histories, sessions
from stream.logs.shops import online_retail, rees46

_CHUNK_LINES: Final = 1024

Reader = Callable[[IO[bytes], BadLines], Iterator[Line]]
L = TypeVar("L")


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
    for lines in read_lines(path, log_format, FORMATS[log_format], bad, advance):
        yield from decode_lines(lines, bad, now_ms)


def read_lines(
    path: Path,
    log_format: str,
    reader: Callable[[IO[bytes], BadLines], Iterator[L]],
    bad: BadLines,
    advance: Callable[[int], object] = lambda read_bytes: None,
) -> Iterator[list[L]]:
    """Yield what `reader` makes of a file, some lines at a time. See `read_events`."""
    try:
        with path.open("rb") as raw, _unpacked(raw) as text:
            lines = reader(text, bad)
            told = 0
            while chunk := list(islice(lines, _CHUNK_LINES)):
                yield chunk
                advance(raw.tell() - told)
                told = raw.tell()
            advance(raw.tell() - told)
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; give one file") from None
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; give the path of an event log") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a text or gzip file") from error
    except OtherFormatError as error:
        if not path.stat().st_size:
            raise UsageError(f"{path}: is empty; give a log that holds something") from None
        raise UsageError(f"{path}: not {log_format}, {error}: is --format right?") from None


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return gzip.open(raw, "rb") if packed else raw  # type: ignore[return-value]


def events(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """Freshet's own: a line is the JSON object of `clicks` or `purchases`."""
    for number, line in enumerate(text, 1):
        if value := line.strip():
            yield Line(number, value)


FORMATS: Final[dict[str, Reader]] = {
    "events": events,
    "parquet": parquet,
    "online-retail": online_retail,
    "rees46": rees46,
    "ratings": ratings,
    "sessions": sessions,
    "histories": histories,
}
