"""The policies that are compared, by name. In: nothing. Out: how to make each, given a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from stream.placements import Explore
from tests.regret.policies import Explored, Randomly
from tests.regret.run import Policy

Make = Callable[[int], Policy]

EPSILONS: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3)
TEMPERATURES: Final = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
DYNAMIC: Final = "dynamic"
# Chosen on worlds of other seeds than those that are reported.
CHOSEN: Final = Explore(
    temperature=0.1, sure_after=0.05, fresh=0.1, drift=0.3, learn=True, optimism=2.0
)


def _randomly(epsilon: float, of_pool: bool = False) -> Make:
    return lambda seed: Randomly(epsilon, seed, of_pool=of_pool)


def _explored(rules: Explore) -> Make:
    return lambda seed: Explored(rules, seed)


POLICIES: Final[dict[str, Make]] = {
    DYNAMIC: _explored(CHOSEN),
    **{f"epsilon {epsilon:g}": _randomly(epsilon) for epsilon in EPSILONS},
    **{f"epsilon {epsilon:g} of the pool": _randomly(epsilon, True) for epsilon in EPSILONS[2:4]},
    **{
        f"temperature {fixed:g}": _explored(Explore(temperature=fixed, adapt=False))
        for fixed in TEMPERATURES
    },
}
# What each part of the dynamic setting is worth: not among those that it has to beat.
PARTS: Final[dict[str, Make]] = {
    "dynamic, without optimism": _explored(replace(CHOSEN, optimism=0.0)),
    "dynamic, without temperatures": _explored(replace(CHOSEN, temperature=0.0)),
    "dynamic, without what has paid": _explored(replace(CHOSEN, learn=False)),
    "dynamic, one temperature for all": _explored(replace(CHOSEN, adapt=False)),
}
