"""Search takeover.pml with spin: `python -m tests.model.spin` (`make model`).

In: rules taken away, sizes. Out: the assertion that was violated, if one was, and how many states
were looked at. Needs spin and a C compiler (Debian: spin, gcc).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("takeover.pml")
_LIMIT_S = 3600
_DEPTH = 100_000  # steps; the longest of any size here is under 400

# Of the assertion that must fail once a rule is taken away.
SKIPPED, TWICE, UNLISTED, INTRUDER = "(have&", "!((states&", "(listed==", "(opened_by["
BROKEN = {
    "NO_FENCE": SKIPPED,
    "NO_EPOCH": SKIPPED,
    "NO_SEQUENCE": SKIPPED,
    "TRUST_ANSWER": SKIPPED,
    "LAST_APPLIED": TWICE,
    "TWO_BATCHES": TWICE,
    "COMMIT_EARLY": UNLISTED,
}
FENCING = ("NO_FENCE", "NO_EPOCH", "TRUST_ANSWER")


@dataclass(frozen=True)
class Size:
    """How much is searched: see the head of takeover.pml."""

    workers: int = 2
    events: int = 3
    epochs: int = 2
    in_flight: int = 2

    def __str__(self) -> str:
        return (
            f"{self.workers} workers, {self.events} events, {self.epochs} epochs, "
            f"{self.in_flight} in flight"
        )

    @property
    def flags(self) -> list[str]:
        return [
            f"-DWORKERS={self.workers}",
            f"-DEVENTS={self.events}",
            f"-DEPOCHS={self.epochs}",
            f"-DIN_FLIGHT={self.in_flight}",
        ]


SMALL = Size()
LONGER = Size(epochs=3)
THREE = Size(workers=3, events=2, in_flight=1)
WHOLE = Size(workers=3, events=2, epochs=3, in_flight=1)


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes
    ----------
    error : the assertion violated, or "invalid end state" for a worker stuck; None for neither
    complete : everything that can happen was looked at
    unreached : lines of the model that nothing came by
    """

    error: str | None
    complete: bool
    states: int
    unreached: list[str]


def why_missing() -> str | None:
    """Why this machine cannot search, None when it can."""
    missing = [name for name in ("spin", "gcc") if shutil.which(name) is None]
    return (
        f"{' and '.join(missing)} not installed (Debian: apt install spin gcc)" if missing else None
    )


def search(*without: str, size: Size = SMALL) -> Found:
    """Look at everything that can happen with these rules taken away, up to the first error."""
    flags = [*size.flags, *(f"-D{name}" for name in without)]
    with tempfile.TemporaryDirectory() as folder:
        _run(folder, "spin", *flags, "-a", str(MODEL))
        # Safety alone; states folded together, a quarter of the memory.
        _run(folder, "gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
        said = _run(folder, "./pan", "-w22", f"-m{_DEPTH}")
        trail = any(Path(folder).glob("*.trail"))
    error = re.search(r"^pan:\d+: (?:assertion violated +)?(.+) \(at depth", said, re.MULTILINE)
    states = re.search(r"^ *(\d+(?:\.\d+)?(?:e\+\d+)?) states, stored", said, re.MULTILINE)
    assert states is not None, said
    assert trail == (error is not None), said
    return Found(
        error=None if error is None else error[1],
        complete=not re.search(r"not completed|max search depth too small|out of memory", said),
        states=int(float(states[1])),
        unreached=re.findall(r'takeover\.pml:(\d+), state \d+, "(?!-end-)', said),
    )


def _run(folder: str, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=_LIMIT_S
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Print a table; exit code 1 when the protocol fails or a broken one passes."""
    parser = argparse.ArgumentParser(prog="python -m tests.model.spin", description=main.__doc__)
    parser.add_argument("--whole", action="store_true", help=f"also {WHOLE}: minutes, 4 GB")
    options = parser.parse_args()
    if reason := why_missing():
        print(f"error: {reason}")
        return 1
    faults = 0
    for size in (SMALL, LONGER, THREE, *([WHOLE] if options.whole else [])):
        found, took_s = _timed(size=size)
        right = found.error is None and found.complete
        faults += not right
        print(f"{size!s:46} {found.states:12,} states {took_s:6.1f} s  {found.error or 'no error'}")
    for name, wanted in BROKEN.items():
        found, took_s = _timed(name, "HARM_ALONE")
        right = found.error is not None and wanted in found.error
        faults += not right
        print(f"{name:46} {found.states:12,} states {took_s:6.1f} s  {found.error or 'NOTHING'}")
    return 1 if faults else 0


def _timed(*without: str, size: Size = SMALL) -> tuple[Found, float]:
    started_s = time.monotonic()
    found = search(*without, size=size)
    return found, time.monotonic() - started_s


if __name__ == "__main__":
    raise SystemExit(main())
