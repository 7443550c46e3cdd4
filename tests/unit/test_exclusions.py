"""Whether seen and bought items may come back: measured, said in the manifest, served."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from export import cli
from export.bundle import write_bundle
from export.data.dataset import Log
from export.measuring.evaluate import replay
from export.measuring.exclusions import REPEATS, WITHOUT_BOUGHT, WITHOUT_SEEN, tellable
from export.measuring.measure import KS, measure, measure_model
from export.models.base import Run
from export.training.sides import hold_out
from export.training.train import attempt, fit, loaded
from stream.config import Placement
from stream.contracts import EventType
from stream.core.policy.placement import LeavesOut
from tests.support.bundles import random_decay_bundle
from tests.support.logs import Told, log_of
from tests.unit.test_evaluation import cases_of

DAY_S = 86_400
USERS, ITEMS, STEPS = 12, 60, 12


def often(kind: str) -> Iterator[Told]:
    """Everybody turns to the same four items day after day."""
    rng = np.random.default_rng(0)
    for day in range(STEPS):
        for user in range(USERS):
            for place, item in enumerate(rng.permutation(4).tolist()):
                at = day * DAY_S + 600 * user + place
                yield f"u{user}", f"i{4 * (user % 10) + item}", at, kind


def once(*kinds: str) -> Iterator[Told]:
    """Everybody walks on along the items, and turns to each in these ways."""
    for step in range(STEPS):
        for user in range(USERS):
            for place, kind in enumerate(kinds):
                at = step * DAY_S + 600 * user + 60 * place
                yield f"u{user}", f"i{(5 * user + step) % ITEMS}", at, kind


# Shops, and whether lists are better there without seen and without bought items.
SHOPS: dict[str, tuple[Callable[[], Iterator[Told]], LeavesOut]] = {
    "groceries": (lambda: often("purchase"), LeavesOut(seen=False, bought=False)),
    "furniture": (lambda: once("click", "click", "purchase"), LeavesOut(seen=False, bought=True)),
    "records": (lambda: once("purchase"), LeavesOut(seen=False, bought=True)),
    "songs": (lambda: often("click"), LeavesOut(seen=False, bought=True)),
    "films": (lambda: once("click"), LeavesOut(seen=True, bought=True)),
}


@pytest.fixture(params=SHOPS)
def shop(request: pytest.FixtureRequest) -> tuple[Log, LeavesOut]:
    events, wanted = SHOPS[request.param]
    return log_of(list(events())), wanted


def silently(message: str) -> None:
    pass


def test_training_finds_what_may_come_back(shop: tuple[Log, LeavesOut]) -> None:
    log, wanted = shop
    trained = fit(log, "cooccurrence", {}, silently)
    assert trained.metrics["held_out"]["cases"] > 10
    assert LeavesOut(trained.exclude_seen, trained.exclude_bought) == wanted


def test_what_training_measures_is_what_the_manifest_serves(shop: tuple[Log, LeavesOut]) -> None:
    """A default placement lists on the held-out events what the manifest's metrics are of."""
    held = hold_out(shop[0])
    assert held is not None
    tried = attempt("cooccurrence", held, {}, Run(), silently)
    seen, bought = tried.measured.leaves_out
    said = dataclasses.replace(tried.trained, exclude_seen=seen, exclude_bought=bought)
    with loaded(said) as served:
        found = measure_model(served, held.asked, KS, trained_on=held.older)
        answers = replay(served, held.asked, rules=Placement(k=KS[-1]))
        wanted = replay(served, held.asked, rules=tried.rules)
    assert found.metrics == tried.measured.metrics
    assert found.leaves_out == tried.measured.leaves_out
    np.testing.assert_array_equal(answers.listed, wanted.listed)


def test_a_log_without_purchases_says_nothing_of_bought_items() -> None:
    assert tellable(log_of(list(once("click")))) == (WITHOUT_BOUGHT, WITHOUT_SEEN)
    both = log_of(list(once("click", "purchase")))
    assert tellable(both) == (WITHOUT_BOUGHT, REPEATS, WITHOUT_SEEN)


def test_evaluation_follows_the_manifest(tmp_path: Path) -> None:
    bought = [f"i{item}" for item in range(1, 9)]
    cases = cases_of((" ".join(bought), "i9"), items=[*bought, "i9"])
    cases.log.event_type[:] = EventType.PURCHASE
    listed = {}
    for exclude_bought in (True, False):
        folder = tmp_path / str(exclude_bought)
        bundle = random_decay_bundle(folder, 20, dim=8, exclude_bought=exclude_bought)
        found = measure(bundle, cases, [20])
        assert found.to_json()["exclude_bought"] is exclude_bought
        listed[exclude_bought] = found.metrics["listed@20"]
    assert listed == {True: 12, False: 20}


def test_the_whole_history_is_struck_of_what_lists_leave_out(tmp_path: Path) -> None:
    """More events than the ring has, half of them purchases."""
    items = [f"i{item}" for item in range(1, 121)]
    cases = cases_of((" ".join(items), "i150"), items=[*items, "i150"])
    cases.log.event_type[::2] = EventType.PURCHASE
    bundle = random_decay_bundle(tmp_path / "bundle", 200, dim=8, seed=1)
    assert measure(bundle, cases, [200]).metrics["listed@200"] == 200 - 25
    found = measure(bundle, cases, [200], whole_history=True)
    assert found.metrics["listed@200"] == 200 - 60
    assert found.left_out == "bought items excluded (history)"


def test_the_command_tells_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = fit(log_of(list(often("purchase"))), "cooccurrence", {}, silently)
    folder = write_bundle(trained, tmp_path / "bundle").path
    assert cli.main(["bundle", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "  seen items    may come back\n  bought items  may come back\n" in out
