"""`python -m tests.regret`: what exploring costs and brings; writes build/regret.json and .svg.

Shoppers with known, drifting tastes in a shop where new items arrive, one world a seed, the same
for every policy. Exit codes: 0 the dynamic setting has the lowest regret of all, by paired
intervals; 1 a fixed one is as low or lower; 2 a wrong option.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.machine import describe_machine
from tests.regret.report import drawn, lines, summary
from tests.regret.run import run
from tests.regret.table import DYNAMIC, PARTS, POLICIES
from tests.regret.world import Size, World
from tests.support.kafka import ROOT
from tests.support.runs import whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code."""
    options = _parser().parse_args(arguments)
    size = Size(rounds=options.rounds, shoppers=options.shoppers)
    started = time.process_time()
    policies = {**POLICIES, **PARTS}
    outcomes: dict[str, list[Any]] = {name: [] for name in policies}
    visits = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        world = World(size, seed)
        visits.append(sum(len(of.shoppers) for of in world.rounds))
        for name, make in policies.items():
            outcomes[name].append(run(world, make(seed), seed))
        print(f"seed {seed}: {visits[-1]:,} visits", file=sys.stderr, flush=True)
    report = {
        "machine": describe_machine(),
        "cpu_s": round(time.process_time() - started, 1),
        "first_seed": options.first_seed,
        **summary(size, visits, outcomes, DYNAMIC, list(PARTS)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "regret.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (options.out / "regret.svg").write_text(drawn(report, outcomes, DYNAMIC), encoding="utf-8")
    print("\n".join(lines(report)))
    print(f"written to {options.out / 'regret.json'}")
    return 0 if report["dynamic_is_lowest"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.regret", description=__doc__)
    parser.add_argument("--seeds", type=whole(2), default=20, metavar="N")
    parser.add_argument("--first-seed", type=whole(0), default=1, metavar="S")
    parser.add_argument("--rounds", type=whole(10), default=Size().rounds, metavar="N")
    parser.add_argument("--shoppers", type=whole(10), default=Size().shoppers, metavar="N")
    parser.add_argument("--out", type=Path, default=ROOT / "build", metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
