"""The commands of `freshet-export`: train, evaluate, show. In: arguments. Out: text, an exit code.

Exit codes: 0 done, 1 a fault was found, 2 usage, 130 interrupted, 141 nobody reads the output.
Progress goes to stderr, results to stdout. Must not know: how models work.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from export.comparing import command as evaluation
from export.compression import command as compression
from export.data.dataset import read_log
from export.data.describe import describe
from export.data.options import add_log_options, open_log
from export.data.sample import write_sample
from export.data.sources import SOURCES
from export.measuring.asked import PREFIXES
from export.memory import peak_mib, watched
from export.models import AUTO, LEARNED, MODELS, SPACES
from export.models.glr.private_parameters import PrivateParameters
from export.models.text import parse_parameters, parse_values
from export.training import command as training
from export.training.run_card import read_card
from export.writing import check_writable
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import EXIT_INTERRUPTED, FreshetError, ReaderGoneError, UsageError
from stream.output import whole_output
from stream.terminal import LINES, printable, printable_json

EXAMPLES = {
    "train": [
        "freshet-export train events.jsonl --out build/bundle",
        "freshet-export train events.csv --format rees46 --model glr --out build/bundle",
        "freshet-export train events.jsonl --epsilon 3 --out build/private",
    ],
    "tune": ["freshet-export tune events.jsonl --model mf --out build/tuned"],
    "evaluate": [
        "freshet-export evaluate events.jsonl --model mf",
        "freshet-export evaluate --bundle build/bundle --test new.jsonl --json > figures.json",
    ],
    "compress": ["freshet-export compress build/bundle --out build/smaller --test new.jsonl"],
    "describe": ["freshet-export describe events.jsonl --json"],
    "bundle": ["freshet-export bundle build/bundle"],
    "sample": ["freshet-export sample online_retail.csv --out build/sample"],
}


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; see `export.cli.main`."""
    try:
        with whole_output():
            options = parser().parse_args(arguments)
            with watched():
                options.run(options)
    except ReaderGoneError as error:
        return error.exit_code
    except FreshetError as error:
        print(f"error: {printable(str(error), keep=LINES)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("freshet-export: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    found = argparse.ArgumentParser(
        prog="freshet-export",
        description="Train models for Freshet and write them as bundles.",
        epilog=_examples(*(lines[0] for lines in EXAMPLES.values())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "train", _train, "train a model on a log and write a bundle")
    _log(command)
    _model_options(command)
    training.add_train_options(command)

    command = _command(commands, "tune", _tune, "look for a model's best parameters")
    _log(command)
    _model_options(command, default=None)
    training.add_tune_options(command)

    command = _command(commands, "evaluate", _evaluate, "measure a model beside the baseline")
    _log(command, needed=False, more=[PREFIXES])
    _model_options(command)
    evaluation.add_options(command)

    command = _command(
        commands, "compress", _compress, "store a bundle in fewer bytes, and say what that costs"
    )
    compression.add_options(command)
    command.add_argument(
        "--format",
        choices=[*SOURCES, PREFIXES],
        help="of --test (default: events)",
    )

    command = _command(commands, "describe", _describe, "say what a log holds and what is left out")
    _log(command)
    command.add_argument("--json", action="store_true", help="print JSON")

    command = _command(commands, "bundle", _bundle, "verify a bundle and show its manifest")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = _command(commands, "sample", _sample, "make the demo's sample from Online Retail")
    command.add_argument("log", type=Path, metavar="LOG")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    return found


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=_examples(*EXAMPLES[name]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _examples(*lines: str) -> str:
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _log(command: argparse.ArgumentParser, needed: bool = True, more: Iterable[str] = ()) -> None:
    command.add_argument(
        "log",
        type=Path,
        metavar="LOG",
        nargs=None if needed else "?",
        help="event log, plain or gzip, or a folder of them",
    )
    add_log_options(command, more)


def _model_options(command: argparse.ArgumentParser, default: str | None = AUTO) -> None:
    known = MODELS if default == AUTO else SPACES  # what can be searched
    auto = "; auto: the best on the newest events of what is trained on" if default == AUTO else ""
    usual = "" if default is None else f" (default: {default}{auto})"
    command.add_argument(
        "--model",
        choices=[*([AUTO] if default == AUTO else []), *sorted(known)],
        default=default,
        required=default is None,
        help=f"kind of model{usual}",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the model (export/models/README.md lists them); may be repeated",
    )


def _train(options: argparse.Namespace) -> None:
    if options.epsilon is not None:
        parameters = parse_values("private glr", PrivateParameters, _given(options))
        training.train_privately(options, parameters, _reporter())
        return
    if options.delta is not None:
        raise UsageError("--delta: goes with --epsilon; say how much the bundle may tell of a user")
    if options.warm is not None and options.model == AUTO:
        (options.model,) = LEARNED
    training.train(options, _parameters(options), _reporter())


def _tune(options: argparse.Namespace) -> None:
    training.tune(options, _parameters(options), _reporter())


def _evaluate(options: argparse.Namespace) -> None:
    evaluation.check(options)
    evaluation.run(options, _parameters(options), _reporter())


def _compress(options: argparse.Namespace) -> None:
    compression.run(options, _reporter())


def _describe(options: argparse.Namespace) -> None:
    report = _reporter()
    log, cleaning = open_log(options, report)
    found = describe(log, cleaning)
    report(f"peak memory {peak_mib():,.0f} MiB")
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
    print(f"  item vectors  {m.embedding_dim} numbers, kept as {m.item_storage}")
    if m.head is not None:
        said = f"{m.head.affinity}, {m.head.score}; trained by {m.head.loss}"
        print(f"  head          {printable(said)}")
    for what, excluded in (("seen", m.exclude_seen), ("bought", m.exclude_bought)):
        print(f"  {what + ' items':13} {'excluded' if excluded else 'may come back'}")
    for name, values in (("training", m.training), ("metrics", m.metrics)):
        print(f"  {name:13} {json.dumps(values)}")
    if (card := read_card(options.folder)) is not None:
        print(f"  run           {printable_json(json.dumps(card))}")


def _sample(options: argparse.Namespace) -> None:
    report = _reporter()
    check_writable(options.out)
    report(f"reading {options.log}")
    items, events = write_sample(read_log(options.log, "online-retail"), options.out)
    print(f"{options.out}  {items:,} items, {events:,} events")


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    return parse_parameters(options.model, _given(options))


def _given(options: argparse.Namespace) -> dict[str, str]:
    given: dict[str, str] = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write NAME=VALUE")
        name = name.strip()
        if name in given:
            raise UsageError(f"--set {name}: is given twice; leave one of the two out")
        given[name] = value.strip()
    return given


def _reporter() -> Callable[[str], None]:
    """Prints what is being done and the seconds since the start."""
    begun = time.monotonic()

    def report(what: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {what}", file=sys.stderr, flush=True)

    return report
