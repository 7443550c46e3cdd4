"""The shop's job as Faust's documentation would have it: one agent, one table, default settings.

    python -m tests.chaos.plain_faust freshet.toml

It folds with the checker's own reference, so that no arithmetic can differ. Its sessions and
commits are as short as Freshet's. What a table's value begins with is for the checker
(`peer.FaustChangelog`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import faust

from stream.config import load_settings
from stream.core.bundle import Bundle
from tests.chaos import decode
from tests.chaos.fold import Arithmetic, Reference
from tests.chaos.peer import MADE_BY, NEW_ITEMS, READY_LINE

config = Path(sys.argv[1])
settings = load_settings(config)
topics = settings.topics
assert settings.bundle is not None
arithmetic = Arithmetic(
    Bundle.load(settings.bundle), json.loads((config.parent / NEW_ITEMS).read_text())
)
TYPES = {topics.clicks: decode.CLICKS, topics.purchases: decode.PURCHASES}
NUMBERS = {topics.clicks: 0, topics.purchases: 1}

app = faust.App(
    settings.group,
    broker=f"kafka://{settings.bootstrap}",
    store="memory://",
    topic_partitions=topics.partitions,
    topic_allow_declare=False,
    topic_disable_leader=True,
    datadir=tempfile.mkdtemp(prefix="faust-"),
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=settings.broker.session_timeout_s,
    broker_heartbeat_interval=settings.broker.heartbeat_s,
    broker_commit_interval=settings.broker.commit_every_s,
)
raw = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
sources = app.topic(topics.clicks, topics.purchases, **raw)
lists = app.topic(topics.recommendations, partitions=topics.partitions, **raw)
letters = app.topic(topics.dead_letters, partitions=topics.partitions, **raw)
interests = app.Table(
    "interests",
    partitions=topics.partitions,
    key_type=bytes,
    value_type=bytes,
    schema=faust.Schema(**raw),
)


@app.agent(sources)  # type: ignore[untyped-decorator]
async def personalize(records: Any) -> None:
    """Fold each event into its user's state and send one list, or a dead letter."""
    async for record in records.events():
        message = record.message
        at = (message.topic, message.partition, message.offset)
        try:
            event = decode.event(message.key, message.value, TYPES[message.topic])
        except decode.BadRecordError:
            own = list(message.headers or [])
            told = [
                ("topic", at[0]),
                ("partition", at[1]),
                ("offset", at[2]),
                ("headers", len(own)),
            ]
            await letters.send(
                key=message.key,
                value=message.value,
                partition=message.partition,
                headers=[*own, *((f"freshet-{name}", str(is_).encode()) for name, is_ in told)],
            )
            continue
        before = interests.get(event.user)
        user = Reference.decode(arithmetic, before and before[MADE_BY.size :])
        user.fold(event)
        made_by = MADE_BY.pack(NUMBERS[message.topic], message.offset)
        interests[event.user] = made_by + user.encode()
        cause = dict(zip(("topic", "partition", "offset"), at, strict=True))
        cause["event_time_ms"] = event.time_ms
        await lists.send(key=event.user, value=json.dumps({"cause": cause}).encode())


@app.task  # type: ignore[untyped-decorator]
async def say_ready() -> None:
    """Faust runs its tasks once its tables are recovered."""
    print(READY_LINE, flush=True)


if __name__ == "__main__":
    sys.argv = [sys.argv[0], "worker", "--without-web", "-l", "warn"]
    app.main()
