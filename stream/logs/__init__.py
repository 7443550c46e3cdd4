"""Logs of events on disk. In: a file and its format. Out: records as the topics hold them.

`freshet replay` and `freshet-export` both read by this room, so that what is sent is what was
trained on. Every record that comes out was read by the worker's own decoder: none of it ends among
the dead letters. Bad lines are told by number. Knows nothing of brokers, models or arrays.
"""

from stream.logs.lines import BadLines, Event, Line, LoggedEvent, decode_lines
from stream.logs.reading import FORMATS, read_events, read_lines
from stream.logs.sessions import CLICK_STEP_MS, SESSION_STEP_MS, SESSIONS_BEGIN_MS, prefixes

__all__ = [
    "CLICK_STEP_MS",
    "FORMATS",
    "SESSIONS_BEGIN_MS",
    "SESSION_STEP_MS",
    "BadLines",
    "Event",
    "Line",
    "LoggedEvent",
    "decode_lines",
    "prefixes",
    "read_events",
    "read_lines",
]
