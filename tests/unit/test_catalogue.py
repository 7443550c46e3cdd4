"""Items and rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.contracts import REASONS, Item, item_hash
from stream.core.catalogue import Catalogue, HashIndex
from stream.errors import RecordError

EVERYTHING = slice(None)


def listed(catalogue: Catalogue, *kinds: str) -> list[str]:
    rows = np.flatnonzero(catalogue.eligible(kinds or ("product",), EVERYTHING))
    return [catalogue.ids[row] for row in rows]


def test_rows_follow_the_bundle_and_unknown_items_are_row_0() -> None:
    catalogue = Catalogue(["", "a", "b"])
    assert catalogue.rows(["b", "x", "a"]).tolist() == [2, 0, 1]
    hashes = catalogue.hashes_of(["b", "x"], catalogue.rows(["b", "x"]))
    assert hashes.tolist() == [item_hash("b"), item_hash("x")]
    assert catalogue.rows_of_hashes(hashes).tolist() == [2, 0]


def test_without_a_catalogue_all_items_of_the_bundle_are_listed() -> None:
    assert listed(Catalogue(["", "a", "b"])) == ["a", "b"]


def test_with_a_catalogue_only_its_available_items_are_listed() -> None:
    catalogue = Catalogue(["", "a", "b", "c"])
    catalogue.put(Item("a"))
    catalogue.put(Item("b", available=False))
    catalogue.put(Item("new"))
    assert listed(catalogue) == ["a", "new"]
    catalogue.put(Item("b"))
    catalogue.remove("a")
    catalogue.remove("never seen")
    assert listed(catalogue) == ["b", "new"]


def test_kinds_are_told_apart() -> None:
    catalogue = Catalogue(["", "a"])
    catalogue.put(Item("a"))
    catalogue.put(Item("c", kind="coupon"))
    assert (listed(catalogue), listed(catalogue, "coupon")) == (["a"], ["c"])
    assert listed(catalogue, "coupon", "product") == ["a", "c"]
    assert catalogue.count_by_kind()["coupon"] == 1


def test_every_change_is_noted() -> None:
    catalogue = Catalogue(["", "a", "b"])
    assert not catalogue.changed
    catalogue.put(Item("a"))
    assert catalogue.changed == {1, 2}, "from now on an item without a record is not listed"
    catalogue.changed.clear()
    catalogue.put(Item("new"))
    catalogue.remove("a")
    assert catalogue.changed == {3, 1}


def test_an_embedding_counts_only_for_an_item_that_the_model_never_saw() -> None:
    catalogue = Catalogue(["", "a"])
    catalogue.put(Item("a", embedding=(1.0,)))
    row = catalogue.put(Item("new", embedding=(2.0,)))
    assert catalogue.embeddings == {row: (1.0,)}


def test_it_grows() -> None:
    catalogue = Catalogue([""])
    names = [f"item {n}" for n in range(5000)]
    for name in names:
        catalogue.put(Item(name))
    rows = catalogue.rows(names)
    assert rows.tolist() == list(range(1, 5001))
    assert catalogue.rows_of_hashes(catalogue.hashes[rows]).tolist() == rows.tolist()


@given(st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=300), st.integers(0, 2**64 - 1))
def test_the_hash_index_is_a_dictionary(keys: list[int], stranger: int) -> None:
    index = HashIndex()
    crowded = [key & ~0xFFF or 4096 for key in keys]  # all in one bucket
    known = {key: row for row, key in enumerate(dict.fromkeys(keys + crowded), 1)}
    for half in (slice(None, None, 2), slice(1, None, 2)):
        hashes = np.array(list(known)[half], np.uint64)
        index.add(hashes, np.array([known[int(key)] for key in hashes], np.int64))
    asked = np.array([[*known, stranger, 0]], np.uint64)
    want = [[*known.values(), known.get(stranger, 0), 0]]
    assert index.find(asked).tolist() == want


@pytest.mark.parametrize("given_", [(3.0, 4.0), (3e30, 4e30), (3e-30, 4e-30)])
def test_an_embedding_of_any_length_is_scaled_to_1(given_: tuple[float, ...]) -> None:
    catalogue = Catalogue(["", "a"])
    row = catalogue.put(Item("new", embedding=given_))
    assert catalogue.embeddings[row] == pytest.approx((0.6, 0.8))


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ((1e300, 0.0), "not_finite"),
        ((float("nan"), 1.0), "not_finite"),
        ((1.0, -float("inf")), "not_finite"),
        ((0.0, 0.0), "out_of_range"),
        ((1e-300, 0.0), "out_of_range"),
    ],
)
def test_an_embedding_without_a_direction_changes_nothing(
    given_: tuple[float, ...], reason: str
) -> None:
    catalogue = Catalogue(["", "a"])
    for item_id in ("a", "new"):
        with pytest.raises(RecordError) as caught:
            catalogue.put(Item(item_id, embedding=given_))
        assert (caught.value.reason, caught.value.field) == (reason, "embedding")
        assert reason in REASONS
    assert (len(catalogue), listed(catalogue), catalogue.embeddings) == (2, ["a"], {})
