"""`python -m tests.gpu`: check CUDA against NumPy and measure it; write build/gpu.json and .txt.

Exit codes: 0 everything is right; 1 something computed wrongly; 2 a wrong option; 3 no GPU works
here, and nothing was checked or measured. `--cpu` runs the same on the CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from stream.core.model import Model
from stream.errors import ProviderError
from tests.bench.machine import describe_machine
from tests.gpu.catalogue import STORAGES, Stored, catalogue
from tests.gpu.check import check
from tests.gpu.measure import Resident, Shop, bandwidth, seconds_each, served
from tests.support.bundles import random_decay_bundle
from tests.support.kafka import ROOT
from tests.support.runs import whole

NO_GPU = 3
K = 100
BATCHES = (16, 64, 256, 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return the exit code."""
    options = _parser().parse_args(arguments)
    provider = "cpu" if options.cpu else "cuda"
    with tempfile.TemporaryDirectory(prefix="freshet-gpu-") as scratch:
        try:
            Model(random_decay_bundle(Path(scratch) / "probe", 200), provider)
        except ProviderError as error:
            print(f"no GPU, nothing was checked or measured: {error}", file=sys.stderr)
            return NO_GPU
        _say(f"making a catalogue of {options.items:,} items, stored in {len(STORAGES)} ways")
        bundles = catalogue(
            Path(scratch), options.items, options.dim, min(options.clusters, options.items)
        )
        report = _measured(options, provider, bundles)
    options.out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(_lines(report)) + "\n"
    (options.out / "gpu.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (options.out / "gpu.txt").write_text(text, encoding="utf-8")
    print(text, end="")
    print(f"written to {options.out / 'gpu.json'}")
    return 0 if all(of["check"]["right"] for of in report["storages"].values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="the CPU in place of a GPU")
    parser.add_argument("--items", type=whole(1), default=1_000_000, metavar="N")
    parser.add_argument("--dim", type=whole(1), default=64, metavar="D")
    parser.add_argument(
        "--clusters", type=int, default=1_000, metavar="C", help="of near items; 0: none"
    )
    parser.add_argument("--batches", type=whole(1), nargs="+", default=BATCHES, metavar="B")
    parser.add_argument(
        "--seconds", type=float, default=2.0, metavar="S", help="of each measurement (default: 2)"
    )
    parser.add_argument("--threads", type=whole(1), default=1, metavar="T", help="of the CPU")
    parser.add_argument("--out", type=Path, default=ROOT / "build", metavar="DIR")
    return parser


def _measured(
    options: argparse.Namespace, provider: str, bundles: dict[Any, Stored]
) -> dict[str, Any]:
    reached = bandwidth(provider, min(1_000, options.items), options.seconds, options.threads)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "device": _device() if provider == "cuda" else f"CPU, {options.threads} threads",
        "onnxruntime": ort.__version__,
        "provider": provider,
        "items": options.items,
        "dim": options.dim,
        "clusters": options.clusters,
        "k": K,
        "bandwidth_gb_s": round(reached / 1e9, 2),
        "storages": {},
    }
    for storage, (bundle, reference) in bundles.items():
        _say(f"{storage}: checking")
        model = Model(bundle, provider, threads=options.threads)
        of: dict[str, Any] = {
            "table_bytes": model.table_bytes,
            "check": check(model, reference, K),
            "batches": {},
        }
        model = Model(bundle, provider, threads=options.threads)  # with its own vectors again
        shop = Shop(model, K)
        for batch in options.batches:
            _say(f"{storage}: measuring {batch} users at once")
            of["batches"][batch] = _at_once(options, model, shop, batch, reached)
        report["storages"][storage] = of
    return report


def _at_once(
    options: argparse.Namespace, model: Model, shop: Shop, batch: int, reached: float
) -> dict[str, Any]:
    resident = Resident(model.bundle, model, batch, K, options.threads)
    resident_s = seconds_each(resident.run, options.seconds)
    served_s = served(model, batch, K, options.seconds)
    engine_s = shop.seconds(batch, options.seconds)
    return {
        "resident_ms": round(1e3 * resident_s, 4),
        "captured": resident.captured,
        "least_bytes": resident.least_bytes,
        "roofline_share": round(resident.least_bytes / reached / resident_s, 4),
        "served_ms": round(1e3 * served_s, 4),
        "served_us_per_user": round(1e6 * served_s / batch, 2),
        "engine_ms": round(1e3 * engine_s, 4),
        "engine_events_per_s": round(batch / engine_s, 1),
    }


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['device']}; {report['machine']}; ONNX Runtime {report['onnxruntime']}",
        f"{report['items']:,} items of {report['dim']} numbers, lists of {report['k']}; a copy "
        f"moves {report['bandwidth_gb_s']:,.1f} GB/s",
        "",
        "against NumPy   right  state error  score error  tolerance     found  table MB",
    ]
    for storage, of in report["storages"].items():
        c = of["check"]
        lines.append(
            f"{storage:>13}  {'yes' if c['right'] else 'NO':>6}  {c['state_error']:11.2g}  "
            f"{c['score_error']:11.2g}  {c['tolerance']:9.2g}  {c['found']:8.4f}  "
            f"{of['table_bytes'] / 1e6:8,.1f}"
        )
    lines += [
        "",
        "              users  resident ms  CUDA graph  of roofline  served ms  us/user  "
        "engine ms  events/s",
    ]
    for storage, of in report["storages"].items():
        for batch, b in of["batches"].items():
            captured = "yes" if b["captured"] is True else "no"
            lines.append(
                f"{storage:>13}  {batch:5}  {b['resident_ms']:11,.3f}  {captured:>10}  "
                f"{b['roofline_share']:11.1%}  {b['served_ms']:9,.3f}  "
                f"{b['served_us_per_user']:7,.1f}  {b['engine_ms']:9,.3f}  "
                f"{b['engine_events_per_s']:8,.0f}"
            )
    reasons = {
        b["captured"]
        for of in report["storages"].values()
        for b in of["batches"].values()
        if isinstance(b["captured"], str)
    }
    return lines + [f"no CUDA graph: {reason}" for reason in sorted(reasons)]


def _device() -> str:
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "CUDA device"
    return answer.stdout.splitlines()[0]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
