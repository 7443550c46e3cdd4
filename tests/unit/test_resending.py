"""Lists that show the same as those before are sent again after a while, and others at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Placement
from stream.contracts import Item, Recommendation
from stream.core.bundle import Bundle
from stream.core.micro_batch import PartResult
from stream.core.standing import Standing, extended
from stream.placements import Pin
from tests.support.engine import NOW_MS, Shop, lists

HOUR_S = 3600.0
AGAIN = {"item_id": "i7"}  # the same interest, only stronger


def shop_of(bundle: Bundle, resend_after_s: float = HOUR_S, **placements: Placement) -> Shop:
    rules = placements or {"home": Placement(k=5, exclude_seen=False)}
    return Shop(bundle, resend_after_s=resend_after_s, **rules)


def keys(result: PartResult) -> list[bytes]:
    assert len(result.list_keys) == len(result.list_values)
    assert result.unchanged + len(result.list_keys) == len(result.state_keys)
    return result.list_keys


def shown(record: Recommendation) -> dict[str, list[str]]:
    return {name: [item.item_id for item in of.items] for name, of in record.lists.items()}


def test_every_event_has_a_list_unless_the_settings_say_otherwise(decay_bundle: Bundle) -> None:
    shop = Shop(decay_bundle)
    for _ in range(3):
        assert keys(shop.step(AGAIN)) == [b"u"]
    assert shop.shard.standing.nbytes == 0


def test_a_list_that_shows_the_same_is_not_sent(decay_bundle: Bundle) -> None:
    """Its scores are others, and so is its cause."""
    shop = shop_of(decay_bundle)
    assert keys(shop.step(AGAIN)) == [b"u"]
    same = shop.step(AGAIN, {"item_id": "i3", "user_id": "new"})
    assert keys(same) == [b"new"]
    assert (same.unchanged, same.lists_by_arm) == (1, {"home": 1})
    (record,) = lists(same)
    assert record.user_id == "new"
    assert keys(shop.step(*[{"item_id": "i3"}] * 9)) == [b"u"], "another interest by now"


def test_a_list_is_sent_again_after_a_while(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle)
    wanted = {0: 1, 1000: 0, 3_599_999: 0, 3_600_000: 1, 3_600_001: 0, 7_199_999: 0, 7_200_000: 1}
    for later_ms, sent in wanted.items():
        assert len(keys(shop.step(AGAIN, now_ms=NOW_MS + later_ms))) == sent, later_ms
    assert keys(shop.step(AGAIN, now_ms=NOW_MS)) == [b"u"], "the clock was set back"


def test_another_price_and_another_placement_are_changes(decay_bundle: Bundle) -> None:
    shop = shop_of(
        decay_bundle,
        home=Placement(k=5, exclude_seen=False),
        mail=Placement(k=2, exclude_seen=False, exclude_bought=False, pins=(Pin("new", 1),)),
    )
    for item_id in decay_bundle.item_ids[1:]:
        shop.catalogue.put(Item(item_id, price=3))
    assert keys(shop.step(*[AGAIN] * 30)) == [b"u"]
    assert keys(shop.step(AGAIN)) == []
    shop.catalogue.put(Item("i7", price=4))
    assert keys(shop.step(AGAIN)) == [b"u"]
    assert keys(shop.step(AGAIN)) == []
    shop.catalogue.put(Item("new", price=3))  # mail alone lists it: its score is nearly 0
    assert keys(shop.step(AGAIN)) == [b"u"]
    assert keys(shop.step(AGAIN)) == []


def test_who_left_or_was_taken_over_is_sent_a_list(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle)
    for user in ("a", "b", "c"):
        shop.step({**AGAIN, "user_id": user})
    shop.shard.forget([b"a"])
    for user, sent in (("c", 0), ("b", 0), ("a", 1), ("a", 0), ("c", 0)):
        assert len(keys(shop.step({**AGAIN, "user_id": user}))) == sent, user
    value = shop.step({**AGAIN, "user_id": "c"}).state_values[0]
    shop.shard = shop.engine.new_shard(0, 1)
    shop.shard.load([b"c"], [value])
    assert keys(shop.step({**AGAIN, "user_id": "c"})) == [b"c"]


Steps = st.lists(
    st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from([1, 1, 1, 7, 9])), min_size=1),
    max_size=8,
)


@settings(deadline=None, max_examples=25)
@given(steps=Steps)
def test_whoever_keeps_the_newest_record_sees_the_newest_list(
    decay_bundle: Bundle, steps: list[list[tuple[str, int]]]
) -> None:
    """Every event is reflected in what stands: it shows what a list of every event would."""
    shops = [shop_of(decay_bundle), Shop(decay_bundle, home=Placement(k=5, exclude_seen=False))]
    stands: list[dict[str, Any]] = [{}, {}]
    for step in steps:
        events = [{"user_id": user, "item_id": f"i{item}"} for user, item in step]
        for shop, standing in zip(shops, stands, strict=True):
            for record in lists(shop.step(*events)):
                standing[record.user_id] = shown(record)
        assert stands[0] == stands[1]


def test_hashes_tell_order_and_length_apart() -> None:
    nothing = np.zeros(5, np.uint64)
    rows = np.array([[1, 2, 3], [1, 3, 2], [1, 2, 0], [0, 1, 2], [1, 2, 3]])
    found = extended(nothing, rows).tolist()
    assert found[0] == found[4]
    assert len(set(found)) == 4
    assert extended(nothing[:1], np.zeros((1, 0), np.int64)).tolist() == [1]
    rng = np.random.default_rng(1)
    many = extended(np.zeros(100_000, np.uint64), rng.integers(0, 50, (100_000, 12)))
    assert len(np.unique(many)) == 100_000


def test_memory_is_a_hash_and_a_time_a_user() -> None:
    standing = Standing()
    slots, hashes = np.arange(100_000), np.arange(1, 100_001).astype(np.uint64)
    for first in range(0, 100_000, 1000):
        some = slice(first, first + 1000)
        assert standing.renew(slots[some], hashes[some], 5, 10).all()
    assert 16 * 100_000 <= standing.nbytes <= 24 * 100_000
    assert not standing.renew(slots, hashes, 14, 10).any()
    standing.leave(3, 99_999)
    assert standing.renew(slots[:5], hashes[:5], 14, 10).tolist() == [False] * 3 + [True, False]
