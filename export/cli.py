"""`freshet-export`: train, evaluate, show. In: the command line. Out: text, an exit code.

Exit codes: 0 done, 1 a fault was found, 2 usage, 130 interrupted. Progress goes to stderr, results
to stdout. Must not know: how models work.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from export import evaluation
from export.bundle import write_bundle
from export.dataset import read_log
from export.describe import describe
from export.models import MODELS
from export.models.base import Run
from export.options import add_log_options, open_log, provenance
from export.report import peak_mib
from export.sample import write_sample
from export.train import AUTO, fit, parse_parameters
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import FreshetError, UsageError
from stream.terminal import LINES, printable, printable_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except FreshetError as error:
        print(f"freshet-export: {printable(str(error), keep=LINES)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("freshet-export: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freshet-export", description="Train models for Freshet and write them as bundles."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "train", _train, "train a model on a log and write a bundle")
    _log(command)
    _model_options(command)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="bundle folder")
    command.add_argument("--name", help="name in the manifest (default: the model's)")
    command.add_argument(
        "--minutes",
        type=_minutes,
        metavar="N",
        help="for glr: train no longer than about N minutes",
    )
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="for glr (default: auto, CUDA where there is one)",
    )

    command = _command(commands, "evaluate", _evaluate, "measure a model beside the baseline")
    _log(command, needed=False, more=[evaluation.PREFIXES])
    _model_options(command, default="mf")
    evaluation.add_options(command)

    command = _command(commands, "describe", _describe, "say what a log holds and what is left out")
    _log(command)
    command.add_argument("--json", action="store_true", help="print JSON")

    command = _command(commands, "bundle", _bundle, "verify a bundle and show its manifest")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = _command(commands, "sample", _sample, "make the demo's sample from Online Retail")
    command.add_argument("log", type=Path, metavar="LOG")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def _log(command: argparse.ArgumentParser, needed: bool = True, more: Iterable[str] = ()) -> None:
    command.add_argument(
        "log",
        type=Path,
        metavar="LOG",
        nargs=None if needed else "?",
        help="event log, plain or gzip, or a folder of them",
    )
    add_log_options(command, more)


def _model_options(command: argparse.ArgumentParser, default: str = AUTO) -> None:
    auto = "; auto: the best on the newest events" if default == AUTO else ""
    command.add_argument(
        "--model",
        choices=[*([AUTO] if default == AUTO else []), *sorted(MODELS)],
        default=default,
        help=f"kind of model (default: {default}{auto})",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the model (export/models/README.md lists them); may be repeated",
    )


def _train(options: argparse.Namespace) -> None:
    parameters = _parameters(options)
    report = _reporter()
    log, cleaning = open_log(options, report)
    unfinished = options.out.with_name(options.out.name + ".unfinished")
    run = Run(
        seconds=None if options.minutes is None else 60 * options.minutes,
        device=options.device,
        checkpoint=unfinished / "network",
        report=report,
    )
    try:
        trained = fit(log, options.model, parameters, report, run)
    except KeyboardInterrupt:
        if unfinished.is_dir():
            report(f"what was learned is kept in {unfinished}: the same command goes on from there")
        raise
    trained.training |= provenance(log, cleaning)
    bundle = write_bundle(trained, options.out, options.name)
    shutil.rmtree(unfinished, ignore_errors=True)
    Model(bundle, "cpu")
    report("bundle verified: golden sequences replayed")
    report(f"peak memory {peak_mib():,.0f} MiB")
    print(f"{options.out}  {bundle.bundle_id}")


def _evaluate(options: argparse.Namespace) -> None:
    evaluation.run(options, _parameters(options), _reporter())


def _describe(options: argparse.Namespace) -> None:
    log, cleaning = open_log(options, _reporter())
    found = describe(log, cleaning)
    if options.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print(*cleaning.table().splitlines(), "", *found.lines(), sep="\n")


def _bundle(options: argparse.Namespace) -> None:
    bundle = Bundle.load(options.folder)
    Model(bundle, "cpu")
    if options.json:
        text = (options.folder / "manifest.json").read_text(encoding="utf-8")
        print(printable_json(text, keep=LINES), end="")
        return
    m = bundle.manifest
    print(f"{printable(m.name)}: {printable(m.model)}, {m.items - 1:,} items, verified")
    print(f"  id            {m.bundle_id}")
    print(f"  trained until {printable(m.created)}")
    print(f"  state         {m.state.size} numbers, kept as {m.state.storage}")
    print(f"  seen items    {'excluded' if m.exclude_seen else 'may come back'}")
    for name, values in (("training", m.training), ("metrics", m.metrics)):
        print(f"  {name:13} {json.dumps(values)}")


def _sample(options: argparse.Namespace) -> None:
    report = _reporter()
    report(f"reading {options.log}")
    items, events = write_sample(read_log(options.log, "online-retail"), options.out)
    print(f"{options.out}  {items:,} items, {events:,} events")


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    given = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write NAME=VALUE")
        given[name.strip()] = value.strip()
    return parse_parameters(options.model, given)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise ValueError
    return minutes


def _reporter() -> Callable[[str], None]:
    """Prints what is being done and the seconds since the start."""
    begun = time.monotonic()

    def report(what: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {what}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
