"""`freshet-export evaluate`: measure. In: its options. Out: text or JSON on stdout, charts.

A log with `--model` trains before it measures; `--bundle` and `--test` measure what exists. Must
not know: how models work, how figures are computed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from export.comparing import report as told
from export.comparing.compare import compare, cross_validate, learning_curve, rating_errors
from export.comparing.training_log import NoLogError, training_log
from export.data.dataset import Log
from export.data.options import CLEANING, first_given, minutes, open_log, open_split, until_of
from export.data.sources import KAFKA
from export.data.splits import Split, folds, newest_share, rolling
from export.measuring.asked import PREFIXES, asked_of, moment_ms
from export.measuring.diversity import Point, diversity_curve
from export.measuring.measure import KS, Measured, checked, measure, measure_model
from export.memory import peak_mib
from export.models import AUTO, train
from export.models.base import Run
from export.training.heeding import heed
from export.training.train import BASELINE, loaded
from export.writing import check_writable
from stream.config import Placement as PlacementRules
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import UsageError
from stream.logs import FORMATS
from stream.placements import MOST_DIVERSITY
from stream.terminal import counted

PREDICT_RATINGS = (AUTO, "mf")
_FORMAT_OF_BASELINE = {PREFIXES: "sessions"}

Report = Callable[[str], None]


def add_options(command: argparse.ArgumentParser) -> None:
    """The options that only this command has."""
    command.add_argument(
        "--since",
        metavar="DATE",
        help="train before this ISO date, measure from it on (default: the newest 15%% of events); "
        "with --bundle: measure from it on (default: all)",
    )
    splits = command.add_mutually_exclusive_group()
    splits.add_argument("--folds", type=int, metavar="N", help="k-fold over users: mean and spread")
    splits.add_argument("--rolling", type=int, metavar="N", help="N moments in time, likewise")
    command.add_argument(
        "--minutes",
        type=minutes,
        metavar="N",
        help="for glr: train no longer than about N minutes, each time",
    )
    command.add_argument("--bundle", type=Path, metavar="DIR", help="measure this bundle instead")
    command.add_argument("--test", type=Path, metavar="FILE", help="what --bundle is measured on")
    command.add_argument("--against", type=Path, metavar="DIR", help="a second bundle: paired test")
    command.add_argument(
        "--baseline",
        type=Path,
        metavar="LOG",
        help="training log of --bundle, for the baseline beside it (default: the one that its "
        "run.json names)",
    )
    command.add_argument(
        "--baseline-format",
        choices=list(FORMATS),
        help="of --baseline (default: that of --test; sessions for prefixes)",
    )
    command.add_argument(
        "--whole-history",
        action="store_true",
        help="leave out what was seen or bought in all of the history, not what the ring remembers",
    )
    command.add_argument(
        "--diversity",
        type=_strengths,
        metavar="D,D",
        help="with --bundle: what these strengths of a placement's diversity cost, at the last k",
    )
    command.add_argument("--k", type=_lengths, default=KS, metavar="K,K", help="default: 10,20")
    command.add_argument(
        "--plots", type=Path, metavar="DIR", help="write charts as SVG, and a page of them"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def check(options: argparse.Namespace) -> None:
    """Refuse options that would have no effect together.

    Raises
    ------
    UsageError
        There are such; it says what to do.
    """
    (_check_log if options.bundle is None else _check_bundle)(options)


def _check_log(options: argparse.Namespace) -> None:
    if option := first_given(
        options, "test", "against", "baseline", "baseline_format", "whole_history", "diversity"
    ):
        raise UsageError(f"{option}: goes with --bundle")
    if options.log is None:
        raise UsageError("give a log to train and measure on, or --bundle DIR --test FILE")
    if options.format == PREFIXES:
        raise UsageError("--format prefixes: cases, not a log; measure a bundle on them: --bundle")
    if splits := first_given(options, "folds", "rolling"):
        if options.since is not None:
            raise UsageError("--since: --folds and --rolling choose their own moments")
        if options.plots is not None:
            raise UsageError(f"--plots: charts are of one split; leave {splits} out")
        if options.model == AUTO:
            raise UsageError(f"{splits}: say with --model which one to train on every split")


def _check_bundle(options: argparse.Namespace) -> None:
    if options.log is not None or first_given(options, "folds", "rolling"):
        raise UsageError("--bundle: a log, --folds and --rolling are for models trained first")
    for name in ("bundle", "against"):
        folder = getattr(options, name)
        if folder is not None and folder.is_file():
            raise UsageError(f"--{name} {folder}: is a file; give the folder of a bundle")
    if options.test is None:
        raise UsageError("--bundle: say with --test FILE on what to measure it")
    option = first_given(options, "set", "items", "minutes")
    if option or options.model != AUTO:
        raise UsageError(
            f"{option or '--model'}: of a model that is trained on LOG; a bundle is measured as it "
            "is, so leave it out"
        )
    if options.until and options.format == PREFIXES:
        raise UsageError("--until: only topics have offsets; add --format kafka")
    if options.baseline is not None:
        return
    if options.baseline_format is not None:
        raise UsageError("--baseline-format: goes with --baseline LOG")
    if option := first_given(options, *CLEANING):
        raise UsageError(
            f"{option}: cleans the log of --baseline, and there is none; what --test asks is "
            "asked as it stands, so leave it out"
        )
    if options.scratch is not None and options.format == PREFIXES:
        raise UsageError("--scratch: prefixes are kept in memory; leave it out")


def run(options: argparse.Namespace, parameters: dict[str, Any], report: Report) -> None:
    """Measure what the options ask for, once they are checked.

    Parameters
    ----------
    parameters : of the model that is trained
    """
    ks = checked(options.k)
    if options.plots is not None:
        check_writable(options.plots)
    if options.bundle is None:
        _log(options, parameters, ks, report)
    else:
        _bundle(options, ks, report)
    report(f"peak memory {peak_mib():,.0f} MiB")


def _log(
    options: argparse.Namespace, parameters: dict[str, Any], ks: tuple[int, ...], report: Report
) -> None:
    heed(options, parameters, report)
    seconds = None if options.minutes is None else 60 * options.minutes
    limited = Run(seconds=seconds, report=report)
    since_ms = None if options.since is None else moment_ms(options.since)
    log, at = open_split(options, report)
    if options.folds is not None or options.rolling is not None:

        def splits() -> Iterator[Split]:
            if options.folds is not None:
                return folds(log, options.folds)
            return rolling(log, options.rolling, at=at)

        found = cross_validate(splits, options.model, parameters, report, ks, limited)
        _print(told.splits_json(found) if options.json else told.splits_text(found))
        return
    if since_ms is None:
        since_ms = newest_share(log)
    log = at(since_ms)
    results = compare(log, options.model, parameters, since_ms, report, ks, limited)
    rated = rating_errors(log, since_ms) if options.model in PREDICT_RATINGS else None
    form = told.results_json if options.json else told.results_text
    _print(form(results, rated))
    if options.plots is not None:
        trained = next(iter(results))
        curves = learning_curve(log, trained, parameters, since_ms, report, ks[-1], limited)
        bins = {
            f"{model}, {setting.moment}": measured.calibration
            for model, of_model in results.items()
            for setting, measured in of_model.items()
            if setting.exclusion == "repeats allowed"
        }
        _charts(options.plots, bins, curves, ks[-1], report)


def _bundle(options: argparse.Namespace, ks: tuple[int, ...], report: Report) -> None:
    bundle = Bundle.load(options.bundle)
    other = None if options.against is None else Bundle.load(options.against)
    report(f"reading {options.test}")
    asked = asked_of(
        options.test, options.format, options.since, report, options.scratch, until_of(options)
    )
    trained_on, unmeasured = _training_log(options, bundle, other, report)
    report(f"measuring {bundle.manifest.model} on {counted(len(asked.queries), 'case')}")
    given: dict[str, Any] = {"trained_on": trained_on, "whole_history": options.whole_history}
    measured = measure(bundle, asked, ks, **given)
    against = None
    if other is not None:
        report(f"measuring {other.manifest.model} of {options.against}")
        against = measure(other, asked, ks, **given)
    baseline: Measured | told.Unmeasured
    if unmeasured is not None:
        baseline = unmeasured
    elif trained_on is not None:
        report(f"training {BASELINE} on {len(trained_on):,} events")
        seen, bought = measured.leaves_out
        rules = PlacementRules(exclude_seen=seen, exclude_bought=bought)
        with loaded(train(BASELINE, trained_on)) as served:
            report(f"measuring {BASELINE}")
            baseline = measure_model(served, asked, ks, rules=rules, **given)
    elif bundle.manifest.model == BASELINE or against is None:
        baseline = measured
    else:
        baseline = against
    curve: list[Point] = []
    if options.diversity is not None:
        report(f"measuring {len(options.diversity)} strengths of diversity")
        model = Model(bundle, "cpu", spare_rows=0)
        whole = options.whole_history
        curve = diversity_curve(model, asked, options.diversity, ks[-1], whole_history=whole)
    if options.json:
        points = [point._asdict() for point in curve]
        found = told.bundle_json(measured, baseline, against)
        _print(found | ({"diversity_curve": points} if points else {}))
    else:
        _print(told.bundle_text(measured, baseline, against) + told.diversity_text(curve, ks[-1]))
    if options.plots is not None:
        models = {"bundle": measured, "baseline": baseline, "other": against}
        bins = {name: m.calibration for name, m in models.items() if isinstance(m, Measured)}
        _charts(options.plots, bins, {}, ks[-1], report, curve)


def _training_log(
    options: argparse.Namespace, bundle: Bundle, other: Bundle | None, report: Report
) -> tuple[Log | None, told.Unmeasured | None]:
    """What the baseline is trained on, or why there is nothing; neither where a bundle is it."""
    if options.baseline is None:
        if BASELINE in (one.manifest.model for one in (bundle, other) if one is not None):
            return None, None
        try:
            return training_log(bundle, report, options.scratch), None
        except NoLogError as error:
            return None, told.Unmeasured(str(error), bundle.manifest.metrics.get("baseline"))
    same = _FORMAT_OF_BASELINE.get(options.format, options.format)
    form = options.baseline_format or same
    until = options.until if form == KAFKA else []
    of = {"log": options.baseline, "format": form, "until": until}
    return open_log(argparse.Namespace(**{**vars(options), **of}), report)[0], None


def _charts(
    folder: Path, bins: Any, curves: Any, k: int, report: Report, diverse: Sequence[Point] = ()
) -> None:
    for path in told.write_charts(folder, bins, curves, k, diverse):
        report(f"wrote {path}")


def _print(result: str | dict[str, Any]) -> None:
    print(result if isinstance(result, str) else json.dumps(result, indent=2))


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give lengths of lists, such as 10,20") from None


def _strengths(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 <= strength <= MOST_DIVERSITY for strength in found):
        raise argparse.ArgumentTypeError(
            f"{text}: give strengths from 0 to {MOST_DIVERSITY}, such as 0,2,4"
        )
    return found
