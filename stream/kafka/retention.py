"""How long topics keep what was written to them. In: topic names. Out: times, by their settings.

Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stream.kafka.cluster import Cluster
from stream.kafka.specs import policies_of
from stream.kafka.told import settings_told

log = logging.getLogger(__name__)

_ASK_AGAIN_S = 60.0
_TRIES = 2
_BETWEEN_TRIES_S = 0.5
# A broker looks for old segments every five minutes and removes their files a minute later.
_SLACK_MS = 600_000
_POLICY, _RETENTION, _SEGMENT = "cleanup.policy", "retention.ms", "segment.ms"
_MIN_LAG, _MAX_LAG = "min.compaction.lag.ms", "max.compaction.lag.ms"
_TOMBSTONES = "delete.retention.ms"
# The embedded broker tells only what a topic was made with, which says nothing of the rest.
_DECIDING = {_POLICY, _RETENTION, _SEGMENT, _MIN_LAG, _MAX_LAG, _TOMBSTONES}
_ENDLESS_MS = 2**62  # Kafka's own "never" of max.compaction.lag.ms is 2**63 - 1


class Retention:
    """Asks the brokers for their topics' settings, at most once a minute.

    Parameters
    ----------
    topics : names
    """

    def __init__(self, cluster: Cluster, topics: Sequence[str]) -> None:
        self._cluster = cluster
        self._topics = list(topics)
        self._kept_ms: dict[str, int | None] = {}
        self._asked_s = -_ASK_AGAIN_S
        self._asking: asyncio.Task[None] | None = None

    async def kept_ms(self) -> dict[str, int | None]:
        """Topic -> the longest time that a record of now, once replaced by a tombstone, is kept.

        None where the settings name no end. A topic whose settings the brokers do not tell, or not
        all, is not there; they are asked once more for it now, and again the next time.
        """
        if time.monotonic() - self._asked_s >= _ASK_AGAIN_S:
            # Erasures of several partitions come at once: they wait for the same answer, or an
            # earlier question that fails late would take the place of a later one's answer.
            if self._asking is None or self._asking.done():
                self._asking = asyncio.ensure_future(self._ask_for_all())
            await asyncio.shield(self._asking)
        return self._kept_ms

    async def _ask_for_all(self) -> None:
        for _ in range(_TRIES):
            self._kept_ms = await self._ask()
            missing = sorted(set(self._topics) - self._kept_ms.keys())
            if not missing:
                self._asked_s = time.monotonic()
                return
            await asyncio.sleep(_BETWEEN_TRIES_S)
        log.warning("the brokers do not tell the settings of %s", ", ".join(missing))

    async def _ask(self) -> dict[str, int | None]:
        admin = AIOKafkaAdminClient(**self._cluster.options())
        told: dict[str, dict[str, str | None]] = {}
        try:
            await admin.start()
            told = await settings_told(admin, self._topics)
        except (KafkaError, OSError, NotImplementedError):  # the last for versions unknown to it
            pass
        finally:
            await admin.close()
        return {
            topic: longest_kept_ms(settings)
            for topic, settings in told.items()
            if settings.keys() >= _DECIDING
        }


def longest_kept_ms(settings: Mapping[str, str | None]) -> int | None:
    """How long a topic with these settings keeps a record at most, in ms; None: no end.

    A segment goes once its newest record is over retention.ms; it takes records for segment.ms. In
    a compacted topic it is rewritten within max.compaction.lag.ms of being written to, or once its
    newest record is over min.compaction.lag.ms, without what a later record of the key replaced;
    and once more within that time of delete.retention.ms, without the tombstone.
    """

    def number(name: str) -> int | None:
        value = settings.get(name)
        found = -1 if value is None else int(value)
        return found if 0 <= found < _ENDLESS_MS else None

    policies = policies_of(settings.get(_POLICY) or "delete")
    bounds = []
    retention_ms, segment_ms = number(_RETENTION), number(_SEGMENT)
    if "delete" in policies and retention_ms is not None and segment_ms is not None:
        bounds.append(retention_ms + segment_ms)
    lag_ms, tombstones_ms = number(_MAX_LAG), number(_TOMBSTONES)
    if "compact" in policies and lag_ms is not None and tombstones_ms is not None:
        taking_ms = lag_ms if segment_ms is None else min(segment_ms, lag_ms)
        lag_ms = max(lag_ms, taking_ms + (number(_MIN_LAG) or 0))
        bounds.append(2 * lag_ms + tombstones_ms)
    kept_ms = min(bounds, default=_ENDLESS_MS) + _SLACK_MS
    return kept_ms if kept_ms < _ENDLESS_MS else None
