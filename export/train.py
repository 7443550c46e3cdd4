"""Train a model and measure it. In: a log. Out: a `Trained` model with what was measured on it.

The newest events are held out; a model trained on the rest is measured on them, which decides
whether seen items may come back and how states are stored. The model that is handed out is then
trained on everything.

Must not know: files of a log, the command line.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle import write_bundle
from export.dataset import Log
from export.evaluate import evaluate
from export.models import MODELS, PARAMETERS, Trained, train
from export.questions import MOMENTS
from stream.config import Placement as PlacementRules
from stream.core.model import Model
from stream.errors import UsageError

HELD_OUT = 0.15  # of the events, the newest
MAX_LOSS = 0.005  # recall that int8 states may cost before float32 is chosen

REPEATS = PlacementRules(exclude_seen=False, exclude_bought=False)
EXCLUSIONS = {
    "repeats allowed": REPEATS,
    "bought items excluded": PlacementRules(exclude_seen=False),
    "seen items excluded": PlacementRules(exclude_seen=True),
}

Report = Callable[[str], None]
Metrics = dict[str, dict[str, float]]


def hold_out(log: Log, share: float = HELD_OUT) -> int:
    """The moment (ms) from which on `share` of the events lie."""
    return int(log.time_ms[min(len(log) - 1, int(len(log) * (1 - share)))])


def parse_parameters(model: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of a model from text.

    Raises
    ------
    UsageError
        The model has no such parameter, or the value is not a number of its kind.
    """
    if model not in MODELS:
        raise UsageError(f"model {model!r} is not one of {', '.join(sorted(MODELS))}")
    kinds = {name: type(v) for name, v in dataclasses.asdict(PARAMETERS[model]()).items()}
    parsed: dict[str, Any] = {}
    for name, text in given.items():
        if name not in kinds:
            raise UsageError(f"{model} has no parameter {name!r}; it has {', '.join(kinds)}")
        try:
            parsed[name] = kinds[name](text)
        except ValueError:
            raise UsageError(f"{name}={text}: not a number ({kinds[name].__name__})") from None
        if not 0 <= parsed[name] < float("inf") or (kinds[name] is int and parsed[name] < 1):
            raise UsageError(f"{name}={text}: must be positive and finite")
    return parsed


def fit(log: Log, model: str, parameters: Mapping[str, Any], report: Report) -> Trained:
    """Measure on the newest events, then train on all."""
    since_ms = hold_out(log)
    trained: Trained | None = None
    if len(log.before(since_ms)):
        report(f"training {model} on the older {1 - HELD_OUT:.0%} of {len(log):,} events")
        try:
            trained = train(model, log.before(since_ms), **parameters)
        except UsageError:  # too little before the held-out events
            trained = None
    metrics: dict[str, Any] = {}
    exclude_seen, storage = False, None
    if trained is not None:
        report("measuring whether seen items may come back, and what int8 states cost")
        with loaded(trained) as served:
            seen, unseen = PlacementRules(exclude_seen=False), PlacementRules(exclude_seen=True)
            kept = evaluate(served, log, since_ms, rules=seen)
            without = evaluate(served, log, since_ms, rules=unseen)
            exclude_seen = _recall(without) > _recall(kept)
            rules, best = (unseen, without) if exclude_seen else (seen, kept)
            repeats = evaluate(served, log, since_ms, rules=REPEATS)
            metrics = {"held_out": best, "held_out_repeats_allowed": repeats}
            if trained.storage == "int8":
                exact = evaluate(served, log, since_ms, rules=rules, storage="float32")
                loss = _recall(exact) - _recall(best)
                storage = "float32" if loss > MAX_LOSS else "int8"
                metrics["int8_recall_loss"] = round(loss, 4)
                if storage == "float32":
                    metrics["held_out"] = exact
    report(f"training {model} on all {len(log):,} events")
    final = train(model, log, **parameters)
    final.exclude_seen, final.metrics = exclude_seen, metrics
    if storage == "float32":
        final.storage = "float32"
    return final


@contextmanager
def loaded(trained: Trained) -> Iterator[Model]:
    """The model behind its own graphs, through a bundle in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="freshet-export-") as scratch:
        yield Model(write_bundle(trained, Path(scratch) / "bundle"), "cpu", spare_rows=0)


def _recall(metrics: Metrics) -> float:
    """Mean recall over both kinds of moment."""
    values = [v for m in MOMENTS for name, v in metrics[m].items() if name.startswith("recall")]
    return float(np.mean(values))
