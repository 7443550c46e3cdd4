"""Standard output, written whole or said not to be. In: what is printed. Out: an error, if any.

A full disk shows when a buffer is flushed, perhaps after the last line of a command, and libraries
swallow what is an `OSError`. So the file itself notes the first failure, and the command ends by
it.

Must not know: what is printed.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

from stream.errors import OutputError, ReaderGoneError


class _Noting(io.FileIO):
    """A file that raises its first failure as an `OutputError`, and takes what comes after that.

    Attributes
    ----------
    lost : the failure; None where there was none
    """

    lost: OutputError | None = None

    def write(self, data: Any, /) -> int:
        """Upstream: io.FileIO.write."""
        if self.lost is None:
            try:
                return super().write(data)
            except BrokenPipeError:
                self.lost = ReaderGoneError("nobody reads standard output any more")
            except OSError as error:
                self.lost = OutputError(
                    f"standard output: cannot be written ({error.strerror}); what stands there is "
                    "not whole: free some space, or send it elsewhere"
                )
            raise self.lost from None
        return memoryview(data).nbytes


@contextlib.contextmanager
def whole_output() -> Iterator[None]:
    """Everything that is printed in here is written when this ends.

    An error of the command itself comes first: it says more. Output that is no file of the system,
    such as a test's, stays as it is.

    Raises
    ------
    OutputError
        Something was not written.
    ReaderGoneError
        For want of a reader, as in `| head`.
    """
    plain: Any = sys.stdout
    if plain is None:
        with _nowhere():
            yield
        return
    file = _file_of(plain)
    if file is None:
        yield
        return
    noting = _Noting(file.fileno(), "wb", closefd=False)
    watched = io.TextIOWrapper(
        noting if plain.buffer is file else io.BufferedWriter(noting),
        encoding=plain.encoding,
        errors=plain.errors,
        newline="\n",
        line_buffering=plain.line_buffering,
        write_through=plain.write_through,
    )
    sys.stdout = watched
    said_more = True
    try:
        yield
        said_more = False
    except SystemExit:
        said_more = False
        raise
    finally:
        sys.stdout = plain
        with contextlib.suppress(OutputError):
            watched.flush()
        if noting.lost is not None and not said_more:
            raise noting.lost


@contextlib.contextmanager
def _nowhere() -> Iterator[None]:
    """Standard output was closed (`>&-`): that is an error once something is printed."""
    printed = sys.stdout = io.StringIO()
    try:
        yield
    finally:
        sys.stdout = None
    if printed.tell():
        raise OutputError("standard output: is closed; send it to a file, or to /dev/null")


def _file_of(output: Any) -> io.FileIO | None:
    buffer = getattr(output, "buffer", None)
    found = getattr(buffer, "raw", buffer)
    return found if isinstance(output, io.TextIOWrapper) and isinstance(found, io.FileIO) else None
