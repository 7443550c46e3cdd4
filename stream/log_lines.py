"""A worker's log, line by line. In: level and format. Out: the standard library's logging, set up.

`text` is for people, `json` for programs: an object a line, with `time`, `level`, `logger`,
`message`, `process` and whatever a call gave as `extra`. Nothing that is written moves a terminal,
and an exception is told by its kind and its frames: its message may hold a user's id. Knows no
setting and no message.
"""

from __future__ import annotations

import json
import logging
import logging.config
import math
import sys
import threading
import traceback
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final, Literal

from stream.terminal import LINES, printable, printable_json

LogFormat = Literal["text", "json"]

# What every record has; the rest is what a call gave as `extra`.
_OF_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def frames_of(exc: BaseException) -> str:
    """Kind and frames of an exception and of those behind it, without their messages."""
    lines = [f"{type(exc).__name__} (message left out: it may hold an id)"]
    seen: BaseException | None = exc
    while seen is not None:
        frames = traceback.format_tb(seen.__traceback__)
        lines += [frame.rstrip() for frame in frames] + [f"  {type(seen).__name__}"]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\n".join(lines)


class TextLines(logging.Formatter):
    """[time] [process] [LEVEL] message. What `extra` gives stands in the message's words."""

    def __init__(self) -> None:
        super().__init__("[%(asctime)s] [%(process)s] [%(levelname)s] %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """Upstream: logging.Formatter.formatMessage."""
        return printable(super().formatMessage(record), keep=LINES)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Upstream: logging.Formatter.formatException."""
        return _told(ei)


class JsonLines(logging.Formatter):
    """One JSON object a line; see the module."""

    def format(self, record: logging.LogRecord) -> str:
        """Upstream: logging.Formatter.format."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = _told(record.exc_info)
        return printable_json(json.dumps(told | _fields(record, besides=told.keys())))


def logging_config(level: str, log_format: LogFormat) -> dict[str, Any]:
    """What `logging.config.dictConfig` takes: every logger, libraries' too, to standard error.

    Parameters
    ----------
    level : least severe line, a name of `logging` in any case
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": JsonLines if log_format == "json" else TextLines}},
        "handlers": {
            "lines": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": "lines",
            }
        },
        "loggers": {"numba": {"level": "INFO"}},  # of every step of its compiler
        "root": {"level": level.upper(), "handlers": ["lines"]},
    }


def start_logging(level: str, log_format: LogFormat) -> None:
    """Set up logging for this process, warnings and exceptions that nobody caught among it."""
    logging.config.dictConfig(logging_config(level, log_format))
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, exc, _: _uncaught(exc)
    threading.excepthook = lambda args: _uncaught(args.exc_value)


def tells_json() -> bool:
    """Whether what this process has to say is to be a JSON line."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.root.handlers)


def _uncaught(exc: BaseException | None) -> None:
    logging.getLogger(__name__).critical("an exception that nobody caught", exc_info=exc)


def _told(exc_info: Any) -> str:
    return printable(frames_of(exc_info[1]), keep=LINES)


def _fields(record: logging.LogRecord, besides: Collection[str]) -> dict[str, Any]:
    """What a call gave as `extra`."""
    known = _OF_EVERY_RECORD | set(besides)
    return {name: _plain(value) for name, value in vars(record).items() if name not in known}


def _plain(value: Any) -> Any:
    """What JSON can say, or a text of it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return str(value)
