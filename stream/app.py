"""Freshet's Faust application: topics, table, agent. Wiring only.

    clicks ----+                                          +--> recommendations
    purchases -+--> personalize: engine.step on shards  --+--> dead-letters
    erasures --+                         |                +--> answers
    requests --+                         |                +--> receipts
    items --> catalogue                  |                +--> trending, <group>-statistics
                                         |                      /metrics /healthz /readyz
                                         +--> changelog (states and applied offsets, fenced)

`freshet worker` and `faust -A stream.app worker` both start it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from math import ceil
from typing import Any, NoReturn, cast

from mode import Service

from stream import metrics
from stream.allocator import keep_freed, start_overwriting
from stream.config import (
    Settings,
    environment_with,
    given_origins,
    load_settings,
    settings_file,
)
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine, Source
from stream.core.lifecycle import Limits
from stream.core.model import Model
from stream.core.pseudonyms import Pseudonyms
from stream.core.sessions import wanted_provider
from stream.core.state import UserShard
from stream.core.statistics.counts import Counts
from stream.core.statistics.merged import Merged
from stream.core.weighing import Weighing
from stream.errors import SettingsError
from stream.feed import CatalogueFeed
from stream.kafka import transport
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.holding import longest_wait_s
from stream.kafka.specs import INTERESTS
from stream.kafka.table import InterestTable
from stream.kafka.topics import require_topics
from stream.kafka.transport import BatchApp
from stream.live import LiveSettings, SettingsFile
from stream.observe import Observer
from stream.receipts import Receipts
from stream.sidecar import Sidecar
from stream.tally import Tally, fading_of
from stream.words.templates import Words


class FreshetApp(BatchApp):
    """Starts its sidecar first: the endpoints must answer while states are recovered."""

    sidecar: Service | None = None

    def on_init_dependencies(self) -> Iterable[Service]:
        """Upstream: App.on_init_dependencies; services of `App.service` would start last."""
        return [*filter(None, [self.sidecar]), *super().on_init_dependencies()]


def build_app(
    settings: Settings, file: SettingsFile | None = None, origins: Mapping[str, str] = {}
) -> BatchApp:
    """Load the model and wire the application.

    Parameters
    ----------
    file : where the settings come from, to be followed; None: they stay as they are
    origins : where each of them was given, by its path, for messages

    Raises
    ------
    SettingsError : no bundle is named, or it does not take the weights that are set
    BundleError, ProviderError : the bundle cannot be served here
    """
    topics = settings.topics
    merged = Merged(fading_of(settings))
    engine = load_engine(settings, merged, origins)
    app = FreshetApp(settings, check=require_topics)
    interests = InterestTable(
        app,
        INTERESTS,
        partial(engine.new_shard, partitions=topics.partitions),
        keyed_by=engine.pseudonyms.fingerprint,
        upkeep=lambda holding: tally.outputs(holding.partition, cast(UserShard, holding.shard)),
    )
    feed = CatalogueFeed(
        settings,
        engine.catalogue,
        engine.model.embedding_dim,
        owns=lambda partition: partition in interests.holdings,
        content=engine.model.content,
    )
    tally = Tally(
        settings,
        engine.catalogue,
        merged,
        owns=lambda partition: partition in interests.holdings,
        catalogue_loaded=feed.wait_loaded,
        lists=engine.answers.lists,
    )
    engine.answers.trending = tally
    if settings.statistics.contexts:
        engine.answers.contexts = tally
    observer = Observer(engine.quality, topics, engine.answers.lists)
    metrics.UNACKNOWLEDGED_SECONDS.set_function(partial(longest_wait_s, interests.holdings))
    app.sidecar = Sidecar(
        settings,
        feed,
        tally,
        LiveSettings(settings, file, engine, adopted=observer.follow),
        recovered=lambda: app.serving and interests.ready,
        fatal=app.fatal,
    )
    receipts = Receipts(settings)
    sources = app.batches(topics.clicks, topics.purchases, topics.erasures, topics.requests)

    @app.agent(sources)  # type: ignore[untyped-decorator]
    async def personalize(batches: AsyncIterator[RecordBatch]) -> None:
        """Fold each micro-batch into its users' states, publish their fresh lists and answers."""
        await feed.wait_loaded()
        async for turns in interests.turns(batches):
            begun_s = time.time()
            result = engine.step(turns, now_ms=int(begun_s * 1000))
            observer.stepped(result)
            sent_s = time.time()
            for turn, part in zip(turns, result.parts, strict=True):
                await turn.commit(
                    Records(*part.changelog),
                    {
                        topics.recommendations: Records(part.list_keys, part.list_values),
                        topics.answers: Records(part.answer_keys, part.answer_values),
                        topics.dead_letters: Records(
                            part.dead_keys, part.dead_values, part.dead_headers
                        ),
                        **tally.outputs(turn.batch.partition, turn.shard),
                    },
                    on_acked=partial(observer.acked, turn.batch, part, begun_s, sent_s),
                    afterwards=receipts.due(turn.batch, part.erased),
                )

    return app


def load_engine(
    settings: Settings, counts: Merged | None = None, origins: Mapping[str, str] = {}
) -> Engine:
    """The engine that the settings describe; see `build_app` for what it raises.

    Parameters
    ----------
    counts : of all workers, of items and of rewards of exploring; None: the engine goes by its own
    origins : where each setting was given, by its path, for messages
    """
    if settings.bundle is None:
        raise SettingsError(
            "no model bundle is named: set FRESHET_BUNDLE (or `bundle` in the configuration) to a "
            "folder that `freshet-export train` wrote"
        )
    keep_freed()
    bundle = Bundle.load(settings.bundle)
    model = Model(bundle, settings.provider)
    weighing = Weighing.of(bundle.manifest, settings.weights, lambda at: origins.get(at, at))
    model.weigh(weighing)
    wanted = wanted_provider(settings.provider)
    metrics.set_model_info(bundle.bundle_id, bundle.manifest.model, model.provider, wanted)
    kinds: dict[str, Source] = {
        settings.topics.clicks: "clicks",
        settings.topics.purchases: "purchases",
        settings.topics.erasures: "erasures",
        settings.topics.requests: "requests",
    }
    state, secret = settings.state, settings.privacy.secret
    worded = settings.words.written_to
    words = Words.of(settings.words)  # what is wrong with them is told at the start
    engine = Engine(
        model,
        Catalogue(bundle.item_ids, bundle.repurchase_s, titles=worded != "nothing"),
        kinds=kinds,
        placements=settings.placements,
        ring=state.ring,
        impressions=state.impressions,
        limits=Limits(ceil(state.expire_after_s * 1000), state.max_users),
        pseudonyms=Pseudonyms(None if secret is None else secret.reveal_bytes()),
        new_counts=partial(
            Counts,
            fading_of(settings),
            settings.statistics.tell_every_s * 1000,
            settings.statistics.context_names,
        ),
        quality=settings.quality,
        counts=counts,
        resend_after_s=settings.lists.resend_after_s,
    )
    if worded != "nothing":
        engine.answers.put_into_words(words)
    if worded == "lists":
        engine.answers.lists.put_into_words(words)
    return engine


def run_worker(
    settings: Settings, file: SettingsFile | None = None, origins: Mapping[str, str] = {}
) -> NoReturn:
    """Run the engine in the foreground until SIGTERM or Ctrl-C; leaves by SystemExit."""
    transport.run_worker(build_app(settings, file, origins), settings.log_level)


def __getattr__(name: str) -> Any:
    """`app`, made at its first use: for `faust -A stream.app worker`, from the environment."""
    if name == "app":
        settings = load_settings()
        if settings.privacy.overwrite_memory:
            start_overwriting(environment_with({}))
        file = SettingsFile.of(settings_file(), lambda content: load_settings(content=content))
        app = build_app(settings, file, given_origins())
        globals()["app"] = app
        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
