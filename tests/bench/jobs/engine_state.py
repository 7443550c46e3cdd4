"""This engine without scoring: its transport, table, fence, decode; no lists.

`vector`  the peers' state, 64 float32 a user (`Interests`);
`user`    the engine's own user state: newest event time, count, a model's vector, the ring of 50.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np

from stream.config import Settings
from stream.contracts import Events, decode_events
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.fold import fold
from stream.core.model import Model
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.specs import INTERESTS, TopicSpec, changelog_config, changelog_topic
from stream.kafka.table import InterestTable
from stream.kafka.topics import create_topics
from stream.kafka.transport import BatchApp, run_worker
from stream.settings import Topics
from tests.bench.interest import (
    PARTITIONS,
    Interests,
    Spec,
    now_us,
    output_values,
    read_vectors,
    rows_by_item,
)

# (new shard of a partition, fold of new events into it -> changelog records)
Job = tuple[Callable[[int], Any], Callable[[Any, Events], Records]]


def vector_job(spec: Spec) -> Job:
    """The peers' state."""
    vectors = read_vectors(spec.vectors)
    row_by_item = rows_by_item(len(vectors))

    def fold_vectors(shard: Interests, events: Events) -> Records:
        rows = np.array([row_by_item[item_id] for item_id in events.items])
        touched = shard.fold(events.users, rows)
        keys = [shard.keys[slot] for slot in touched.tolist()]
        return Records(keys, shard.encoded(touched))

    return lambda _: Interests(vectors), fold_vectors


def user_job(spec: Spec) -> Job:
    """The engine's own state."""
    assert spec.bundle is not None, "the harness makes one"
    bundle = Bundle.load(spec.bundle)
    model = Model(bundle, "cpu")
    catalogue = Catalogue(bundle.item_ids)
    layout = Layout(model.state_size, bundle.manifest.state.storage, 50, bundle.version)

    def fold_users(shard: UserShard, events: Events) -> Records:
        number = {key: n for n, key in enumerate(dict.fromkeys(events.users))}
        users = Users.of(shard, list(number))
        fold(model, catalogue, users, np.array([number[key] for key in events.users]), events)
        return Records(users.keys, users.store())

    return lambda partition: UserShard(layout, partition, PARTITIONS), fold_users


def main() -> None:
    """Fold clicks until SIGTERM."""
    spec = Spec.from_environment()
    new_shard, fold_events = {"vector": vector_job, "user": user_job}[sys.argv[1]](spec)
    settings = Settings(
        bootstrap=spec.bootstrap,
        group=f"{spec.run}-engine",
        topics=Topics(clicks=spec.source, partitions=PARTITIONS),
    )
    create_topics(settings, [TopicSpec(changelog_topic(settings), changelog_config(settings))])
    app = BatchApp(settings)
    interests = InterestTable(app, INTERESTS, new_shard)

    @app.agent(app.batches(spec.source))  # type: ignore[untyped-decorator]
    async def fold_clicks(batches: AsyncIterator[RecordBatch]) -> None:
        """Fold each micro-batch and publish an output for each of its events."""
        async for turns in interests.turns(batches):
            for turn in turns:
                picked_us = now_us()
                now_ms = int(time.time() * 1000)
                batch = turn.batch
                events, _ = decode_events("clicks", batch.keys, batch.values, batch.offsets, now_ms)
                new = events.tail(int(np.searchsorted(events.offsets, turn.applied)))
                changelog = fold_events(turn.shard, new) if len(new) else None
                outputs = output_values(batch.offsets, picked_us, now_us())
                await turn.commit(changelog, {spec.output: Records(events.users, outputs)})

    run_worker(app, "warning")


if __name__ == "__main__":
    main()
