"""What an item's score owes to a user's interactions, on request."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from export.bundle import write_bundle
from stream.contracts import Answer
from stream.core.bundle import Bundle
from tests.support.bundles import random_decay_bundle, recent_model
from tests.support.desk import NOW_MS, Desk, ids, scores


@pytest.fixture
def desk(decay_bundle: Bundle) -> Desk:
    return Desk(decay_bundle)


@pytest.fixture(scope="module")
def float_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """States as they are: no rounding between a history and the same without an event."""
    folder: Path = tmp_path_factory.mktemp("float") / "bundle"
    return random_decay_bundle(folder, 200, dim=16, storage="float32")


def test_a_named_event_was_worth_its_share(float_bundle: Bundle) -> None:
    """Without it in the history the score is lower by as much."""
    history = [("i7", "click"), ("i20", "purchase"), ("i33", "dislike"), ("i41", "view")]
    hour_ms = 3_600_000

    def after(left_out: int | None) -> Answer:
        desk = Desk(float_bundle)
        for number, (item, kind) in enumerate(history):
            if number != left_out:
                at_ms = NOW_MS - (4 - number) * hour_ms
                desk.did(item, kind=kind, at_ms=at_ms)
        return desk.ask("explain", candidates=["i1", "i2", "i3"])

    whole = after(None)
    assert ids(whole) == ["i1", "i2", "i3"]
    named = 0
    for number, (item, kind) in enumerate(history):
        for explained, lacking in zip(whole.items, after(number).items, strict=True):
            assert explained.because is not msgspec.UNSET
            shares = [b.share for b in explained.because if b.item_id == item]
            fell = explained.score - lacking.score
            assert sum(shares) == pytest.approx(fell, abs=3e-6), (item, explained.item_id)
            named += len(shares)
        told = {
            (b.type, b.event_time_ms) for i in whole.items for b in i.because if b.item_id == item
        }  # type: ignore[union-attr]
        assert told <= {(kind, NOW_MS - (4 - number) * hour_ms)}
    assert named > 8


def test_the_largest_shares_are_named_first(float_bundle: Bundle) -> None:
    desk = Desk(float_bundle, ring=30)
    desk.did(*(f"i{row}" for row in range(1, 26)))
    answer = desk.ask("explain", candidates=["i100", "who"])
    known, unknown = answer.items
    shares = [abs(because.share) for because in known.because]  # type: ignore[union-attr]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert (unknown.mark, unknown.because) == ("unknown", ())


def test_a_full_ring_is_explained_too(float_bundle: Bundle) -> None:
    desk = Desk(float_bundle, ring=3)
    desk.did("i1", "i2", "i3", "i4", "i5", kind="like")
    answer = desk.ask("explain", candidates=["i100"])
    assert {b.item_id for b in answer.items[0].because} <= {"i3", "i4", "i5"}  # type: ignore[union-attr]
    assert answer.items[0].because


def test_a_guest_has_nothing_to_explain(desk: Desk) -> None:
    answer = desk.ask("explain", candidates=["i1"], user_id="guest")
    assert answer.items[0].because == ()
    assert answer.items[0].score > 0


def test_models_of_the_last_interactions_are_explained_and_scored(tmp_path: Path) -> None:
    desk = Desk(write_bundle(recent_model(200, 4), tmp_path / "bundle", "recent"))
    desk.did("i1", "i2", "i3")
    everything = desk.ask("list", placement="again", k=1000)
    answer = desk.ask("rank", placement="again", candidates=["i1", "i2", "i3", "i4"])
    by_id = dict(zip(ids(everything), scores(everything), strict=True))
    assert {i.item_id: i.score for i in answer.items} == {
        item: by_id[item] for item in ("i1", "i2", "i3", "i4")
    }
    explained = desk.ask("explain", candidates=["i3"])
    assert explained.items[0].because[0].item_id == "i3"  # type: ignore[index,union-attr]
    assert desk.ask("similar", item_id="i1").items == ()  # its items have no vectors
