"""A member of a group that has nothing to do stays, and takes over when another one goes."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from kafka.admin import KafkaAdminClient, NewTopic

from stream.kafka.broker import BrokerProcess
from stream.kafka.group import poll_once

pytestmark = pytest.mark.kafka_only  # the embedded broker is for one worker alone

IDLE_S = 2.0


def create(broker: BrokerProcess, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        admin.close()


async def member(broker: BrokerProcess, topic: str, group: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=300,
        max_poll_interval_ms=int(IDLE_S * 1000),
        metadata_max_age_ms=600_000,
    )
    await consumer.start()
    return consumer


async def polled(*consumers: AIOKafkaConsumer, until_s: float, has: int | None = None) -> bool:
    """Poll for so long, or until the consumer of that index has a partition."""
    loop = asyncio.get_running_loop()
    end = loop.time() + until_s
    while loop.time() < end:
        for consumer in consumers:
            consumer.pause(*consumer.assignment())
            await poll_once(consumer)
        if has is not None and consumers[has].assignment():
            return True
        await asyncio.sleep(0.2)
    return False


def test_a_spare_member_stays_and_takes_over(broker: BrokerProcess, unique: str) -> None:
    async def run() -> None:
        first = await member(broker, unique, f"group-{unique}")
        spare = None
        try:
            assert await polled(first, until_s=15, has=0)
            spare = await member(broker, unique, f"group-{unique}")
            await polled(first, spare, until_s=2 * IDLE_S + 1)
            pair = (first, spare)
            at = next(i for i, one in enumerate(pair) if not one.assignment())
            await pair[1 - at].stop()
            assert await polled(pair[at], until_s=15, has=0)
        finally:
            await first.stop()
            if spare is not None:
                await spare.stop()

    create(broker, unique)
    asyncio.run(run())
