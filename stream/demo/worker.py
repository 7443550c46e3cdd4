"""The demo's worker as a child process. In: settings. Out: a worker that is ready.

It is the same program as anybody's. Knows the worker's endpoints, nothing of lists.
"""

from __future__ import annotations

import contextlib
import time
import urllib.request
from collections.abc import Mapping

from stream.demo.child import Child
from stream.errors import FreshetError

READY_WITHIN_S = 60.0
# A proxy for the world outside must not be asked for this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def worker_url(metrics_port: int) -> str:
    """A worker's endpoints, without a path."""
    return f"http://127.0.0.1:{metrics_port}"


class WorkerProcess(Child):
    """A worker, and how to tell that it serves.

    Parameters
    ----------
    flags : of `freshet worker`
    settings : by TOML path, on top of this process's environment
    metrics_port : where its endpoints are
    """

    def __init__(self, flags: list[str], settings: Mapping[str, str], metrics_port: int) -> None:
        super().__init__(
            ["worker", *flags, "--metrics-port", str(metrics_port)],
            {"metrics_host": "127.0.0.1", **settings},
        )
        self._url = worker_url(metrics_port)

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
            with contextlib.suppress(OSError), _DIRECT.open(f"{self._url}/readyz", timeout=2):
                return
            time.sleep(0.05)
        raise FreshetError(
            f"the worker was not ready within {READY_WITHIN_S:g} s:\n{self.log_tail()}"
        )
