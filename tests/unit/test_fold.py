"""Folding events into states: order, repeats, late events, rebuilding."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.contracts import Events, EventType
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.fold import Folded, rebuild, rounds
from stream.core.fold import fold as fold_users
from stream.core.model import Model
from stream.core.state import UserShard
from stream.core.users import EVERYONE, Noted, Users
from stream.core.wire import Layout

START_MS = 1_795_000_000_000


def events(*rows: tuple[str, str, EventType, int, int]) -> Events:
    """(user, item, type, seconds after START_MS, event hash) each."""
    return Events(
        users=[row[0].encode() for row in rows],
        items=[row[1] for row in rows],
        types=np.array([row[2] for row in rows], np.uint8),
        times_ms=np.array([START_MS + 1000 * row[3] for row in rows], np.int64),
        event_hashes=np.array([row[4] for row in rows], np.uint32),
        offsets=np.arange(len(rows)),
        amounts=np.zeros(len(rows)),
        placements=[None] * len(rows),
        list_names=[None] * len(rows),
        properties=[None] * len(rows),
    )


def fold(model: Model, catalogue: Catalogue, shard: UserShard, batch: Events) -> Folded:
    number = {key: n for n, key in enumerate(dict.fromkeys(batch.users))}
    users = Users.of(shard, list(number))
    stale = np.flatnonzero(users.model != shard.layout.model)
    rebuild(model, catalogue, users, stale)
    folded = fold_users(
        model, catalogue, users, np.array([number[key] for key in batch.users]), batch
    )
    users.store()
    return folded


def of(shard: UserShard, *keys: bytes) -> Users:
    return Users.of(shard, list(keys))


def new_shard(model: Model, storage: str = "int8", ring: int = 5) -> UserShard:
    return UserShard(Layout(model.state_size, storage, ring, model.bundle.version))


@pytest.fixture
def catalogue(decay_bundle: Bundle) -> Catalogue:
    return Catalogue(decay_bundle.item_ids)


def state(shard: UserShard, user: str) -> bytes:
    assert shard.find(user.encode()) is not None
    return of(shard, user.encode()).store()[0]


def taste(shard: UserShard, user: str) -> NDArray[np.float32]:
    """The slow half of a `decay` state."""
    vector = of(shard, user.encode()).vectors[0]
    return vector[: len(vector) // 2]


one_event = st.tuples(
    st.sampled_from(["a", "b", "c", "d"]),
    st.sampled_from(["i1", "i2", "i3", "i4", "unknown"]),
    st.sampled_from(list(EventType)),
    st.integers(0, 10_000_000),
    st.integers(0, 6),
)


@pytest.mark.parametrize("storage", ["int8", "float32"])
@settings(max_examples=60, deadline=None)
@given(rows=st.lists(one_event, min_size=1, max_size=60), cuts=st.sets(st.integers(1, 59)))
def test_a_batch_folds_like_its_events_one_by_one(
    decay_model: Model,
    storage: str,
    rows: list[tuple[str, str, EventType, int, int]],
    cuts: set[int],
) -> None:
    catalogue = Catalogue(decay_model.bundle.item_ids)
    one_by_one, in_batches = new_shard(decay_model, storage), new_shard(decay_model, storage)
    repeated = sum(
        fold(decay_model, catalogue, one_by_one, events(row)).repeated.sum() for row in rows
    )
    edges = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    repeated_in_batches = sum(
        fold(decay_model, catalogue, in_batches, events(*rows[start:stop])).repeated.sum()
        for start, stop in pairwise(edges)
    )
    assert repeated_in_batches == repeated
    for user in {row[0] for row in rows}:
        assert state(in_batches, user) == state(one_by_one, user)


def test_rounds_take_each_users_events_in_order() -> None:
    def turns(*rank: int) -> list[list[int]]:
        repeats = rank.count(-1)
        given = Noted(np.array(rank, np.int64), np.array([]), repeats, max(rank, default=0))
        return [at.tolist() for at in rounds(given)]

    assert turns(0, 0, 1, 2, 0, 1) == [[0, 1, 4], [2, 5], [3]]
    assert turns(0, -1, 1, -1) == [[0], [2]]
    assert turns(0, 0) == [[0, 1]]
    assert turns(-1) == turns() == []


def test_stronger_events_move_the_interest_further(
    decay_model: Model, catalogue: Catalogue
) -> None:
    shard = new_shard(decay_model, "float32")
    kinds = {"a": EventType.PURCHASE, "b": EventType.ADD_TO_CART, "c": EventType.CLICK}
    fold(decay_model, catalogue, shard, events(*((u, "i1", k, 0, 0) for u, k in kinds.items())))
    item = decay_model.embeddings[1]
    bought, carted, clicked = (taste(shard, user) @ item for user in ("a", "b", "c"))
    assert bought > carted > clicked > 0
    fold(decay_model, catalogue, shard, events(("d", "i1", EventType.DISLIKE, 0, 0)))
    assert taste(shard, "d") @ item < 0


def test_interest_fades_by_event_time(decay_model: Model, catalogue: Catalogue) -> None:
    shard = new_shard(decay_model, "float32")
    additive = decay_model.bundle.manifest.additive
    assert additive is not None
    fold(decay_model, catalogue, shard, events(("a", "i1", EventType.PURCHASE, 0, 0)))
    before = taste(shard, "a")
    later = int(additive.sums[0].half_life_s)
    fold(decay_model, catalogue, shard, events(("a", "unknown", EventType.VIEW, later, 0)))
    np.testing.assert_allclose(taste(shard, "a"), before / 2, rtol=1e-5)


def test_a_late_event_arrives_faded_and_time_does_not_go_back(
    decay_model: Model, catalogue: Catalogue
) -> None:
    day = 86_400
    rows = [("a", "i1", EventType.PURCHASE, 9 * day, 0), ("a", "i2", EventType.CLICK, 2 * day, 0)]
    in_order, late = new_shard(decay_model, "float32"), new_shard(decay_model, "float32")
    fold(decay_model, catalogue, late, events(*rows))
    fold(decay_model, catalogue, in_order, events(*rows[::-1]))
    found, wanted = of(late, b"a"), of(in_order, b"a")
    np.testing.assert_allclose(found.vectors, wanted.vectors, rtol=1e-4, atol=1e-6)
    assert found.newest_ms[0] == START_MS + 9 * day * 1000


def test_a_repeated_event_is_dropped_and_counted(decay_model: Model, catalogue: Catalogue) -> None:
    shard = new_shard(decay_model)
    row = ("a", "i1", EventType.CLICK, 0, 77)
    assert fold(decay_model, catalogue, shard, events(row, row)).repeated.sum() == 1
    before = state(shard, "a")
    assert fold(decay_model, catalogue, shard, events(row)).repeated.sum() == 1
    assert state(shard, "a") == before
    other_item = ("a", "i2", EventType.CLICK, 0, 77)  # 32 bits of an id may collide
    no_id = ("a", "i1", EventType.CLICK, 0, 0)
    assert fold(decay_model, catalogue, shard, events(other_item, no_id, no_id)).repeated.sum() == 0


def test_an_event_older_than_the_ring_is_not_recognised(
    decay_model: Model, catalogue: Catalogue
) -> None:
    shard = new_shard(decay_model, ring=3)
    rows = [("a", "i1", EventType.CLICK, n, n) for n in range(1, 5)]
    fold(decay_model, catalogue, shard, events(*rows))
    assert fold(decay_model, catalogue, shard, events(rows[3], rows[1])).repeated.sum() == 2
    assert fold(decay_model, catalogue, shard, events(rows[0])).repeated.sum() == 0


def test_an_unknown_item_is_folded_and_counted(decay_model: Model, catalogue: Catalogue) -> None:
    shard = new_shard(decay_model)
    result = fold(
        decay_model, catalogue, shard, events(("a", "nobody knows", EventType.VIEW, 0, 5))
    )
    user = of(shard, b"a")
    assert (result.unknown.sum(), user.headers["events"][0], user.headers["ring_used"][0]) == (
        1,
        1,
        1,
    )


def test_what_was_only_shown_stays_out_of_the_ring(
    decay_model: Model, catalogue: Catalogue
) -> None:
    shard = new_shard(decay_model)
    fold(decay_model, catalogue, shard, events(("a", "i1", EventType.IMPRESSION, 0, 0)))
    user = of(shard, b"a")
    assert (user.headers["events"][0], user.headers["ring_used"][0]) == (1, 0)


def test_another_models_state_is_rebuilt_from_the_ring(
    decay_model: Model, catalogue: Catalogue
) -> None:
    rows = [("a", f"i{n}", EventType.CLICK, 60 * n, n) for n in range(1, 6)]
    fresh = new_shard(decay_model, "float32")
    fold(decay_model, catalogue, fresh, events(*rows))
    stale = UserShard(Layout(decay_model.state_size, "float32", 5, model=1))
    fold(decay_model, catalogue, stale, events(*rows[:4]))
    user = of(stale, b"a")
    user.set_vectors(EVERYONE, np.full((1, decay_model.state_size), 9, np.float32))
    user.store()
    loaded = new_shard(decay_model, "float32")
    loaded.load([b"a"], user.store())
    fold(decay_model, catalogue, loaded, events(rows[4]))
    assert np.array_equal(of(loaded, b"a").vectors, of(fresh, b"a").vectors)
    assert of(loaded, b"a").newest_ms[0] == of(fresh, b"a").newest_ms[0]
    assert of(loaded, b"a").model[0] == decay_model.bundle.version


def test_a_rebuilt_state_keeps_the_time_of_what_the_ring_forgot(
    decay_model: Model, catalogue: Catalogue
) -> None:
    shard = new_shard(decay_model)
    shown = ("a", "i1", EventType.IMPRESSION, 500, 0)  # newest, and never in the ring
    fold(decay_model, catalogue, shard, events(("a", "i1", EventType.CLICK, 60, 0), shown))
    users = of(shard, b"a")
    newest_ms = int(users.newest_ms[0])
    rebuild(decay_model, catalogue, users, np.array([0]))
    assert users.newest_ms[0] == newest_ms == START_MS + 500_000
