"""Topics' settings as the brokers tell a worker. In: topic names. Out: names and values of each."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType


async def settings_told(
    admin: AIOKafkaAdminClient, topics: Iterable[str]
) -> dict[str, dict[str, str | None]]:
    """Topic -> its settings; a topic of which nothing is told is not there.

    Raises
    ------
    KafkaError, NotImplementedError : no answer, or a broker that knows no such question
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    return {
        topic: {name: value for name, value, *_ in entries}
        for response in await admin.describe_configs(resources)
        for error_code, _, _, topic, entries in response.resources
        if error_code == 0
    }
