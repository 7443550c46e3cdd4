"""How much memory a command takes, all of its processes together. In: /proc. Out: MiB.

The system remembers how large a process was at most, but not how large several were at a time. So
what they have is added up while there are several. Must not know: what they do.
"""

from __future__ import annotations

import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.5  # the kernel takes some milliseconds for a process of gigabytes

_PROC = Path("/proc")


class _Together:
    """The most that was seen, KiB."""

    peak_kib = 0


@contextmanager
def watched() -> Iterator[None]:
    """Meanwhile look what this process and its descendants have; see `peak_mib`."""
    _Together.peak_kib = 0
    if not (_PROC / "self" / "smaps_rollup").exists():
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(ended,), name="memory", daemon=True)
    # A signal that the main thread holds back must not come in by this one.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        watcher.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def peak_mib() -> float:
    """The most memory so far, in MiB.

    Of one process it is exact: this one, or the largest that it has ended. While `watched`, also of
    all at a time, on Linux: a page that n of them share counts 1/n in each (proportional set size),
    and what comes and goes between two looks is missed.
    """
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    alone = max(resource.getrusage(who).ru_maxrss for who in whose)
    alone_mib = alone / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, else KiB
    return max(alone_mib, _Together.peak_kib / 1024)


def _watch(ended: threading.Event) -> None:
    while not ended.wait(EVERY_S):
        family = _family("self")
        if len(family) > 1:  # else the system remembers
            found = sum(map(_proportional_kib, family))
            _Together.peak_kib = max(_Together.peak_kib, found)


def _family(process: str) -> list[str]:
    """A process and its descendants, by id."""
    found = [process]
    for parent in found:
        for children in (_PROC / parent / "task").glob("*/children"):
            found += _text(children).split()
    return found


def _proportional_kib(process: str) -> int:
    for line in _text(_PROC / process / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # it has ended meanwhile
        return ""
