"""A shop for tests of the engine: one shard that is fed with plain events, no broker."""

from __future__ import annotations

from typing import Any

import msgspec

from stream.config import Placement
from stream.contracts import Recommendation, decode_recommendation
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.micro_batch import PartResult
from stream.core.model import Model
from stream.core.state import UserShard
from stream.core.statistics.merged import Merged
from stream.core.weighing import Weighing
from stream.kafka.batches import RecordBatch
from stream.settings.weights import UNSET, Weights
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000


class Shop:
    """An engine with one shard, fed with plain events."""

    def __init__(
        self,
        bundle: Bundle,
        ring: int = 10,
        counts: Merged | None = None,
        resend_after_s: float = 0.0,
        impressions: int = 0,
        weights: Weights = UNSET,
        **placements: Placement,
    ) -> None:
        self.catalogue = Catalogue(bundle.item_ids, bundle.repurchase_s)
        model = Model(bundle, "cpu")
        model.weigh(Weighing.of(bundle.manifest, weights))
        self.engine = Engine(
            model,
            self.catalogue,
            kinds={"clicks": "clicks", "purchases": "purchases"},
            placements=placements or {"home": Placement(k=10, exclude_seen=True)},
            ring=ring,
            counts=counts,
            resend_after_s=resend_after_s,
            impressions=impressions,
        )
        self.shard: UserShard = self.engine.new_shard(0, 1)
        self.offset = 100  # so that an offset is no position in a batch

    def step(
        self, *events: dict[str, Any] | bytes, applied: int = 0, now_ms: int = NOW_MS
    ) -> PartResult:
        batch = self.batch(*events)
        (result,) = self.engine.step([Part(self.shard, batch, applied)], now_ms).parts
        return result

    def batch(self, *events: dict[str, Any] | bytes) -> RecordBatch:
        kind = "clicks"
        values, keys = [], []
        for event in events:
            if isinstance(event, bytes):
                values.append(event)
                keys.append(b"u")
                continue
            full = {"user_id": "u", "type": "click", "event_time_ms": NOW_MS, **event}
            kind = "purchases" if full["type"] in ("purchase", "cancel") else "clicks"
            values.append(msgspec.json.encode(full))
            keys.append(str(full["user_id"]).encode())
        first, self.offset = self.offset, self.offset + len(values)
        offsets = list(range(first, self.offset))
        return RecordBatch(
            kind, 0, first, self.offset, keys, values, offsets, [NOW_MS] * len(values)
        )


def lists(result: PartResult) -> list[Recommendation]:
    return [decode_recommendation(value) for value in result.list_values]


def items(result: PartResult, placement: str = "home") -> list[str]:
    (record,) = lists(result)
    return [listed.item_id for listed in record.lists[placement].items]
