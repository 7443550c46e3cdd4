"""`freshet-export compress`: pack a bundle, and say what that costs and gains.

In: its options. Out: a table or JSON on stdout, a bundle. Must not know: how bundles are packed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from export.bundle import look_at
from export.compression.bundle import States, compress
from export.compression.measure import PLAIN, WAYS, Way, as_table, weigh
from export.measuring.asked import asked_of
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.packing import Storage
from stream.errors import UsageError

Report = Callable[[str], None]


def add_storage_options(command: argparse.ArgumentParser) -> None:
    """How a bundle is to be stored; None where nothing is said."""
    command.add_argument(
        "--item-vectors",
        choices=get_args(Storage),
        help="how item vectors are stored (default: float32)",
    )
    command.add_argument(
        "--states",
        choices=get_args(States),
        help="how users' states are stored (default: as the model's training chose)",
    )


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("bundle", type=Path, metavar="DIR", help="bundle with float32 items")
    command.add_argument("--out", type=Path, metavar="DIR", help="write it packed as said here")
    add_storage_options(command)
    command.add_argument(
        "--cpu-only", action="store_true", help="with --out: leave the graphs for CUDA out"
    )
    command.add_argument(
        "--test", type=Path, metavar="FILE", help="measure on this log (default: random histories)"
    )
    command.add_argument(
        "--since", metavar="DATE", help="with --test: measure from this ISO date on (default: all)"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure every way to pack, or with `--out` that one beside float32, and write it."""
    bundle = Bundle.load(options.bundle)
    chosen = Way(
        options.item_vectors or "float32",
        options.states or bundle.manifest.state.storage,
    )
    if options.out is None and (options.item_vectors or options.states):
        raise UsageError("--item-vectors, --states: go with --out; without it all are measured")
    if options.out is not None and options.item_vectors is None and options.states is None:
        raise UsageError("--out: say with --item-vectors, --states or both how to pack")
    if options.out is not None and options.out.resolve() == options.bundle.resolve():
        raise UsageError("--out: is the bundle itself, which would be lost; give another folder")
    if options.out is None and options.cpu_only:
        raise UsageError("--cpu-only: goes with --out; without it no bundle is written")
    if options.test is None and (options.since is not None or options.format is not None):
        raise UsageError("--since, --format: of what to measure on; give it with --test FILE")
    if options.out is not None:
        look_at(options.out)
    asked = None
    if options.test is not None:
        asked = asked_of(options.test, options.format or "events", options.since, report)
    outcomes = weigh(bundle, asked, report, WAYS if options.out is None else (PLAIN, chosen))
    if options.json:
        told = {
            "bundle_id": bundle.bundle_id,
            "cases": 0 if asked is None else len(asked.queries),
            "ways": [outcome.as_dict() for outcome in outcomes],
        }
        print(json.dumps(told, indent=2))
    else:
        print(*as_table(outcomes), sep="\n")
    if options.out is not None:
        packed = compress(bundle, options.out, *chosen, cuda=not options.cpu_only)
        Model(packed, "cpu")
        report("bundle verified: golden sequences replayed")
        if not options.json:
            print(f"{options.out}  {packed.bundle_id}")
