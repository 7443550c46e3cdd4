"""`freshet-export train` and `tune`: their options, what they train. In: a log. Out: a bundle.

Must not know: how models work.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from export.bundle import look_at, write_bundle
from export.compression.bundle import NotPackableError, compress
from export.compression.command import add_storage_options
from export.compression.held_out import Wanted
from export.data.dataset import Log
from export.data.options import minutes, open_log, provenance
from export.memory import peak_mib
from export.models import AUTO, LEARNED, glr
from export.models.base import Run, Trained
from export.models.warm import WarmStart
from export.training.heeding import heed, learns
from export.training.private import fit_privately
from export.training.run_card import CARD, Clock, card, data_sha256, write_card
from export.training.train import AS_TRAINED, Report, fit
from export.training.tuning import search
from export.training.unfinished import Unfinished, unfinished
from export.training.warm import read_warm
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import TrainingError, UsageError

MINUTES = 10  # of a search


def add_train_options(command: argparse.ArgumentParser) -> None:
    """The options that only `train` has."""
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="bundle folder")
    _run_options(command)
    command.add_argument(
        "--minutes",
        type=minutes,
        metavar="N",
        help="for glr: train no longer than about N minutes",
    )
    command.add_argument(
        "--warm",
        type=Path,
        metavar="DIR",
        help="for glr: begin from this bundle, made from the same log when it was shorter",
    )
    add_storage_options(command)
    group = command.add_argument_group("differential privacy", "glr, so that it hides each user")
    group.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help="the most that the bundle may tell of any one user; from 1 (strong) to 8 (weak)",
    )
    group.add_argument(
        "--delta",
        type=float,
        metavar="D",
        help="the chance that it tells more (default: users to the power of -1.1)",
    )


def add_tune_options(command: argparse.ArgumentParser) -> None:
    """The options that only `tune` has."""
    command.add_argument(
        "--minutes",
        type=minutes,
        default=MINUTES,
        metavar="N",
        help=f"look no longer than about N minutes (default: {MINUTES})",
    )
    command.add_argument("--trials", type=_trials, metavar="N", help="nor try more than N times")
    command.add_argument(
        "--seed", type=_seed, default=1, metavar="S", help="of what is tried (default: 1)"
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="bundle folder: train with the best, after the search and as long as that at most",
    )
    _run_options(command)


def _run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="name in the manifest (default: the model's)")
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="for glr (default: auto, CUDA where there is one)",
    )


def train(options: argparse.Namespace, parameters: dict[str, Any], report: Report) -> None:
    """Train and write a bundle. `parameters` are the model's."""
    clock = Clock()
    heed(options, parameters, report)
    with _kept(options, learns(options.model, parameters)) as kept:
        warm = None if options.warm is None else read_warm(options.warm, options.model)
        log, cleaning = open_log(options, report)
        wanted = Wanted(options.item_vectors or "float32", options.states)
        run = _run(options, kept, report, warm)
        trained = _fitted(options, log, parameters, kept, run, wanted)
        _finish(trained, options, log, kept, provenance(log, cleaning), clock, report)


def train_privately(
    options: argparse.Namespace, parameters: dict[str, Any], report: Report
) -> None:
    """The same with `--epsilon`. `parameters` are those of a private network."""
    clock = Clock()
    if options.model not in (AUTO, *LEARNED):
        raise UsageError(
            f"--epsilon: {options.model} cannot be trained privately; take --model glr"
        )
    if options.warm is not None:
        raise UsageError("--epsilon: the network of --warm knows its users; leave one of them out")
    if options.min_count is not None and options.min_count > 1:
        raise UsageError("--epsilon: which items are rare depends on users; leave --min-count out")
    if options.device == "cuda":  # where the usual model is trained, beside it
        glr.require("cuda")
    options.outliers = False  # what is far out depends on others' events, and may be one user's all
    with _kept(options, goes_on=False) as kept:
        log, _ = open_log(options, report)
        run = _run(options, kept, report)
        found = fit_privately(log, parameters, options.epsilon, options.delta, run)
        found.trained.storage = options.states or found.trained.storage
        found.trained.item_storage = options.item_vectors or "float32"
        bundle = _written(found.trained, options, kept, report)
        told = card(clock, log, data_sha256(log), options, bundle.bundle_id, found.cost.metrics)
        beside = options.out.with_name(f"{options.out.name}.{CARD}")
        write_card(told, beside)  # not into the folder, which may be handed on
        print(*found.cost.lines(), sep="\n")
        privacy = found.trained.training["privacy"]
        print(f"the bundle has epsilon {privacy['epsilon']:.4g}, delta {privacy['delta']:.3g}")
        print(f"not private: these figures, and {beside}")
        print(f"{options.out}  {bundle.bundle_id}")


def tune(options: argparse.Namespace, parameters: dict[str, Any], report: Report) -> None:
    """Look for parameters and print them; with `--out`, train with them. `parameters` stay."""
    clock = Clock()
    heed(options, parameters, report, limited=True)
    goes_on = learns(options.model, parameters)
    with nullcontext() if options.out is None else _kept(options, goes_on) as kept:
        log, cleaning = open_log(options, report)
        run = _run(options, kept, report)
        model, seed = options.model, options.seed
        found = search(log, model, parameters, run, trials=options.trials, seed=seed)
        print(*found.lines(), sep="\n", flush=True)
        if kept is not None:
            trained = _fitted(options, log, found.parameters, kept, run)
            more = provenance(log, cleaning) | {"tuned": found.summary()}
            _finish(trained, options, log, kept, more, clock, report)


def _run(
    options: argparse.Namespace,
    kept: Unfinished | None,
    report: Report,
    warm: WarmStart | None = None,
) -> Run:
    return Run(
        seconds=None if options.minutes is None else 60 * options.minutes,
        device=options.device,
        checkpoint=None if kept is None else kept.folder / "network",
        report=report,
        warm=warm,
    )


def _fitted(
    options: argparse.Namespace,
    log: Log,
    parameters: dict[str, Any],
    kept: Unfinished,
    run: Run,
    wanted: Wanted = AS_TRAINED,
) -> Trained:
    try:
        return fit(log, options.model, parameters, run.report, run, wanted)
    except (KeyboardInterrupt, TrainingError):
        if kept.holds_anything():
            where = kept.folder
            run.report(f"what was learned is kept in {where}: the same training goes on from there")
        raise


def _finish(
    trained: Trained,
    options: argparse.Namespace,
    log: Log,
    kept: Unfinished,
    more: dict[str, Any],
    clock: Clock,
    report: Report,
) -> None:
    """Write the bundle, check it, and lay its run card beside. `more`: for `training`."""
    data = data_sha256(log)
    trained.training |= more | {"data": data}
    bundle = _written(trained, options, kept, report)
    told = card(clock, log, data, options, bundle.bundle_id, trained.metrics)
    write_card(told, options.out / CARD)
    report(f"peak memory {peak_mib():,.0f} MiB")
    print(f"{options.out}  {bundle.bundle_id}")


def _written(
    trained: Trained, options: argparse.Namespace, kept: Unfinished, report: Report
) -> Bundle:
    bundle = _packed(trained, options, report)
    Model(bundle, "cpu")
    kept.clear()
    report("bundle verified: golden sequences replayed")
    return bundle


def _packed(trained: Trained, options: argparse.Namespace, report: Report) -> Bundle:
    if trained.item_storage != "float32":
        with tempfile.TemporaryDirectory(prefix="freshet-export-") as scratch:
            plain = write_bundle(trained, Path(scratch) / "bundle", options.name)
            Model(plain, "cpu")  # against the reference, before anything is packed
            try:
                return compress(plain, options.out, trained.item_storage, trained.storage)
            except NotPackableError as error:
                report(f"items stay float32: {error}")
    return write_bundle(trained, options.out, options.name)


@contextmanager
def _kept(options: argparse.Namespace, goes_on: bool) -> Iterator[Unfinished]:
    """Before hours are spent: can the bundle be written, and what is learned until then?

    `goes_on`: whether this training can use what another one left; else it must not be lost.
    """
    if not options.out.name:
        raise UsageError("--out: give a folder with a name of its own, to be made for the bundle")
    look_at(options.out)
    with unfinished(options.out) as kept:
        if kept.holds_anything() and not goes_on:
            raise UsageError(
                f"{kept.folder}: holds what an interrupted training of another kind learned; "
                "finish that one with its own command, delete the folder, or give another --out"
            )
        yield kept


def _trials(text: str) -> int:
    try:
        trials = int(text)
    except ValueError:
        trials = 0
    if trials < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 1 on")
    return trials


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from 0 to {(1 << 32) - 1}")
    return seed
