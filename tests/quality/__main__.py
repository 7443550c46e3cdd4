"""`python -m tests.quality DATA`: train, measure, print a table, write build/quality-DATA.json.

Everything goes through `freshet-export`, as a shop would use it. A folder with
`train_sessions.txt.gz` and `test_prefixes.txt.gz` of its own may be given in place of a name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stream.core.bundle import Bundle
from stream.errors import FreshetError, UsageError
from tests.quality.logs import PAIRS, Pair, sessions

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("FRESHET_DATA", ROOT.parent / "shared" / "data"))
MODELS = ("cooccurrence", "decay", "mf", "glr")


def main(arguments: list[str] | None = None) -> int:
    """Run one data set; 1 when the best model misses a target."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality", description=__doc__)
    parser.add_argument("data", metavar="DATA", help=f"{', '.join(PAIRS)}, or a folder")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=[*MODELS, "content"])
    parser.add_argument("--minutes", type=float, help="of training, for glr (default: its epochs)")
    options = parser.parse_args(arguments)
    try:
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
    found: dict[str, Any] = {"data": name, "targets": pair.targets, "models": {}}
    for model in options.models:
        found["models"][model] = _measure(model, pair, scratch / model, options.minutes)
        _print(model, found["models"][model], pair)
    file = ROOT / "build" / f"quality-{name}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written to {file}")
    best = max(found["models"].values(), key=lambda one: one["measured"]["ndcg@20"])["measured"]
    missed = {name: at for name, at in pair.targets.items() if best[name] < at}
    for metric, target in missed.items():
        print(f"missed: {metric} {best[metric]:.4f}, wanted {target:.4f}")
    return 1 if missed else 0


def _measure(model: str, pair: Pair, bundle: Path, minutes: float | None) -> dict[str, Any]:
    limit = [] if minutes is None or model != "glr" else ["--minutes", f"{minutes:g}"]
    began = time.monotonic()
    _command(
        "train",
        str(pair.train),
        "--format",
        pair.train_format,
        "--model",
        model,
        "--out",
        str(bundle),
        *limit,
    )
    trained_s = time.monotonic() - began
    said = _command(
        "evaluate",
        "--bundle",
        str(bundle),
        "--test",
        str(pair.test),
        "--format",
        pair.test_format,
        "--json",
        *pair.extra,
    )
    manifest = Bundle.load(bundle).manifest
    return {
        "seconds": round(trained_s, 1),
        "measured": json.loads(said),
        "held_out": manifest.metrics,
        "training": manifest.training,
    }


def _command(*arguments: str) -> str:
    """Run `freshet-export`; its progress is seen, its result answered."""
    command = [sys.executable, "-m", "export.cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise UsageError(f"freshet-export {arguments[0]} ended with {done.returncode}")
    return done.stdout


def _print(model: str, found: dict[str, Any], pair: Pair) -> None:
    measured = found["measured"]
    names = ["recall@10", "ndcg@10", "recall@20", "ndcg@20", "mrr@20"]
    cells = "  ".join(
        f"{name} {measured[name]:.4f}"
        + (f" ({pair.targets[name]:.4f} wanted)" if name in pair.targets else "")
        for name in names
    )
    print(f"{model:13} {cells}  {found['seconds']:.0f} s of training", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
