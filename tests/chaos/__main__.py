"""`make chaos`: faults of every kind on workers and their broker, and whether all came out right.

    python -m tests.chaos [--kills N] [--minutes M] [--seed S] [--keeping brief] [--peer faust]
        [--plan]

Writes build/chaos.json. Exit code 0: all came out right; 1: something is wrong (histories, logs
and the broker's data are then left in a folder below build/chaos), or Apache Kafka cannot run here;
2: a wrong option, or a place that cannot be written; 130: Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import sys
import time
from itertools import islice
from pathlib import Path

from tests.chaos.keeping import KEEPINGS, PLAIN, Keeping
from tests.chaos.peer import PEERS
from tests.chaos.run import Plan, Report, run
from tests.chaos.storm_broker import StormKafka
from tests.support.runs import check_folder, told
from tests.support.seed import SEED

BUILD = Path(__file__).parents[2] / "build"
SHOWN = 200  # faults of a schedule without end


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit code."""
    plan, only_plan = _parse(arguments)
    print(f"seed {plan.seed}, {plan.engine}, {plan.rate} events/s, {plan.keeping}", flush=True)
    if only_plan:
        _tell(plan)
        return 0
    folder = BUILD / "chaos" / f"{time.strftime('%Y%m%d-%H%M%S')}-{plan.seed}"
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    return told(lambda: _storm(plan, folder), f"interrupted; what there is of it is in {folder}")


def _storm(plan: Plan, folder: Path) -> int:
    check_folder(BUILD / "chaos")
    report = _run(plan, folder)
    print(report.table())
    name = "chaos.json" if plan.engine == "freshet" else f"chaos-{plan.engine}.json"
    (BUILD / name).write_text(json.dumps(report.as_json(), indent=1) + "\n")
    print(f"{BUILD / name}")
    if report.right:
        shutil.rmtree(folder)
        return 0
    print(f"histories, logs and the broker's data: {folder}")
    return 1


def _tell(plan: Plan) -> None:
    """Print the schedule: all of it, or its beginning when it has no end but the time's."""
    endless = plan.kills is None
    for fault in islice(plan.faults(), SHOWN if endless else None):
        print(fault)
    if endless:
        print(f"the first {SHOWN}; it goes on like this until the time is over")


def _run(plan: Plan, folder: Path) -> Report:
    with StormKafka(folder / "kafka") as broker:
        return run(plan, broker, "run", folder, lambda line: print(line, flush=True))


def _parse(arguments: list[str] | None) -> tuple[Plan, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, help="SIGKILLs to workers (10, unless --minutes)")
    parser.add_argument("--minutes", type=float, help="time after which no more faults begin")
    parser.add_argument("--seed", type=int, default=SEED, help="of traffic and faults")
    parser.add_argument("--rate", type=int, default=600, help="events/s")
    parser.add_argument("--peer", choices=sorted(PEERS), default="freshet", help="what is judged")
    parser.add_argument(
        "--keeping",
        choices=("drawn", *KEEPINGS),
        default="drawn",
        help="how Freshet's workers keep states; drawn: by the seed",
    )
    parser.add_argument("--plan", action="store_true", help="print the schedule and end")
    options = parser.parse_args(arguments)
    for name in ("kills", "minutes", "rate"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:  # nan is neither
            parser.error(f"--{name} is {value}; it must be above 0, or nothing would be shown")
    if options.peer != "freshet" and options.keeping != "drawn":
        parser.error(f"--keeping is for Freshet's workers; {options.peer} has none of it")
    kills = options.kills
    if kills is None and options.minutes is None:
        kills = 10
    keeping = PLAIN
    if options.peer == "freshet":
        keeping = KEEPINGS.get(options.keeping) or Keeping.drawn(options.seed)
    plan = Plan(options.seed, kills, options.minutes, options.rate, options.peer, keeping=keeping)
    return plan, options.plan


if __name__ == "__main__":
    sys.exit(main())
