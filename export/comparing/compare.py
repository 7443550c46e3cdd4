"""Put a model beside the baseline. In: a log, a kind of model. Out: what was measured on each.

Both are trained on the same older events and asked the same questions about the newer ones. The
baseline is co-occurrence, which every other model must beat.

Must not know: files of a log, the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from export.data.dataset import Cases, Log
from export.data.splits import NothingAskedError
from export.measuring.evaluate import replay
from export.measuring.exclusions import EXCLUSIONS, REPEATS
from export.measuring.measure import KS, Measured, checked, judge, measure_model
from export.measuring.metrics.significance import bootstrap
from export.measuring.questions import MOMENTS, baskets
from export.models import AUTO, SETTLED, train
from export.models.base import Run, Trained
from export.models.ratings import Ratings, fit_ratings
from export.training.train import BASELINE, Report, fit, loaded
from stream.errors import UsageError
from stream.terminal import counted

SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training events, in a learning curve

UNLIMITED = Run()

Parameters = Mapping[str, Any]


class Setting(NamedTuple):
    """What was asked under which exclusions: a line of the results."""

    exclusion: str
    moment: str


Results = dict[str, dict[Setting, Measured]]  # by model, the baseline last


def compare(
    log: Log,
    model: str,
    parameters: Parameters,
    since_ms: int,
    report: Report,
    ks: Sequence[int] = KS,
    run: Run = UNLIMITED,
) -> Results:
    """Train on the events before `since_ms`, measure on the orders from it on.

    Parameters
    ----------
    model : a key of `MODELS`, or "auto": the best on the newest events before `since_ms`; it stands
        first in the results, by its own name
    run : device and time of models that take long

    Raises
    ------
    UsageError
        One side of the split has no events, or nothing can be asked of the newer one; before
        anything is trained.
    """
    older = log.before(since_ms)
    if len(older) == 0 or len(older) == len(log):
        raise UsageError("no events on one side of the split; give another --since")
    asked = baskets(log, since_ms)
    if not asked.queries:
        raise UsageError(
            "the newer side of the split asks for nothing: no visit begins there that comes after "
            "something, or turns to two items; give another --since, or more of a log"
        )
    ks = checked(ks)
    results: Results = {}
    for name in (model, BASELINE):
        if name in results:
            continue
        report(f"training {name} on {len(older):,} events")
        trained = _settled(name, older, parameters if name == model else {}, report, run)
        with loaded(trained) as served:
            report(f"measuring {trained.model} on {len(log) - len(older):,} events")
            found = results[trained.model] = {}
            for exclusion, rules in EXCLUSIONS.items():
                answers = replay(served, asked, rules=msgspec.structs.replace(rules, k=ks[-1]))
                for moment in MOMENTS:
                    if (of := answers.of(moment)).questions.queries:
                        judged = judge(served, of, ks, rules, "ring", older)
                        found[Setting(exclusion, moment)] = judged
    return results


def _settled(model: str, log: Log, parameters: Parameters, report: Report, run: Run) -> Trained:
    """Train on all of a log; "auto" and what held-out events settle take them from its end."""
    if model == AUTO or model in SETTLED:
        return fit(log, model, parameters, report, run)
    return train(model, log, **parameters)


def rating_errors(log: Log, since_ms: int) -> dict[str, Any] | None:
    """How far predicted ratings are off: fitted on those before `since_ms`, asked for the others.

    Returns
    -------
    ratings asked for, `rmse`, `mae` and `rmse_of_mean` (`RatingModel.errors`) in the ratings' own
    unit, and 95% intervals of the first two over users; None where one side has no ratings
    """
    newer = log.select(log.time_ms >= since_ms)
    known, asked = Ratings.of(log.before(since_ms)), Ratings.of(newer)
    if not (len(known) and len(asked)):
        return None
    model = fit_ratings(known, len(log.users), len(log.items))
    off = model.predict(asked.user, asked.item) - asked.value
    low, high = bootstrap(np.stack([off**2, np.abs(off)], axis=1), asked.user)
    return {
        **model.errors(asked),
        "confidence": {
            "rmse": np.round(np.sqrt([low[0], high[0]]), 4).tolist(),
            "mae": np.round([low[1], high[1]], 4).tolist(),
        },
    }


def cross_validate(
    splits: Callable[[], Iterator[tuple[Log, Cases]]],
    model: str,
    parameters: Parameters,
    report: Report,
    ks: Sequence[int] = KS,
    run: Run = UNLIMITED,
) -> list[Results]:
    """Train and measure on every split. Seen items are excluded, and not.

    Parameters
    ----------
    splits : begins anew each time; all of them are made once before anything is trained

    Raises
    ------
    UsageError
        A split asks for nothing, or cannot be made.
    """
    count = _count(splits())
    found: list[Results] = []
    for number, (older, cases) in enumerate(splits(), 1):
        results: Results = {}
        for name in dict.fromkeys((model, BASELINE)):
            asked = counted(len(cases), "case")
            report(f"split {number} of {count}: {name} on {len(older):,} events, {asked}")
            given = parameters if name == model else {}
            with loaded(_settled(name, older, given, report, run)) as served:
                results[name] = {
                    Setting(exclusion, "case"): measure_model(
                        served, cases, ks, rules=rules, trained_on=older
                    )
                    for exclusion, rules in EXCLUSIONS.items()
                }
        found.append(results)
    return found


def _count(splits: Iterator[tuple[Log, Cases]]) -> int:
    """How many there are, each one sound."""
    count = 0
    try:
        for _ in splits:
            count += 1
    except NothingAskedError:
        raise UsageError(
            f"split {count + 1} asks for nothing: nobody there turns to an item after "
            "something; give fewer splits, or more of a log"
        ) from None
    return count


def learning_curve(
    log: Log,
    model: str,
    parameters: Parameters,
    since_ms: int,
    report: Report,
    k: int,
    run: Run = UNLIMITED,
) -> dict[str, list[tuple[float, float]]]:
    """Recall over moments against the training events, of the model and of the baseline.

    Each point is trained on the newest events before `since_ms`, as a shop with a shorter log would
    have had them, and measured on the same orders, repeats allowed.
    """
    older = log.before(since_ms)
    asked = baskets(log, since_ms)
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in dict.fromkeys((model, BASELINE)):
        curves[name] = []
        for share in SHARES:
            part = older.select(np.arange(len(older)) >= len(older) * (1 - share))
            report(f"learning curve: {name} on {len(part):,} events")
            try:
                trained = _settled(name, part, parameters if name == model else {}, report, run)
            except UsageError:  # too little of a log
                continue
            with loaded(trained) as served:
                found = measure_model(served, asked, [k], rules=REPEATS, trained_on=part)
            curves[name].append((float(len(part)), found.metrics[f"recall@{k}"]))
    return curves


def spread(found: Sequence[Measured], name: str) -> dict[str, Any]:
    """Mean and standard deviation of a metric over splits; the deviation is 0 for one split."""
    values = [measured.metrics[name] for measured in found]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {
        "mean": round(float(np.mean(values)), 6),
        "deviation": round(deviation, 6),
        "splits": values,
    }
