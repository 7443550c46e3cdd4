"""Freshet's Faust application: topics, table, agent. Wiring only.

    clicks ----+                                          +--> recommendations
    purchases -+--> personalize: engine.step on a shard --+--> dead-letters
    items --> catalogue                  |                      /metrics /healthz /readyz
                                         +--> changelog (states and applied offsets, fenced)

`freshet worker` and `faust -A stream.app worker` both start it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, NoReturn

import numpy as np
from mode import Service

from stream import metrics
from stream.config import Settings, load_settings
from stream.contracts import Kind
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine, StepResult
from stream.core.model import Model
from stream.errors import FreshetError, SettingsError
from stream.feed import CatalogueFeed
from stream.http import HttpServer
from stream.kafka import transport
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.table import InterestTable
from stream.kafka.transport import BatchApp

log = logging.getLogger(__name__)


class FreshetApp(BatchApp):
    """Starts its sidecar first: the endpoints must answer while states are recovered."""

    sidecar: Service | None = None

    def on_init_dependencies(self) -> Iterable[Service]:
        """Upstream: App.on_init_dependencies; services of `App.service` would start last."""
        return [*filter(None, [self.sidecar]), *super().on_init_dependencies()]


def build_app(settings: Settings) -> BatchApp:
    """Load the model and wire the application.

    Raises
    ------
    SettingsError : no bundle is named
    BundleError, ProviderError : the bundle cannot be served here
    """
    topics = settings.topics
    engine = load_engine(settings)
    app = FreshetApp(settings)
    interests = InterestTable(
        app, "interests", partial(engine.new_shard, partitions=topics.partitions)
    )
    feed = CatalogueFeed(
        settings,
        engine.catalogue,
        engine.model.embedding_dim,
        owns=lambda partition: partition in interests.holdings,
    )
    app.sidecar = _sidecar(settings, app, interests, feed)

    @app.agent(app.batches(topics.clicks, topics.purchases))  # type: ignore[untyped-decorator]
    async def personalize(batches: AsyncIterator[RecordBatch]) -> None:
        """Fold each micro-batch into its users' states and publish their fresh lists."""
        await feed.wait_loaded()
        async for batch in batches:
            turn = await interests.turn(batch)
            if turn is None:
                continue  # the partition went to another worker, which does this batch
            begun_s = time.time()
            result = engine.step(turn.shard, batch, turn.applied, now_ms=int(begun_s * 1000))
            await turn.commit(
                Records(result.state_keys, result.state_values),
                {
                    topics.recommendations: Records(result.list_keys, result.list_values),
                    topics.dead_letters: Records(
                        result.dead_keys, result.dead_values, result.dead_headers
                    ),
                },
                on_acked=partial(_count, batch, result, begun_s, time.time()),
            )
            _warn_of_misrouting(batch, result)

    return app


def load_engine(settings: Settings) -> Engine:
    """The engine that the settings describe; see `build_app` for what it raises."""
    if settings.bundle is None:
        raise SettingsError(
            "no model bundle is named: set FRESHET_BUNDLE (or `bundle` in the configuration) to a "
            "folder that `freshet-export train` wrote"
        )
    bundle = Bundle.load(settings.bundle)
    model = Model(bundle, settings.provider)
    metrics.set_model_info(bundle.bundle_id, bundle.manifest.model, model.provider)
    kinds: dict[str, Kind] = {
        settings.topics.clicks: "clicks",
        settings.topics.purchases: "purchases",
    }
    return Engine(
        model,
        Catalogue(bundle.item_ids),
        kinds=kinds,
        placements=settings.placements,
        ring=settings.state.ring,
    )


def run_worker(settings: Settings) -> NoReturn:
    """Run the engine in the foreground until SIGTERM or Ctrl-C; leaves by SystemExit."""
    transport.run_worker(build_app(settings), settings.log_level)


def _sidecar(
    settings: Settings, app: BatchApp, interests: InterestTable, feed: CatalogueFeed
) -> Service:
    """The service beside the agent: the catalogue feed and the web endpoints."""

    def readiness() -> dict[str, bool]:
        return {"model": True, "catalogue": feed.loaded, "recovered": interests.ready}

    server = HttpServer(settings.metrics_host, settings.metrics_port, readiness)

    class Sidecar(Service):  # type: ignore[misc]  # mode is untyped
        """Starts and stops with the app."""

        async def on_start(self) -> None:
            await server.start()
            log.info("metrics and health on %s", server.url)

        async def on_stop(self) -> None:
            await feed.stop()
            await server.stop()

        @Service.task  # type: ignore[untyped-decorator]
        async def _feed(self) -> None:
            try:
                await feed.start()
                await feed.run()
            except FreshetError as error:
                app.fatal(error)

        @Service.task  # type: ignore[untyped-decorator]
        async def _show_readiness(self) -> None:
            async for _ in self.itertimer(1.0, name="readiness"):
                metrics.READY.set(all(readiness().values()))

    return Sidecar(beacon=app.beacon)


def _count(batch: RecordBatch, result: StepResult, begun_s: float, sent_s: float) -> None:
    """Count a micro-batch whose states and lists are acknowledged."""
    acked_s = time.time()
    topic = batch.topic
    metrics.BATCH_EVENTS.observe(len(batch))
    metrics.EVENTS_TOTAL.labels(topic).inc(result.folded)
    metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "applied").inc(result.skipped)
    metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "repeated").inc(result.repeated)
    metrics.UNKNOWN_ITEM_EVENTS_TOTAL.inc(result.unknown_items)
    metrics.MISROUTED_RECORDS_TOTAL.labels(topic).inc(result.misrouted)
    for placement, lists in result.lists_by_placement.items():
        metrics.LISTS_TOTAL.labels(placement).inc(lists)
    for rejection in result.rejections:
        metrics.DEAD_LETTERS_TOTAL.labels(topic, rejection.reason).inc()
    seconds = metrics.STAGE_SECONDS
    seconds.labels("poll").observe(max(begun_s - batch.timestamps_ms[-1] / 1000, 0.0))
    for stage, stage_s in result.stage_s.items():
        seconds.labels(stage).observe(stage_s)
    seconds.labels("publish").observe(acked_s - sent_s)
    stamps_s = np.array(batch.timestamps_ms, np.float64) / 1000
    metrics.EVENT_TO_LIST_SECONDS.observe_many(acked_s - stamps_s)


_warned_of_misrouting = False


def _warn_of_misrouting(batch: RecordBatch, result: StepResult) -> None:
    """Say once what the metric counts, with the cure."""
    global _warned_of_misrouting  # noqa: PLW0603  # once per process
    if result.misrouted and not _warned_of_misrouting:
        _warned_of_misrouting = True
        log.warning(
            "topic %s, partition %d: %d records sit in another partition than their key's, so a "
            "user's events may reach two workers. The producer must partition by murmur2 as the "
            "Java client does (librdkafka: partitioner=murmur2_random)",
            batch.topic,
            batch.partition,
            result.misrouted,
        )


def __getattr__(name: str) -> Any:
    """`app`, made at its first use: for `faust -A stream.app worker`, from the environment."""
    if name == "app":
        app = build_app(load_settings())
        globals()["app"] = app
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
