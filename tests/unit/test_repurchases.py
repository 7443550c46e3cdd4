"""After how long items are bought again, as a log tells it, and what lists make of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.bundle import npz
from export.compression.bundle import compress
from export.data.dataset import Log
from export.measuring.repurchases import LEAST_SHARE, LEAST_TIMES, LEAST_USERS, repurchase_s
from stream.config import Placement
from stream.contracts import EventType, Item
from stream.core.archive import read_arrays
from stream.core.bundle import ITEMS, Bundle, _repurchase_s
from stream.errors import BundleError
from tests.support.bundles import random_decay_bundle
from tests.support.engine import NOW_MS, Shop, items

DAY_S = 86_400.0
IDS = ["", "milk", "lamp", "soap"]


def log_of(*purchases: tuple[str, str, float], kind: EventType = EventType.PURCHASE) -> Log:
    """Users, items and days; the log knows its items in another order than the bundle."""
    events = sorted(purchases, key=lambda event: event[2])
    users, known = sorted({user for user, _, _ in events}), IDS[:0:-1]
    n = len(events)
    return Log(
        users,
        known,
        np.array([users.index(user) for user, _, _ in events], np.int32),
        np.array([known.index(item) for _, item, _ in events], np.int32),
        np.full(n, kind, np.uint8),
        np.array([1_700_000_000_000 + day * DAY_S * 1000 for _, _, day in events], np.int64),
        np.zeros(n, np.int32),
        np.ones(n, np.float32),
        np.zeros(n, np.float32),
        {},
    )


def bought(item: str, users: int, *days: float) -> list[tuple[str, str, float]]:
    return [(f"u{user}", item, day) for user in range(users) for day in days]


def learned(*purchases: tuple[str, str, float]) -> list[float]:
    found = repurchase_s(log_of(*purchases), IDS)
    assert found.dtype == np.float32
    return (found / DAY_S).round(3).tolist()


def test_the_median_time_between_purchases_of_one_user() -> None:
    milk = [*bought("milk", 3, 0, 7, 10), ("u9", "milk", 5.0), ("u9", "lamp", 6.0)]
    assert learned(*milk, *bought("soap", 5, 1, 31)) == [0, 5, 0, 30]
    assert learned() == [0, 0, 0, 0]


def test_lines_of_an_order_are_one_purchase() -> None:
    assert learned(*bought("milk", 6, 0, 0.01, 0.02)) == [0, 0, 0, 0]
    assert learned(*bought("milk", 6, 0, 0.01, 7.01)) == [0, 7, 0, 0]


def test_few_times_few_users_and_few_of_the_buyers_tell_nothing() -> None:
    many = bought("milk", LEAST_TIMES, 0, 7)
    assert learned(*many)[1] == 7
    assert learned(*many[:-2])[1] == 0
    often = [7 * float(day) for day in range(LEAST_TIMES + 1)]
    assert learned(*bought("milk", LEAST_USERS, *often))[1] == 7
    assert learned(*bought("milk", LEAST_USERS - 1, *often))[1] == 0
    most = round(LEAST_TIMES / LEAST_SHARE) - LEAST_TIMES
    once = [(f"once{user}", "milk", 3.0) for user in range(most + 1)]
    assert learned(*many, *once[:-1])[1] == 7
    assert learned(*many, *once)[1] == 0


def test_only_purchases_tell() -> None:
    log = log_of(*bought("milk", 9, 0, 7), kind=EventType.CLICK)
    assert not repurchase_s(log, IDS).any()


# -- lists -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """i9 is bought again after 20 days."""
    returns_s = np.where(np.arange(201) == 9, 20 * DAY_S, 0).astype(np.float32)
    folder = tmp_path_factory.mktemp("repurchases") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, repurchase_s=returns_s)


@pytest.mark.parametrize(
    ("window_s", "record", "days", "listed"),
    [
        (None, None, 19, False),
        (None, None, 21, True),
        (None, Item("i9"), 21, True),
        (None, Item("i9", repurchase_s=30 * DAY_S), 21, False),
        (40 * DAY_S, None, 21, False),
        (10 * DAY_S, None, 11, True),
    ],
)
def test_what_is_bought_again_comes_back_in_time(
    learning: Bundle, window_s: float | None, record: Item | None, days: int, listed: bool
) -> None:
    """A record's time counts first, then the placement's, then what was learned."""
    rules = Placement(k=200, exclude_bought=True, exclude_seen=False, bought_window_s=window_s)
    shop = Shop(learning, 20, home=rules)
    if record is not None:
        for item_id in learning.item_ids[1:]:
            shop.catalogue.put(record if item_id == "i9" else Item(item_id))
    ago_ms = NOW_MS - int(days * DAY_S * 1000)
    for item_id in ("i9", "i10"):
        shop.step({"item_id": item_id, "type": "purchase", "event_time_ms": ago_ms})
    found = items(shop.step({"item_id": "i7"}))
    assert ("i9" in found) is listed
    assert ("i10" in found) is (window_s == 10 * DAY_S)


def test_a_bundle_keeps_what_was_learned(learning: Bundle, decay_bundle: Bundle) -> None:
    assert learning.repurchase_s is not None
    assert np.flatnonzero(learning.repurchase_s).tolist() == [9]
    assert decay_bundle.repurchase_s is None


def test_a_packed_bundle_keeps_it_too(learning: Bundle, tmp_path: Path) -> None:
    packed = compress(learning, tmp_path / "packed", "int8", "int8", cuda=False)
    np.testing.assert_array_equal(packed.repurchase_s, learning.repurchase_s)


@pytest.mark.parametrize("wrong", [[-1.0, 0], [np.nan, 0], [1.0]])
def test_a_bundle_with_impossible_times_is_refused(wrong: list[float]) -> None:
    raw = npz(repurchase_s=np.array(wrong, np.float32))
    arrays = read_arrays(Path(ITEMS), raw, 1000, "again")
    with pytest.raises(BundleError, match=r"items.npz: repurchase_s"):
        _repurchase_s(Path(ITEMS), arrays, 2)
