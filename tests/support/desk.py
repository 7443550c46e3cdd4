"""An engine with one shard that is sent events and asked requests, without a broker."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stream.config import Placement
from stream.contracts import Answer, decode_answer
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.micro_batch import PartResult
from stream.core.model import Model
from stream.core.pseudonyms import Pseudonyms
from stream.core.state import UserShard
from stream.kafka.batches import RecordBatch
from stream.placements import Items, Rule, Shoppers
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
PLACEMENTS = {
    "home": Placement(k=10, exclude_seen=True),
    "again": Placement(k=5, exclude_seen=False, exclude_bought=False),
    "coupons": Placement(k=3, kinds=("coupon",)),
}


OFTEN = Shoppers(events_from=2)
RULED = {
    "ruled": Placement(
        k=10,
        rules=(
            Rule(do="boost", items=Items(ids=("i5",)), users=OFTEN, add=3.0),
            Rule(do="leave_out", items=Items(ids=("i6",)), users=OFTEN),
        ),
    ),
    "basket": Placement(k=5, based_on="cart", exclude_in_cart=True),
    "varied": Placement(k=6, diversity=5.0),
    "ads": Placement(k=3, by_bid=True),
}


class Desk:
    """An engine with one shard, sent events and asked requests."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        ring: int = 10,
        secret: bytes | None = None,
        placements: dict[str, Placement] = PLACEMENTS,
    ) -> None:
        self.catalogue = Catalogue(bundle.item_ids)
        self.engine = Engine(
            Model(bundle, "cpu"),
            self.catalogue,
            kinds={"clicks": "clicks", "purchases": "purchases", "requests": "requests"},
            placements=placements,
            ring=ring,
            pseudonyms=Pseudonyms(secret),
        )
        self.shard: UserShard = self.engine.new_shard(0, 1)
        self.offset = 0

    def batch(self, topic: str, records: list[dict[str, Any]]) -> RecordBatch:
        first, self.offset = self.offset, self.offset + len(records)
        return RecordBatch(
            topic,
            0,
            first,
            self.offset,
            [str(record["user_id"]).encode() for record in records],
            [msgspec.json.encode(record) for record in records],
            list(range(first, self.offset)),
            [NOW_MS] * len(records),
        )

    def did(self, *items: str, user: str = "u", kind: str = "click", at_ms: int = NOW_MS) -> Any:
        """Events of a user, one after the other; answers the user's last list."""
        topic = "purchases" if kind == "purchase" else "clicks"
        records = [
            {"user_id": user, "item_id": item, "type": kind, "event_time_ms": at_ms}
            for item in items
        ]
        (result,) = self.engine.step([Part(self.shard, self.batch(topic, records))], NOW_MS).parts
        return msgspec.json.decode(result.list_values[-1])["lists"]

    def asked(self, *requests: dict[str, Any], now_ms: int = NOW_MS) -> PartResult:
        records = [
            {"request_id": f"r{number}", "user_id": "u", **request}
            for number, request in enumerate(requests)
        ]
        batch = self.batch("requests", records)
        (result,) = self.engine.step([Part(self.shard, batch)], now_ms).parts
        return result

    def ask(self, kind: str, /, **request: Any) -> Answer:
        result = self.asked({"type": kind, **request})
        assert result.dead_values == []
        (value,) = result.answer_values
        return decode_answer(value)


def ids(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def scores(answer: Answer) -> list[float]:
    return [item.score for item in answer.items]


@pytest.fixture
def ruled(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle, placements=RULED)
