"""Train a model and measure it. In: a log. Out: a `Trained` model with what was measured on it.

The newest events are held out; models trained on the rest are measured on those of half the users
(`sides.py`) beside the baseline, through the engine's own fold and placement. That decides which
model it is to be (`auto`), whether seen and bought items may come back, how states are stored and
what a score means. What is handed out is then trained on everything.

Must not know: files of a log, the command line.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from export.bundle import write_bundle
from export.compression.bundle import States
from export.compression.held_out import Wanted, settle
from export.data.dataset import Log
from export.measuring.evaluate import replay
from export.measuring.exclusions import tellable
from export.measuring.measure import Measured, judge
from export.measuring.repurchases import repurchase_s
from export.models import AUTO, LEARNED, SETTLED, Trained, parameters_for, train
from export.models.base import Run
from export.training.calibrating import calibrate, softened
from export.training.sides import Sides, hold_out
from stream.config import Placement as PlacementRules
from stream.core.model import Model
from stream.errors import TrainingError, UsageError

BASELINE = "cooccurrence"
CANDIDATES = ("cooccurrence", "decay", "mf", "glr")  # of `auto`
KS = (10, 20)
CHOSEN_BY = "ndcg@20"
AS_TRAINED = Wanted()

Report = Callable[[str], None]


class Tried(NamedTuple):
    """A model that was trained on the older events, and what its lists were worth."""

    trained: Trained
    measured: Measured
    rules: PlacementRules

    @property
    def worth(self) -> float:
        return self.measured.metrics[CHOSEN_BY]


def fit(
    log: Log,
    model: str,
    parameters: Mapping[str, Any],
    report: Report,
    run: Run | None = None,
    wanted: Wanted = AS_TRAINED,
) -> Trained:
    """Measure on the newest events, then train on all.

    Parameters
    ----------
    model : a key of `MODELS`, or "auto": the best of `CANDIDATES` on the newest events
    parameters : of the model; with "auto" there are none
    run : device, time and checkpoint of models that take long
    wanted : how items and states are to be stored

    Raises
    ------
    UsageError
        The log is too small, or a model cannot be trained here.
    TrainingError
        A training cannot go on; what it learned is kept in the run's checkpoint.
    """
    run = run or Run()
    held = hold_out(log, run.warm)
    if held is None:
        if model == AUTO:
            report("too little of a log to compare models by: decay")
        name = "decay" if model == AUTO else model
        final = train(name, log, **parameters, **({"run": run} if name in SETTLED else {}))
        return _unmeasured(final, wanted, log, report)
    report(
        f"held out: the newest {len(log) - len(held.older):,} of {len(log):,} events; "
        f"{held.cases:,} cases of half their users measure, the others' are learned from"
    )
    tried = {
        name: found
        for name in dict.fromkeys((*_candidates(model, report), BASELINE))
        if (found := _tried(name, held, parameters if name == model else {}, run, report))
    }
    if model == AUTO and tried:
        model = max(tried, key=lambda name: tried[name].worth)
        report(f"chosen: {model}")
    best = tried.get(model)
    if best is None:  # too little before the held-out events
        model = "decay" if model == AUTO else model
        final = train(model, log, **parameters, **({"run": run} if model in SETTLED else {}))
        return _unmeasured(final, wanted, log, report)
    metrics = _metrics(tried, model)
    stored, losses = _stored(best, held, wanted, report)
    metrics |= losses
    with loaded(softened(best.trained)) as served:
        answers = replay(served, held.asked, rules=best.rules, storage=stored.states)
    calibrated = calibrate(answers, report)
    if calibrated is not None:
        metrics["expected_calibration_error"] = calibrated.errors
    report(f"training {model} on all {len(log):,} events")
    rest = 1 - _share(model, held.older, parameters, run)
    more = {"run": run.part(rest), "settled": best.trained.settled}
    final = train(model, log, **parameters, **(more if model in SETTLED else {}))
    final.exclude_seen, final.exclude_bought = best.measured.leaves_out
    final.metrics = metrics
    _learn_repurchases(final, log, report)
    final.storage, final.item_storage = stored.states or final.storage, stored.items
    if calibrated is None:
        return final
    final.training["calibration"] = calibrated.kept
    return final.calibrated(calibrated.calibration)


def _candidates(model: str, report: Report) -> tuple[str, ...]:
    if model != AUTO:
        return (model,)
    if importlib.util.find_spec("torch") is None:
        report("PyTorch is not installed (pip install 'freshet[export]'): without the model glr")
        return tuple(name for name in CANDIDATES if name not in LEARNED)
    return CANDIDATES


def _tried(
    name: str, held: Sides, parameters: Mapping[str, Any], run: Run, report: Report
) -> Tried | None:
    report(f"training {name} on the older {len(held.older):,} events")
    try:
        part = run.part(_share(name, held.older, parameters, run), "older")
        return attempt(name, held, parameters, part, report)
    except TrainingError:
        raise  # it is not the model's fault, and what is kept must not be thrown away
    except UsageError as error:
        report(f"{name}: {error}")
        return None


def _share(name: str, older: Log, parameters: Mapping[str, Any], run: Run) -> float:
    """Of the time, for the older events; the whole log is then trained on `refit` times as long."""
    if name not in LEARNED:
        return 0.5
    earlier = {} if run.warm is None else {"refit": run.warm.parameters.get("refit", 1.0)}
    share: float = 1 / (1 + parameters_for(name, older, {**earlier, **parameters}).refit)
    return share


def attempt(
    name: str, held: Sides, parameters: Mapping[str, Any], run: Run, report: Report
) -> Tried:
    """Train on the older events, measure on the newest, under every rule that the log can tell of.

    Raises
    ------
    UsageError
        The model cannot be trained here, or with these parameters.
    """
    if name in SETTLED:
        trained = train(name, held.log, held_out=held.held_out, run=run, **parameters)
    else:
        trained = train(name, held.older, **parameters)
    return measured(trained, held, report, tellable(held.log))


def measured(
    trained: Trained, held: Sides, report: Report, exclusions: Sequence[PlacementRules]
) -> Tried:
    """Measure a model that was trained on the older events, under the best of `exclusions`.

    It is softened for that: the engine lists nothing whose score is too small to be told from 0.
    """
    with loaded(softened(trained)) as served:
        found = []
        for exclusion in exclusions:
            rules = msgspec.structs.replace(exclusion, k=KS[-1])
            answers = replay(served, held.asked, rules=rules)
            judged = judge(served, answers, KS, rules, "ring", held.older)
            found.append(Tried(trained, judged, rules))
    best = max(found, key=lambda tried: tried.worth)
    of = best.measured.metrics
    told = "  ".join(f"{name} {of[name]:.4f}" for name in ("recall@20", "ndcg@20", "mrr@20"))
    missed = f"{best.measured.unknown_targets:,} of {best.measured.targets:,} wanted items"
    report(f"  {told}, {best.measured.left_out}; {missed} are unknown to it and count as misses")
    return best


def _metrics(tried: Mapping[str, Tried], model: str) -> dict[str, Any]:
    """What the manifest tells: of the model, of the baseline, of all that were compared."""
    best = tried[model].measured
    found: dict[str, Any] = {
        "held_out": {**best.metrics, "cases": best.cases},
        "confidence": {name: list(best.confidence[name]) for name in (CHOSEN_BY, "recall@20")},
        "compared": {
            name: {
                metric: one.measured.metrics[metric]
                for metric in ("recall@20", "ndcg@20", "mrr@20")
            }
            for name, one in tried.items()
        },
    }
    if BASELINE in tried:
        found["baseline"] = tried[BASELINE].measured.metrics
        if model != BASELINE:
            found["against_baseline"] = best.against(tried[BASELINE].measured)[CHOSEN_BY]
    return found


def _learn_repurchases(final: Trained, log: Log, report: Report) -> None:
    """Note after how long items are bought again."""
    final.repurchase_s = repurchase_s(log, final.item_ids)
    known = final.repurchase_s[final.repurchase_s > 0]
    if len(known):
        days = float(np.median(known)) / 86_400
        report(f"{len(known):,} items are bought again and again, half of them within {days:.1f} d")


def _unmeasured(final: Trained, wanted: Wanted, log: Log, report: Report) -> Trained:
    """Stored as wanted, where nothing can be held out to say what that costs."""
    _learn_repurchases(final, log, report)
    final.storage, final.item_storage = wanted.states or final.storage, wanted.items
    return final


def _stored(
    best: Tried, held: Sides, wanted: Wanted, report: Report
) -> tuple[Wanted, dict[str, Any]]:
    """How the model is to be stored, and what that costs."""

    def judged(served: Model, states: States) -> Measured:
        answers = replay(served, held.asked, rules=best.rules, storage=states)
        return judge(served, answers, KS, best.rules, "ring", held.older)

    with loaded(softened(best.trained)) as served:
        return settle(served, best.measured, judged, wanted, report)


@contextmanager
def loaded(trained: Trained) -> Iterator[Model]:
    """The model behind its own graphs, through a bundle in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="freshet-export-") as scratch:
        written = write_bundle(dataclasses.replace(trained, network={}), Path(scratch) / "bundle")
        yield Model(written, "cpu", spare_rows=0)
