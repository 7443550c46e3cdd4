"""A command of Freshet as a child process. In: flags, settings. Out: a process, and its log.

It ends with this process however that ends. Knows nothing of what the command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.config import environment_with
from stream.errors import FreshetError

STOP_WITHIN_S = 3.0  # of the 5 s that Ctrl-C may take
_LOG_LINES = 15
_ROOT = Path(__file__).parents[2]


class Child:
    """A command in a process group of its own, so that Ctrl-C reaches the demo alone.

    Parameters
    ----------
    command : as `freshet` takes it; one that has `--end-with-parent`
    settings : by TOML path, on top of this process's environment
    """

    def __init__(self, command: list[str], settings: Mapping[str, str]) -> None:
        self._name = command[0]
        self._command = [sys.executable, "-m", "stream.cli", *command, "--end-with-parent"]
        environ = environment_with(settings)
        path = os.pathsep.join(filter(None, [str(_ROOT), environ.get("PYTHONPATH")]))
        self._environ = {**environ, "PYTHONPATH": path}

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=self._environ,
            process_group=0,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def check(self) -> None:
        """Raise FreshetError with the end of its log when it has ended."""
        status = self._process.poll()
        if status is not None:
            raise FreshetError(f"the {self._name} ended with status {status}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines that it printed."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - 16_384)
        text = os.pread(self._log.fileno(), size - start, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:]) or "(it printed nothing)"
