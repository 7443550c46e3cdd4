"""`python -m tests.quality DATA`: train, measure, print a table, write build/quality-DATA.json.

Everything goes through `freshet-export`, as a shop would use it; orders of a log are asked for as
`freshet-export evaluate LOG` does it. A folder with `train_sessions.txt.gz` and
`test_prefixes.txt.gz` of its own may be given in place of a name.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from export.data.dataset import Log
from export.measuring.measure import Measured, measure_model
from export.measuring.questions import MOMENTS, Questions, baskets
from export.training.run_card import read_card
from export.training.train import BASELINE, CANDIDATES, CHOSEN_BY
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.errors import FreshetError, UsageError
from tests.quality.logs import PAIRS, Pair, sessions
from tests.quality.speed import microseconds
from tests.support import runs
from tests.support.data import DATA

ROOT = Path(__file__).parents[2]

MODELS = ("cooccurrence", "decay", "mf", "content", "glr", "ensemble")
TOLD = ("recall@10", "ndcg@10", "recall@20", "ndcg@20", "mrr@20")
OF_THE_REST = ("recall@20", "ndcg@20", "mrr@20")


class Asked(NamedTuple):
    """The orders of a log that a bundle is measured on, by moment."""

    older: Log
    questions: dict[str, Questions]


def main(arguments: list[str] | None = None) -> int:
    """Run one data set; 1 when the best model misses a target."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("data", metavar="DATA", help=f"{', '.join(PAIRS)}, or a folder")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, help="beside the baseline (default: what fits)"
    )
    parser.add_argument(
        "--minutes", type=runs.above_zero, help="of training, for glr (default: its epochs)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="bundles stay there")
    options = parser.parse_args(arguments)
    try:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            return _run(options, options.keep)
        with tempfile.TemporaryDirectory(prefix="freshet-quality-") as scratch:
            return _run(options, Path(scratch))
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace, scratch: Path) -> int:
    name = options.data
    if name in PAIRS:
        folder = DATA / name
        if not folder.is_dir():
            raise UsageError(f"{folder}: missing; FRESHET_DATA names the folder of all data")
        pair = PAIRS[name](folder, scratch)
    else:
        pair = sessions(Path(name), {})
        name = Path(name).name
    asked = None if pair.since_ms is None else _orders(pair, pair.since_ms)
    found: dict[str, Any] = {"data": name, "targets": pair.targets, "models": {}}
    baseline: dict[str, Measured] = {}
    for model in dict.fromkeys((BASELINE, *(options.models or pair.models))):
        bundle = scratch / model
        one = found["models"][model] = _train(model, pair, bundle, options.minutes)
        if asked is None:
            one["measured"] = _cases(
                pair, bundle, None if model == BASELINE else scratch / BASELINE
            )
        else:
            measured = _measure(bundle, asked)
            one |= _told(measured, baseline)
            baseline = baseline or measured
        one["speed"] = microseconds(Bundle.load(bundle))
        _print(model, one, pair)
    found["auto"] = _auto(found["models"])
    print(f"auto: {found['auto']['why']}")
    file = ROOT / "build" / f"quality-{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written to {file}")
    chosen = found["models"].get(found["auto"]["chosen"])  # not by what it is held to
    if chosen is None:
        return 1 if pair.targets else 0
    best = chosen["measured"]
    missed = {name: at for name, at in pair.targets.items() if best[name] < at}
    for metric, target in missed.items():
        print(f"missed: {metric} {best[metric]:.4f}, wanted {target:.4f}")
    return 1 if missed else 0


def _orders(pair: Pair, since_ms: int) -> Asked:
    log = pair.log(since_ms)
    asked = baskets(log, since_ms)
    by_moment = {
        moment: Questions(
            log, asked.histories, [query for query in asked.queries if query.moment == moment]
        )
        for moment in MOMENTS
    }
    return Asked(log.before(since_ms), {m: of for m, of in by_moment.items() if of.queries})


def _train(model: str, pair: Pair, bundle: Path, minutes: float | None) -> dict[str, Any]:
    limit = [] if minutes is None or model != "glr" else ["--minutes", f"{minutes:g}"]
    began = time.monotonic()
    trained = ("--format", pair.train_format, "--model", model, "--out", str(bundle), *limit)
    _command("train", str(pair.train), *trained)
    manifest, card = Bundle.load(bundle).manifest, read_card(bundle) or {}
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib": round(card["peak_memory_mib"]),
        "held_out": manifest.metrics,
        "training": manifest.training,
    }


def _cases(pair: Pair, bundle: Path, baseline: Path | None) -> dict[str, Any]:
    """On the cases of a file, beside the baseline's bundle as it would be served."""
    asked = ("--test", str(pair.test), "--format", pair.test_format, "--json", *pair.extra)
    against = () if baseline is None else ("--against", str(baseline))
    said = _command("evaluate", "--bundle", str(bundle), *asked, *against)
    measured: dict[str, Any] = json.loads(said)
    if baseline is not None:
        measured["baseline"] = measured.pop("other")
        measured["against_baseline"] = measured.pop("against_other")
    return measured


def _measure(bundle: Path, asked: Asked) -> dict[str, Measured]:
    """By moment."""
    model = Model(Bundle.load(bundle), "cpu", spare_rows=0)
    return {
        moment: measure_model(model, questions, trained_on=asked.older)
        for moment, questions in asked.questions.items()
    }


def _told(measured: dict[str, Measured], baseline: dict[str, Measured]) -> dict[str, Any]:
    """The next basket stands at the top, as the cases of other data do."""
    told = {moment: of.to_json() for moment, of in measured.items()}
    for moment, of in measured.items():
        if moment in baseline:
            told[moment]["against_baseline"] = of.against(baseline[moment])
    first, *others = told.items()
    return {"measured": {"asked": first[0], **first[1]}, **dict(others)}


def _auto(models: dict[str, Any]) -> dict[str, Any]:
    """What `--model auto` takes: the best on the newest events of the training log.

    Each model measured itself on the same ones, so they need not be trained once more.
    """
    held_out = {
        name: models[name]["held_out"]["held_out"][CHOSEN_BY]
        for name in CANDIDATES
        if name in models and "held_out" in models[name]["held_out"]
    }
    if not held_out:
        return {"chosen": None, "why": "none of its candidates held events out"}
    chosen = max(held_out, key=lambda name: held_out[name])
    told = ", ".join(f"{name} {value:.4f}" for name, value in held_out.items())
    why = f"{chosen}, for {CHOSEN_BY} on the newest events of the training log: {told}"
    return {"chosen": chosen, "why": why, CHOSEN_BY: held_out}


def _command(*arguments: str) -> str:
    """Run `freshet-export`; its progress is seen. Answers its result."""
    command = [sys.executable, "-m", "export.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT, check=False)
    if done.returncode:
        raise UsageError(f"freshet-export {arguments[0]} ended with {done.returncode}")
    return done.stdout


def _print(model: str, found: dict[str, Any], pair: Pair) -> None:
    measured, speed = found["measured"], found["speed"]
    cells = []
    for name in TOLD:
        low, high = measured["confidence"][name]
        cell = f"{name} {measured[name]:.4f} [{low:.4f} {high:.4f}]"
        if name in pair.targets:
            cell += f" ({pair.targets[name]:.4f} wanted)"
        cells.append(cell)
    print(f"{model:13} {'  '.join(cells)}")
    if "rest_of_basket" in found:
        rest = found["rest_of_basket"]
        told = "  ".join(f"{name} {rest[name]:.4f}" for name in OF_THE_REST)
        print(f"{'':13} {measured['asked']}, {measured['cases']:,} lists; rest of basket: {told}")
    if "ndcg@20" in (against := measured.get("against_baseline", {})):
        test = against["ndcg@20"]
        print(
            f"{'':13} ndcg@20 against {BASELINE}: {test['difference']:+.4f} "
            f"[{test['low']:+.4f} {test['high']:+.4f}], p {test['p']:.4f}"
        )
    times = "  ".join(
        f"{name} {of['1']:.0f} us alone, {of['64']:.1f} us in batches of 64"
        for name, of in (("update", speed["update_us"]), ("score", speed["score_us"]))
    )
    print(
        f"{'':13} {times}; training {found['seconds']:.0f} s, {found['peak_mib']:,} MiB", flush=True
    )


if __name__ == "__main__":
    raise SystemExit(main())
