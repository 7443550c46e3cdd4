"""The simulated shop: the same for every policy, and regret is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stream.placements import Explore
from tests.regret import __main__ as command
from tests.regret import table
from tests.regret.policies import Explored, Randomly
from tests.regret.report import interval
from tests.regret.run import Asked, run
from tests.regret.world import PLACES, Ints, Size, World

SMALL = Size(rounds=30, shoppers=40, items=120, newcomers=20)


@pytest.fixture(scope="module")
def world() -> World:
    return World(SMALL, 5)


class Knowing:
    """Shows the best lists, or the worst ones."""

    def __init__(self, world: World, *, worst: bool = False) -> None:
        self._world, self._sign = world, 1 if worst else -1
        self.seen, self.clicked = 0, 0

    def lists(self, asked: Asked) -> Ints:
        wishes = self._world.rounds[asked.number].wishes
        all_rows = np.tile(np.arange(asked.there), (len(wishes), 1))
        chances = self._world.chances(asked.number, wishes, all_rows)
        best: Ints = np.argsort(self._sign * chances, axis=1)[:, :PLACES]
        return best

    def learn(self, seen: Ints, clicked: Ints) -> None:
        self.seen += int(seen.sum())
        self.clicked += int(clicked.sum())


def test_who_knows_the_truth_has_no_regret_and_who_turns_it_round_the_most(world: World) -> None:
    knowing, worst = Knowing(world), Knowing(world, worst=True)
    assert run(world, knowing, 5).regret == pytest.approx(np.zeros(SMALL.rounds), abs=1e-9)
    most = run(world, worst, 5).regret.sum()
    greedy = run(world, Explored(Explore(), 5), 5).regret
    assert (greedy > 0).all()
    assert greedy.sum() < most
    assert knowing.seen == worst.seen  # the same dice
    assert knowing.clicked > worst.clicked


def test_a_seed_makes_the_same_world_and_the_same_run(world: World) -> None:
    again = World(SMALL, 5)
    for one, other in zip(world.rounds, again.rounds, strict=True):
        np.testing.assert_array_equal(one.best, other.best)
    rules = Explore(temperature=0.3, optimism=1.0)
    first, second = (run(world, Explored(rules, 5), 5).regret for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != run(world, Explored(rules, 6), 6).regret).any()


def test_new_items_and_strangers_come(world: World) -> None:
    assert world.there(0) == SMALL.items
    assert world.there(SMALL.rounds) == SMALL.items + SMALL.newcomers
    assert any(len(of.strangers) for of in world.rounds)
    assert not np.any(world.items.known[SMALL.items :])


def test_random_items_are_as_many_as_epsilon_says(world: World) -> None:
    class Same(Randomly):
        def lists(self, asked: Asked) -> Ints:
            shown = super().lists(asked)
            best = Randomly(0.0, 0).lists(asked)
            changed.append(float((shown != best).mean()))
            assert all(len(set(row)) == PLACES for row in shown.tolist())
            return shown

    for epsilon, of_pool in ((1.0, False), (1.0, True), (0.0, False)):
        changed: list[float] = []
        run(world, Same(epsilon, 5, of_pool=of_pool), 5)
        assert np.mean(changed) == pytest.approx(epsilon, abs=0.15)


def test_intervals_are_students() -> None:
    found = interval(np.array([1.0, 2.0, 3.0, 4.0]))
    assert found == {"mean": 2.5, "low": 0.45, "high": 4.55}  # 3.182 * 0.6455


def test_the_command_writes_figures_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = ("dynamic", "epsilon 0", "temperature 0.1")
    monkeypatch.setattr(command, "POLICIES", {name: table.POLICIES[name] for name in some})
    monkeypatch.setattr(command, "PARTS", {})
    small = ["--seeds", "2", "--rounds", "12", "--shoppers", "30"]
    code = command.main([*small, "--out", str(tmp_path)])
    report = json.loads((tmp_path / "regret.json").read_text(encoding="utf-8"))
    assert set(report["policies"]) == set(some)
    assert code == (0 if report["dynamic_is_lowest"] else 1)
    assert report["dynamic_is_lowest"] == (not report["not_beaten"])
    assert (tmp_path / "regret.svg").read_text(encoding="utf-8").startswith("<svg")
    told = capsys.readouterr().out
    assert all(name in told for name in some)
    of = report["policies"]["epsilon 0"]
    assert of["regret"]["low"] <= of["regret"]["mean"] <= of["regret"]["high"]
