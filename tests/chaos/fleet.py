"""Workers as processes, and their supervisor, who starts those anew that ended unasked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stream.errors import EXIT_FATAL, EXIT_INTERRUPTED
from stream.kafka.broker import free_port
from stream.kafka.transport import NOT_STOPPED
from tests.support.process import Process

# A group whose broker has started again may wait `broker.recovery_timeout_s` for a member that is
# gone.
GROUP_S = 60.0
READY_S = GROUP_S + 40.0
STOP_S = 20.0
POLL_S = 0.05
RESTARTS = 30  # of one place in the fleet without being ready in between


@dataclass(frozen=True)
class Engine:
    """What a worker is.

    Attributes
    ----------
    command : its process, the configuration's path last
    ready : whether the worker serves
    """

    command: tuple[str, ...]
    ready: Callable[[Worker], bool]
    environment: Mapping[str, str] = field(default_factory=dict)

    def instead(self, module: str, **environment: str) -> Engine:
        """The same with another module in the place of `stream.cli`."""
        return self.where(environment, (module, *self.command[1:]))

    def where(self, environment: Mapping[str, str], command: tuple[str, ...] = ()) -> Engine:
        """The same with more in its environment."""
        both = {**self.environment, **environment}
        return Engine(command or self.command, self.ready, both)


def _serves(worker: Worker) -> bool:
    try:
        worker.get("/readyz")
        return True
    except (urllib.error.URLError, OSError):
        return False


FRESHET = Engine(("stream.cli", "worker", "--end-with-parent", "--config"), _serves)


class Worker:
    """One process of an engine.

    Attributes
    ----------
    expected : it was told to end, or is bound to
    """

    def __init__(self, engine: Engine, config: Path, log: Path) -> None:
        self.port = free_port()
        self.log = log
        self._clock = log.with_suffix(".clock")
        self.engine = engine
        self.expected = False
        self.process = Process(
            [*engine.command, str(config)],
            {
                **os.environ,
                "FRESHET_METRICS_PORT": str(self.port),
                "CLOCK_STEP": str(self._clock),
                **engine.environment,
            },
            log,
        )

    @property
    def name(self) -> str:
        return self.log.stem

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        return self.alive and self.engine.ready(self)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()

    def wait_until_ready(self) -> None:
        """Wait until it serves; it must not end meanwhile."""
        deadline = time.monotonic() + READY_S
        while not self.ready:
            assert self.alive, f"ended by itself:\n{self.tail()}"
            assert time.monotonic() < deadline, f"not ready:\n{self.tail()}"
            time.sleep(POLL_S)

    def owned(self) -> int:
        """How many partitions the worker serves, as its gauges tell; 0 when it does not answer."""
        try:
            return self.get("/metrics").count("freshet_state_users{")
        except (urllib.error.URLError, OSError):
            return 0

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            self.process.send_signal(number)

    def set_clock(self, step_s: float) -> None:
        """Set its clock to the right time and `step_s`, if it runs as `clock_steps` does."""
        self._clock.write_text(str(step_s))

    def kill(self) -> None:
        self.expected = True
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in an orderly way; its exit code. One that does not end is killed."""
        self.expected = True
        self.send(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def last_words(self) -> str:
        """Why it ended itself, as far as its log tells."""
        found = re.findall(r"(?:fatal|error): (.*)", self.log.read_text(errors="replace"))
        return found[-1] if found else ""


class Stuck(Exception):  # noqa: N818
    """The engine does not come back by itself."""


class Fleet:
    """Workers of one group. Every wait goes through `wait_until`, which looks after them.

    Attributes
    ----------
    workers : those that should run
    ends : (worker, exit code, reason) of those that ended unasked
    stops : how many were stopped
    late : those whose stop took too long, and who said so: they ended at once, as they promise
    wrong : ends that no worker should have, such as an orderly stop with a code that is not 0
    broker_away : a worker may end for the lack of a broker
    refused : a worker may be refused at its start, with one of these in its reason; empty: none may
    """

    def __init__(self, config: Path, folder: Path, engine: Engine) -> None:
        self.engine = engine
        self.workers: list[Worker] = []
        self.ends: list[tuple[str, int, str]] = []
        self.stops = 0
        self.late: list[str] = []
        self.wrong: list[str] = []
        self.broker_away = False
        self.refused: tuple[str, ...] = ()
        self._config, self._folder = config, folder
        self._started: list[Worker] = []
        self._restarts = 0

    def start(
        self, engine: Engine | None = None, *, bound_to_end: bool = False, log: str = ""
    ) -> Worker:
        """Start a worker; one that is bound to end is not started again."""
        log = log or f"worker-{len(self._started):03d}.log"
        worker = Worker(engine or self.engine, self._config, self._folder / log)
        worker.expected = bound_to_end
        self._started.append(worker)
        self.workers.append(worker)
        return worker

    def tend(self) -> None:
        """Note who ended, and start another one for who should not have."""
        for worker in list(self.workers):
            if worker.alive:
                continue
            self.workers.remove(worker)
            if worker.expected:
                continue
            code = worker.process.wait()
            self.ends.append((worker.name, code, worker.last_words()))
            away = self.broker_away and code in (1, EXIT_INTERRUPTED)
            refused = code == 1 and any(why in worker.last_words() for why in self.refused)
            if code != EXIT_FATAL and not away and not refused:
                self.wrong.append(f"{worker.name} ended with {code}: {worker.last_words()}")
            self._restarts += 1
            if self._restarts > RESTARTS:
                raise Stuck(f"workers keep ending:\n{worker.tail()}")
            self.start(worker.engine)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition` came true in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.tend()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)

    def wait(self, seconds: float) -> None:
        self.wait_until(lambda: False, seconds)

    def wait_until_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every worker serves.

        Raises
        ------
        Stuck : one does not
        """
        if not self.wait_until(lambda: all(w.ready for w in self.workers), timeout_s):
            late = next((w for w in self.workers if not w.ready), self.workers[0])
            raise Stuck(f"{late.name} is not ready within {timeout_s:g} s:\n{late.tail()}")
        self._restarts = 0

    def retire(self, worker: Worker) -> None:
        """Stop a worker for good; it must end with 0, or say why it could not in time."""
        if not worker.alive:  # by itself, a moment ago
            self.tend()
            return
        begun = bool(worker.tail())
        code = worker.stop()
        if worker in self.workers:
            self.workers.remove(worker)
        self.stops += 1
        allowed = (0, EXIT_INTERRUPTED, EXIT_FATAL) if self.broker_away else (0,)
        if code == -signal.SIGTERM and not begun:
            return  # Python had not come to any line of it
        if code == EXIT_INTERRUPTED and code not in allowed and NOT_STOPPED in worker.tail():
            self.late.append(worker.name)
            return
        if code not in allowed:
            self.wrong.append(f"{worker.name} stopped with {code}: {worker.last_words()}")

    def retire_all(self) -> None:
        while self.workers:
            self.retire(self.workers[0])

    def close(self) -> None:
        """Kill whatever still runs, asleep or not."""
        for worker in self._started:
            worker.kill()
        self.workers.clear()
