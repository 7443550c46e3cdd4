"""How often an ad is shown to a user: remembered in the state, counted in a window, left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Placement, load_settings
from stream.contracts import Item
from stream.core.bundle import Bundle
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout, decode_values
from stream.errors import SettingsError
from stream.placements import Frequency
from tests.support.engine import NOW_MS, Shop, items

DAY_MS = 86_400_000


def shop_of(bundle: Bundle, most: int | None = 2, impressions: int = 6) -> Shop:
    ads = Placement(
        k=3, kinds=("ad",), by_bid=True, exclude_seen=False, frequency=Frequency(most=most)
    )
    shop = Shop(bundle, impressions=impressions, ads=ads)
    for item_id in ("i1", "i2", "i3"):
        shop.catalogue.put(Item(item_id, kind="ad", bid=1))
    shop.catalogue.put(Item("i4"))
    return shop


def shown(item_id: str, at_ms: int = NOW_MS, user: str = "u", **fields: Any) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "type": "impression",
        "event_time_ms": at_ms,
        "user_id": user,
        **fields,
    }


def listed(shop: Shop, *events: dict[str, Any], now_ms: int = NOW_MS) -> set[str]:
    return set(items(shop.step(*events, now_ms=now_ms), "ads"))


# -- lists -----------------------------------------------------------------------------------


def test_an_ad_is_left_out_once_it_was_shown_often_enough(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle)
    assert listed(shop, shown("i1")) == {"i1", "i2", "i3"}
    assert listed(shop, shown("i1"), shown("i2")) == {"i2", "i3"}
    other = shop.step(shown("i2", user="other"))
    assert set(items(other, "ads")) == {"i1", "i2", "i3"}, "of another user nothing was counted"


def test_without_a_limit_and_without_a_memory_ads_are_shown_for_ever(decay_bundle: Bundle) -> None:
    for shop in (shop_of(decay_bundle, most=None), shop_of(decay_bundle, impressions=0)):
        assert listed(shop, *[shown("i1")] * 9) == {"i1", "i2", "i3"}


def test_an_ad_comes_back_when_its_impressions_are_older_than_the_window(
    decay_bundle: Bundle,
) -> None:
    shop = shop_of(decay_bundle)
    first = [shown("i1"), shown("i1", NOW_MS + 5_000), shown("i2", NOW_MS + 5_000)]
    assert listed(shop, *first, now_ms=NOW_MS + 6_000) == {"i2", "i3"}
    click = {"item_id": "i4"}
    assert listed(shop, click, now_ms=NOW_MS + DAY_MS - 1) == {"i2", "i3"}
    assert listed(shop, click, now_ms=NOW_MS + DAY_MS) == {"i1", "i2", "i3"}


def test_a_redelivered_impression_of_an_ad_counts_once(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle)
    result = shop.step(shown("i1", event_id="one"), shown("i1", event_id="one"))
    assert (result.folded, result.repeated) == (1, 1)
    assert listed(shop, shown("i1", event_id="one")) == {"i1", "i2", "i3"}
    assert listed(shop, shown("i1", event_id="two")) == {"i2", "i3"}


# -- what is remembered ------------------------------------------------------------------------


def remembered(shop: Shop, user: bytes = b"u") -> list[tuple[str, int]]:
    """Items and seconds after the first event of those impressions, oldest first."""
    entries = Users.of(shop.shard, [user]).shown[0]
    used = entries[entries["time_s"] > 0]
    ids = [shop.catalogue.ids[row] for row in shop.catalogue.rows_of_hashes(used["item"].copy())]
    ages = (used["time_s"].astype(np.int64) - NOW_MS // 1000).tolist()
    return sorted(zip(ids, ages, strict=True), key=lambda entry: entry[::-1])


def test_impressions_of_ads_are_remembered_and_no_others(decay_bundle: Bundle) -> None:
    """The newest ones, whatever the order in which they come; the ring has none of them."""
    shop = shop_of(decay_bundle, impressions=3)
    at = [5, 1, 9, 3, 7]
    events = [shown(f"i{1 + n % 2}", NOW_MS + 1000 * s, event_id=f"e{s}") for n, s in enumerate(at)]
    shop.step(*events, shown("i4"), shown("nobody's"), {"item_id": "i3"})
    assert remembered(shop) == [("i1", 5), ("i1", 7), ("i1", 9)]
    assert Users.of(shop.shard, [b"u"]).headers["ring_used"][0] == 1


Stream = st.lists(
    st.tuples(
        st.sampled_from(["u", "v"]),
        st.sampled_from(["i1", "i2", "i4"]),
        st.sampled_from(["impression", "click"]),
        st.integers(0, 20),
        st.sampled_from([None, "a", "b"]),
    ),
    max_size=14,
)


@settings(deadline=None, max_examples=25)
@given(events=Stream, cut=st.integers(0, 14))
def test_a_batch_is_remembered_like_its_events_one_by_one(
    decay_bundle: Bundle, events: list[tuple[str, str, str, int, str | None]], cut: int
) -> None:
    records = [
        {"user_id": u, "item_id": i, "type": t, "event_time_ms": NOW_MS + 1000 * s, "event_id": e}
        for u, i, t, s, e in events
    ]
    values = []
    for parts in ([records[:cut], records[cut:]], [[record] for record in records]):
        shop = shop_of(decay_bundle, impressions=3)
        for part in parts:
            shop.step(*part)
        users = sorted(shop.shard.keys)
        values.append(Users.of(shop.shard, users).store() if users else [])
    assert values[0] == values[1]


def test_impressions_survive_a_recovery_and_another_size(decay_bundle: Bundle) -> None:
    shop = shop_of(decay_bundle, impressions=3)
    at = {"i1": 2, "i2": 4, "i3": 3}
    events = [shown(item, NOW_MS + 1000 * s) for item, s in at.items()]
    (value,) = shop.step(*events, {"item_id": "i4"}).state_values
    assert value is not None
    for impressions, kept in ((3, "i1 i3 i2"), (2, "i3 i2"), (9, "i1 i3 i2"), (0, "")):
        other = shop_of(decay_bundle, impressions=impressions)
        other.shard.load([b"u"], [value])
        assert [item for item, _ in remembered(other)] == kept.split()
        again = Users.of(other.shard, [b"u"])
        assert again.headers["ring_used"][0] == 1
        assert again.vectors.any()
        (stored,) = again.store()
        assert len(stored) == len(value) + 16 * (impressions - 3)
        assert decode_values([stored])["shown"].shape == (1, impressions)


def test_a_state_without_impressions_has_no_room_for_them() -> None:
    plain = Layout(3, "float32", 4, 7)
    assert plain.max_bytes == 46 + 3 * 4 + 4 * 16
    assert Layout(3, "float32", 4, 7, shown=5).max_bytes == plain.max_bytes + 80
    shard = UserShard(plain)
    (value,) = Users.of(shard, [b"u"]).store()
    assert value[7] == 0


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["ads", "ads.variants.B"])
def test_a_limit_asks_for_a_memory(tmp_path: Path, where: str) -> None:
    file = tmp_path / "freshet.toml"
    table = f"[placements.{where}]\n{'share = 0.5' if 'B' in where else ''}\n"
    file.write_text(f"{table}frequency = {{most = 3}}")
    with pytest.raises(SettingsError, match=rf"placements.{where}.frequency.most: is 3, yet 0 im"):
        load_settings(file, environ={})
    found = load_settings(file, environ={"FRESHET_STATE_IMPRESSIONS": "3"})
    assert found.placements["ads"].frequency.window_s == 86_400
