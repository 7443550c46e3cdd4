"""The demo's worker as a child process. In: settings. Out: a worker that is ready, and its log.

Starts `python -m stream.cli worker`, the same program as anybody's, which ends with this process
however that ends. Knows the worker's endpoints and exit, nothing of lists.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.config import environment_with
from stream.errors import FreshetError

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 3.0  # of the 5 s that Ctrl-C may take
_LOG_LINES = 15
_ROOT = Path(__file__).parents[2]
# A proxy for the world outside must not be asked for this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class WorkerProcess:
    """A worker in a process group of its own, so that Ctrl-C reaches the demo alone.

    Parameters
    ----------
    flags : of `freshet worker`
    settings : by TOML path, on top of this process's environment
    metrics_port : where its endpoints are
    """

    def __init__(self, flags: list[str], settings: Mapping[str, str], metrics_port: int) -> None:
        self.url = f"http://127.0.0.1:{metrics_port}"
        self._command = [sys.executable, "-m", "stream.cli", "worker", *flags, "--end-with-parent"]
        self._command += ["--metrics-port", str(metrics_port)]
        environ = environment_with({"metrics_host": "127.0.0.1", **settings})
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

    def check(self) -> None:
        """Raise FreshetError with the end of its log when the worker has ended."""
        status = self._process.poll()
        if status is not None:
            raise FreshetError(f"the worker ended with status {status}:\n{self._log_tail()}")

    def await_ready(self) -> None:
        """Wait until the worker serves.

        Raises
        ------
        FreshetError : it ended, or is not ready in `READY_WITHIN_S`
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            self.check()
            # Refused: not listening yet. HTTPError: it answers that it is not ready.
            with contextlib.suppress(OSError), _DIRECT.open(f"{self.url}/readyz", timeout=2):
                return
            time.sleep(0.05)
        raise FreshetError(
            f"the worker was not ready within {READY_WITHIN_S:g} s:\n{self._log_tail()}"
        )

    def _log_tail(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - 16_384)
        text = os.pread(self._log.fileno(), size - start, start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:]) or "(it printed nothing)"
