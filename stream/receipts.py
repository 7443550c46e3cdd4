"""Receipts of erasures. In: users that were forgotten. Out: the records that say so.

A receipt is made once every removal is acknowledged, and names nobody: its key is a salted hash.
With it goes a tombstone of the erasure itself, whose key is the user's id.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from stream.config import Settings
from stream.contracts import Cause, Receipt, encode_record
from stream.core.micro_batch import Batch, ErasedUser
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.retention import Retention
from stream.kafka.specs import changelog_topic, statistics_topic

# What fetched and sent record batches leave in cycles holds ids, and a worker collects seldom. Some
# time after the receipt, since its own sending leaves such cycles too.
_COLLECT_AFTER_S = 2.0


class Receipts:
    """Makes receipts; asks the brokers how long copies live elsewhere."""

    def __init__(self, settings: Settings) -> None:
        names = settings.topics
        self._topics = names
        self._removed = (changelog_topic(settings), names.recommendations)
        # Counts by hash of an item, items that trend, salted hashes: no record is of a user.
        self._without_user_ids = (statistics_topic(settings), names.trending, names.receipts)
        # Where a user's records may still stand, by what these topics are set to keep.
        self._copies = (
            names.clicks,
            names.purchases,
            names.requests,
            names.erasures,
            names.answers,
            names.dead_letters,
            *self._removed,
        )
        self._retention = Retention(Cluster.of(settings), self._copies)

    def due(
        self, batch: Batch, erased: list[ErasedUser]
    ) -> Callable[[], Awaitable[Mapping[str, Records]]] | None:
        """What to send once the removal of these users is acknowledged; None when there are none.

        Parameters
        ----------
        batch : the one that their erasures came in
        """
        if not erased:
            return None
        return partial(self._make, batch, erased)

    async def _make(self, batch: Batch, erased: list[ErasedUser]) -> Mapping[str, Records]:
        now_ms = time.time_ns() // 1_000_000
        kept_ms = await self._retention.kept_ms()
        until_ms = {
            topic: None if kept is None else now_ms + kept for topic, kept in kept_ms.items()
        }
        unknown = tuple(topic for topic in self._copies if topic not in kept_ms)
        keys = [user.user_hash.hex() for user in erased]
        receipts = [
            Receipt(
                user_hash=key,
                erasure=Cause(
                    batch.topic, batch.partition, user.offset, user.erasure.event_time_ms
                ),
                removed=self._removed,
                copies_until_ms=until_ms,
                completed_ms=now_ms,
                copies_unknown=unknown,
                without_user_ids=self._without_user_ids,
            )
            for key, user in zip(keys, erased, strict=True)
        ]
        asyncio.get_running_loop().call_later(_COLLECT_AFTER_S, gc.collect)
        ids = list(dict.fromkeys(user.user_id for user in erased))
        return {
            self._topics.receipts: Records(
                [key.encode() for key in keys], list(map(encode_record, receipts))
            ),
            self._topics.erasures: Records(ids, [None] * len(ids)),
        }
