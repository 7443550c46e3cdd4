"""Peer (a): the job as Faust's documentation would have it. One agent, one table, default settings.

In favour of Faust: the table holds raw bytes rather than JSON lists, and its store is in memory.
"""

from __future__ import annotations

import faust
import numpy as np

from tests.bench.interest import (
    DECAY,
    PARTITIONS,
    Spec,
    now_us,
    output_values,
    read_vectors,
    rows_by_item,
)

spec = Spec.from_environment()
vectors = read_vectors(spec.vectors)
row_by_item = rows_by_item(len(vectors))

app = faust.App(
    f"{spec.run}-faust",
    broker=f"kafka://{spec.bootstrap}",
    store="memory://",
    topic_partitions=PARTITIONS,
    datadir=spec.folder,
    web_enabled=False,
)


class Click(faust.Record, serializer="json"):  # type: ignore[misc, call-arg]
    """A click as it stands in the topic."""

    event_id: str
    user_id: str
    item_id: str
    type: str
    event_time_ms: int


clicks_topic = app.topic(spec.source, key_type=str, value_type=Click)
outputs_topic = app.topic(
    spec.output, key_type=str, value_type=bytes, value_serializer="raw", partitions=PARTITIONS
)
interests = app.Table(
    "interests",
    partitions=PARTITIONS,
    key_type=str,
    value_type=bytes,
    schema=faust.Schema(key_type=str, value_type=bytes, value_serializer="raw"),
)


@app.agent(clicks_topic)  # type: ignore[untyped-decorator]
async def fold_clicks(clicks: faust.Stream[Click]) -> None:
    """Fold each click into its user's interest vector and send one output."""
    async for event in clicks.events():
        picked_us = now_us()
        click = event.value
        vector = vectors[row_by_item[click.item_id]]
        before = interests.get(click.user_id)
        if before is not None:
            vector = np.frombuffer(before, dtype=np.float32) * DECAY + vector
        interests[click.user_id] = vector.tobytes()
        value = output_values([event.message.offset], picked_us, now_us())[0]
        await outputs_topic.send(key=click.user_id, value=value)


if __name__ == "__main__":
    app.main()
