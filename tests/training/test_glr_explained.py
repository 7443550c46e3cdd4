"""`explain` on a recurrence: what an interaction is said to be worth is what is lost without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.bundle import write_bundle
from export.models.base import Run
from export.models.glr.learning import learn
from export.models.glr.settled import Settled
from tests.support.desk import NOW_MS, Desk
from tests.training.shops import SMALL, walks

HISTORY = ["i3", "i4", "i25", "i5", "i6"]  # four steps of a theme, and one of another


def test_a_named_event_of_a_recurrence_was_worth_its_share(tmp_path: Path) -> None:
    weights = tuple(1.5 / lag for lag in range(1, 7))
    settled = Settled(epochs=1, again=weights, together=weights[::-1], temperature=0.8)
    trained = learn(walks(300), settled=settled, run=Run(device="cpu"), epochs=1, **SMALL)
    trained.storage = "float32"  # no rounding between a history and the same without an event
    bundle = write_bundle(trained, tmp_path / "bundle")

    def after(left_out: int | None) -> dict[str, tuple[float, dict[str | None, float]]]:
        desk = Desk(bundle)
        for number, item in enumerate(HISTORY):
            if number != left_out:
                desk.did(item, at_ms=NOW_MS - (5 - number) * 20_000)
        items = desk.ask("explain", candidates=["i7", "i8", "i26"]).items
        assert all(len(item.because) <= 5 for item in items)  # type: ignore[arg-type]
        return {
            item.item_id: (item.score, {b.item_id: b.share for b in item.because})  # type: ignore[union-attr]
            for item in items
        }

    whole, named = after(None), 0
    for number, item in enumerate(HISTORY):
        lacking = after(number)
        for candidate, (score, shares) in whole.items():
            fell = score - lacking[candidate][0]
            assert shares.get(item, 0.0) == pytest.approx(fell, abs=3e-6), (item, candidate)
            named += item in shares
    assert named > 5
