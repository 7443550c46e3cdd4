"""What the long runs share that are started by hand: `tests.bench`, `tests.soak`, `tests.fuzz` ...

In: what was typed, what a run raised. Out: values, and exit codes: 1 what a run needs is not there,
or failed; 2 a wrong option, or a place that cannot be written; 130 Ctrl-C. What else an exit code
tells is each run's own.
"""

from __future__ import annotations

import argparse
import errno
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stream.config import load_settings
from stream.errors import EXIT_INTERRUPTED, FreshetError, SettingsError, UsageError

_UNWRITABLE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


def whole(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number from `least` on."""

    def number(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number from {least} on")
        return found

    return number


def above_zero(text: str) -> float:
    """An argument's type: a finite number above 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: give a number above 0")
    return found


def bootstrap(text: str) -> str:
    """An argument's type: brokers, HOST:PORT or several with commas between."""
    try:
        return load_settings(None, {"bootstrap": text}, environ={}).bootstrap
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--bootstrap: ")) from None


def check_folder(folder: Path) -> None:
    """Make a folder that a long run will write to, unless it is there.

    Raises
    ------
    UsageError : it cannot be made, or nothing can be made in it
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): make it a folder that can be, or "
            "name another one where there is an option for it"
        ) from error


def check_file(path: Path) -> None:
    """See, before a long run, whether its results can be written there.

    Raises
    ------
    UsageError : they cannot
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file in it")
    check_folder(path.parent)


def told(run: Callable[[], int], interrupted: str = "interrupted") -> int:
    """The exit code of a run; what ends it early is told in words, without a traceback.

    Parameters
    ----------
    interrupted : what is said upon Ctrl-C
    """
    try:
        return run()
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        print(
            f"error: {error}: a run writes to build/ and to the folder of temporary files "
            "(TMPDIR); both must be writable, with room on their disks",
            file=sys.stderr,
        )
        return UsageError.exit_code
