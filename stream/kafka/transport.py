"""The Faust app that carries record batches. In: settings. Out: an app whose agents get batches.

Kept of Faust: app, agents, conductor, assignor and group, names of tables, commits, commands.
Replaced: what fetches and what sends (`consumer.py`, `table.py`). Knows nothing of recommending.

    app = BatchApp(settings)
    interests = InterestTable(app, "interests", new_shard)  # from a partition's number

    @app.agent(app.batches("clicks", "purchases"))
    async def update_interests(batches): ...
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import faust
from faust.topics import Topic
from faust.transport.drivers import aiokafka as driver

from stream.errors import EXIT_FATAL, EXIT_INTERRUPTED, BrokerError, FreshetError
from stream.kafka.cluster import Cluster
from stream.kafka.consumer import BatchConsumer
from stream.kafka.holding import Holdings
from stream.kafka.liveness import JOINING, STARTING, Undertakings
from stream.kafka.repeats import hold_back_repeats
from stream.kafka.watchdog import LoopWatchdog
from stream.log_lines import frames_of, logging_config

if TYPE_CHECKING:
    from stream.config import Settings

MAX_POLL_INTERVAL_S = 60.0
STOP_WITHIN_S = 4.5
NOT_STOPPED = "not stopped within"  # what a worker says that ends at once, in place of in order

log = logging.getLogger(__name__)


class BatchTopic(Topic):  # type: ignore[misc]  # Faust is untyped
    """Source topics whose events are RecordBatch objects.

    Upstream: faust.topics.Topic (0.15.3).
    """

    def _compile_decode(self) -> None:
        """Upstream: Topic._compile_decode; hands the batch on as it is."""
        create_event = self.app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        self.decode = decode


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Upstream: faust.transport.drivers.aiokafka.Transport."""

    Consumer = BatchConsumer


class BatchWorker(faust.Worker):  # type: ignore[misc]
    """Ends the process when its orderly stop does not: without a broker, Faust waits forever.

    Nothing is lost by it: the state's guarantee holds for a kill at any moment. Upstream:
    faust.Worker, over mode.Worker, which has no hook for the first signal.
    """

    def _schedule_shutdown(self, number: signal.Signals) -> None:
        """Upstream: mode Worker._schedule_shutdown, called for SIGINT and SIGTERM."""
        timer = threading.Timer(STOP_WITHIN_S, self._give_up)
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(number)

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """Upstream: faust Worker.on_setup_root_logger, which has a spinner turn with each line."""
        self.spinner = None

    def _give_up(self) -> None:
        log.critical("%s %s s: is the broker gone? Ending", NOT_STOPPED, STOP_WITHIN_S)
        logging.shutdown()
        os._exit(EXIT_INTERRUPTED)


class BatchApp(faust.App):  # type: ignore[misc]
    """Upstream: faust.App (0.15.3).

    Parameters
    ----------
    settings : as `stream.config.load_settings` gives them
    check : run once before anything else; a FreshetError of it ends the process with the error's
        exit code
    datadir : Faust's folder; nothing is written there, so nothing is made
    """

    def __init__(
        self,
        settings: Settings,
        check: Callable[[Settings], None] | None = None,
        datadir: Path | None = None,
    ) -> None:
        self.settings = settings
        self._check = check
        self.cluster = Cluster.of(settings)
        self.interests: Holdings | None = None
        self.serving = False  # partitions are taken over and read, or there are none to be
        self.undertakings = Undertakings()
        self._collected = False
        self._looking: asyncio.Task[None] | None = None
        broker = settings.broker
        super().__init__(
            settings.group,
            broker=";".join(f"kafka://{server}" for server in self.cluster.servers),
            broker_credentials=self.cluster.faust_credentials(),
            store="memory://",
            datadir=str(datadir or Path(tempfile.gettempdir()) / "freshet"),
            web_enabled=False,
            Worker=BatchWorker,
            logging_config=logging_config(settings.log_level, settings.log_format),
            topic_disable_leader=True,
            topic_allow_declare=False,  # Faust would make them with other settings
            topic_partitions=settings.topics.partitions,
            topic_replication_factor=settings.topics.replication,
            table_standby_replicas=0,
            stream_recovery_delay=0.0,
            consumer_auto_offset_reset="earliest",
            broker_session_timeout=broker.session_timeout_s,
            broker_heartbeat_interval=broker.heartbeat_s,
            broker_request_timeout=max(90.0, broker.session_timeout_s + 1),
            broker_rebalance_timeout=broker.recovery_timeout_s,
            broker_max_poll_interval=max(MAX_POLL_INTERVAL_S, broker.session_timeout_s),
            broker_commit_interval=broker.commit_every_s,
            # By time alone: counting makes the delivery wait for commits.
            broker_commit_every=10**9,
        )

    def batches(self, *topics: str) -> BatchTopic:
        """Topics to be read as record batches; for `@app.agent(...)`."""
        return BatchTopic(self, topics=list(topics), partitions=self.settings.topics.partitions)

    def stream(self, channel: Any, beacon: Any = None, **kwargs: Any) -> Any:
        """Upstream: App.stream. The table settles a batch, not the agent that goes on to the next:
        else a rebalance would not wait for what is in flight."""
        batches = super().stream(channel, beacon, **kwargs)
        batches.enable_acks = False
        return batches

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """Upstream: App._on_agent_error. Faust would start the agent again with the next batch, and
        the one in hand would be lost; so an exception in an agent ends the process."""
        self.fatal(exc)

    async def on_first_start(self) -> None:
        """Upstream: App.on_first_start; before it, look whether a worker can run here at all."""
        hold_back_repeats("aiokafka")
        self._looking = asyncio.ensure_future(self._look())
        self.undertakings.begin(STARTING)
        try:
            if self._check is not None:
                await asyncio.to_thread(self._check, self.settings)
        except FreshetError as exc:
            self.fatal(exc, exc.exit_code)
        self.undertakings.end(STARTING)
        self.undertakings.begin(JOINING, times=2)
        await super().on_first_start()

    async def _look(self) -> None:
        """Show the watchdog that the loop is alive, and end a process that is stuck elsewhere.

        Not a service's task: it begins before the services do, and what stops them stops it last.
        """
        limit_s = self.settings.broker.recovery_timeout_s
        watchdog = LoopWatchdog(limit_s)
        watchdog.start()
        while True:
            watchdog.beat()
            if (stuck := self.undertakings.stuck(limit_s)) is not None:
                self.fatal(BrokerError(stuck))
            await asyncio.sleep(watchdog.every_s / 2)

    def on_serving(self) -> None:
        """Partitions are taken over and their positions set.

        States live as long as the process: take them out of the collector's sight, once.
        """
        if not self._collected:
            self._collected = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 50, 50)

    def fatal(self, exc: BaseException, code: int = EXIT_FATAL) -> NoReturn:
        """End the process at once with exit code `code`, logging why.

        An orderly stop would wait for a batch that will never be acknowledged, and meanwhile the
        group's thread would join again. The message of a foreign exception may hold a user's id,
        so only its kind and its frames are logged.
        """
        log.critical("fatal: %s", describe(exc), extra={"exit_code": code})
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _crash(self, reason: BaseException) -> None:
        """Upstream: mode Service._crash, called for the app when any of its services crashed."""
        if isinstance(reason, Exception):
            self.fatal(reason)
        super()._crash(reason)

    def _new_transport(self) -> BatchTransport:
        """Upstream: App._new_transport."""
        return BatchTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Upstream: App._create_directories; there is nothing to keep on disk."""


def describe(exc: BaseException) -> str:
    """What may be logged of an exception: our own message, or kind and frames without message."""
    if isinstance(exc, FreshetError):
        return str(exc)
    return frames_of(exc)


def run_worker(app: BatchApp, log_level: str = "info") -> NoReturn:
    """Run `app` in the foreground until SIGTERM or Ctrl-C; leaves by SystemExit or `fatal`."""
    if log_level != "debug":
        # Faust sets the root logger to DEBUG, and these format a line or more a request.
        for library in ("aiokafka", "kafka", "faust", "mode", "asyncio"):
            logging.getLogger(library).setLevel(logging.WARNING)
    app.Worker(loglevel=log_level, quiet=True).execute_from_commandline()
    raise SystemExit(0)
