"""`freshet-export train`: its options, what it trains. In: a log. Out: a bundle.

Must not know: how models work.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from export.bundle import write_bundle
from export.dataset import Log
from export.models.base import Run, Trained
from export.models.warm import WarmStart
from export.options import open_log, provenance
from export.report import peak_mib
from export.train import Report, fit
from export.warm import read_warm
from stream.core.model import Model


def add_train_options(command: argparse.ArgumentParser) -> None:
    """The options that only `train` has."""
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="bundle folder")
    _run_options(command)
    command.add_argument(
        "--minutes",
        type=_minutes,
        metavar="N",
        help="for glr: train no longer than about N minutes",
    )
    command.add_argument(
        "--warm",
        type=Path,
        metavar="DIR",
        help="for glr: begin from this bundle, made from the same log when it was shorter",
    )


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
    warm = None if options.warm is None else read_warm(options.warm, options.model)
    log, cleaning = open_log(options, report)
    trained = _fitted(options, log, parameters, _run(options, report, warm))
    _finish(trained, options, provenance(log, cleaning), report)


def _run(options: argparse.Namespace, report: Report, warm: WarmStart | None = None) -> Run:
    return Run(
        seconds=None if options.minutes is None else 60 * options.minutes,
        device=options.device,
        checkpoint=None if options.out is None else _unfinished(options) / "network",
        report=report,
        warm=warm,
    )


def _fitted(options: argparse.Namespace, log: Log, parameters: dict[str, Any], run: Run) -> Trained:
    try:
        return fit(log, options.model, parameters, run.report, run)
    except KeyboardInterrupt:
        if (kept := _unfinished(options)).is_dir():
            run.report(f"what was learned is kept in {kept}: the same training goes on from there")
        raise


def _finish(
    trained: Trained,
    options: argparse.Namespace,
    more: dict[str, Any],
    report: Report,
) -> None:
    """Write the bundle and check it. `more` goes into the manifest's `training`."""
    trained.training |= more
    bundle = write_bundle(trained, options.out, options.name)
    shutil.rmtree(_unfinished(options), ignore_errors=True)
    Model(bundle, "cpu")
    report("bundle verified: golden sequences replayed")
    report(f"peak memory {peak_mib():,.0f} MiB")
    print(f"{options.out}  {bundle.bundle_id}")


def _unfinished(options: argparse.Namespace) -> Path:
    folder: Path = options.out
    return folder.with_name(folder.name + ".unfinished")


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise ValueError
    return minutes
