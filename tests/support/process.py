"""A module run as `python -m` would, in a process that begins with everything imported.

Starting a worker is mostly its imports. One process (multiprocessing's fork server) does them once,
and every other one is forked from it: on two cores that is what lets a fault, or a test, follow
another. What depends on how a process begins (Ctrl-C while it imports) wants `subprocess.Popen`.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["stream.app", "stream.cli.worker", "stream.cli.commands", "stream.cli.common"]
)


class Process:
    """Much like `subprocess.Popen`, with text.

    Parameters
    ----------
    command : module and its arguments
    environment : all of it
    log : gets what it prints; None: `stdout` and `stderr` are to be read
    folder : where it is run; None: where the tests are
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path | None = None,
        folder: str | None = None,
    ) -> None:
        if log is not None:
            log.touch()  # to be looked into from now on
        self._read: list[IO[str]] = []
        writing: list[Connection] = []
        for _ in () if log is not None else range(2):
            reader, writer = _SERVER.Pipe(duplex=False)
            writing.append(writer)
            # A descriptor of its own: the connection closes the other one.
            self._read.append(os.fdopen(os.dup(reader.fileno()), encoding="utf-8"))
            reader.close()
        arguments = (list(command), dict(environment), None if log is None else str(log))
        self._process = _SERVER.Process(
            target=_run, args=(*arguments, folder, writing), daemon=True
        )
        self._process.start()
        for writer in writing:
            writer.close()  # so that the end of the process is the end of what is read
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def stdout(self) -> IO[str]:
        return self._read[0]

    @property
    def stderr(self) -> IO[str]:
        return self._read[1]

    @property
    def returncode(self) -> int | None:
        """Exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and answer `returncode`.

        Raises
        ------
        subprocess.TimeoutExpired : it still runs
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both to their ends, and wait.

        Raises
        ------
        subprocess.TimeoutExpired : it still runs
        """
        found = ["", ""]

        def read(at: int) -> None:
            if not self._read[at].closed:
                found[at] = self._read[at].read()

        readers = [threading.Thread(target=read, args=(at,), daemon=True) for at in (0, 1)]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader, file in zip(readers, self._read, strict=True):
            reader.join(timeout)
            if not reader.is_alive():  # else a child of its own still writes
                file.close()
        return found[0], found[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    command: list[str],
    environment: dict[str, str],
    log: str | None,
    folder: str | None,
    writing: list[Connection],
) -> None:
    """Become `python -m COMMAND`."""
    os.setpgid(0, 0)  # Ctrl-C is the harness's
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if log is None:
        out, err = (writer.fileno() for writer in writing)
    else:
        out = err = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for writer in writing:
        writer.close()
    # The server's own are of other files, which may be sought in.
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1, "utf-8", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # type: ignore[misc]
    if folder is not None:
        os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
