"""Judge a model's lists. In: a bundle, questions with their answers. Out: `Measured`.

Everything that `freshet-export evaluate` and the quality runs tell about a model is computed here,
so that all of them mean the same. Lists are ranked over the whole catalogue, as the engine does.

Must not know: how a model is trained, the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from export.data.dataset import Cases, Log
from export.measuring.evaluate import AS_SERVED, Answers, replay
from export.measuring.figures import DIGITS, by_slice, counts_by_row, of_all_lists
from export.measuring.metrics.calibration import Reliability, reliability
from export.measuring.metrics.ranking import by_list, find_hits
from export.measuring.metrics.significance import bootstrap, compare
from export.measuring.questions import Questions, cases_asked
from stream.config import Placement as PlacementRules
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.policy.placement import LeavesOut
from stream.errors import UsageError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

KS = (10, 20)
MOST_K = 1_000  # the longest list that a placement makes


@dataclass(slots=True, eq=False)
class Measured:
    """What a model's lists are worth.

    Attributes
    ----------
    bundle_id, model : whose lists these are
    ks : places looked at, ascending
    cases, users : lists, and the users they were for
    items : that the model can list
    leaves_out : whether lists left out what was seen, and what was bought, and
    seen_in : where these were looked up: "ring", what the engine remembers, or "history"
    targets, unknown_targets : items wanted, and those that the bundle does not know: misses
    popularity_of : what interactions were counted in for novelty, popularity and cold items:
        "training log", or "test histories" where the training log was not at hand
    metrics : means over cases and figures of all lists, by `name@k`
    confidence : 95% intervals of the means, by the same names
    slices : means by slice
    calibration : of the scores of listed items
    names, values : names of the metrics that are means; float64, shape (cases, names)
    user : int64, shape (cases,); whose list each was
    """

    bundle_id: str
    model: str
    ks: tuple[int, ...]
    cases: int
    users: int
    items: int
    leaves_out: LeavesOut
    seen_in: str
    targets: int
    unknown_targets: int
    popularity_of: str
    metrics: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    slices: dict[str, dict[str, float]]
    calibration: Reliability
    names: list[str] = field(repr=False)
    values: Float64 = field(repr=False)
    user: Int64 = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON has it; metrics stand at the top by their names."""
        bins = [np.round(column, DIGITS).tolist() for column in self.calibration]
        return {
            "bundle_id": self.bundle_id,
            "model": self.model,
            "k": list(self.ks),
            "cases": self.cases,
            "users": self.users,
            "items": self.items,
            "exclude_seen": self.leaves_out.seen,
            "exclude_bought": self.leaves_out.bought,
            "seen_in": self.seen_in,
            "targets": self.targets,
            "unknown_targets": self.unknown_targets,
            "popularity_of": self.popularity_of,
            **self.metrics,
            "confidence": {name: list(interval) for name, interval in self.confidence.items()},
            "slices": self.slices,
            "calibration": {
                "expected_calibration_error": round(self.calibration.error, DIGITS),
                "bins": dict(zip(self.calibration._fields, bins, strict=True)),
            },
        }

    @property
    def left_out(self) -> str:
        """What lists left out, for people."""
        told = [what for what, out in zip(("seen", "bought"), self.leaves_out, strict=True) if out]
        if not told:
            return "repeats allowed"
        return f"{' and '.join(told)} items excluded ({self.seen_in})"

    def against(self, other: Measured) -> dict[str, dict[str, float]]:
        """The paired test against another model on the same questions, by metric.

        `difference` is this one's mean minus the other's, `low` and `high` are its 95% interval,
        `p` is the randomisation test's (`export/measuring/metrics/significance.py`).
        """
        found = compare(self.values, other.values, self.user)
        return {
            name: dict(zip(found._fields, np.round(column, DIGITS).tolist(), strict=True))
            for name, column in zip(self.names, np.stack(found, axis=1), strict=True)
        }


def measure(
    bundle: Path | Bundle,
    asked: Cases | Questions,
    ks: Sequence[int] = KS,
    *,
    trained_on: Log | None = None,
    whole_history: bool = False,
) -> Measured:
    """Measure a bundle as a placement with default settings serves it.

    Parameters
    ----------
    trained_on : the training log, for popularity; None: interactions are counted in what the
        questions know
    whole_history : leave out of all the history what lists leave out of what the engine's ring
        remembers, as published protocols do

    Raises
    ------
    BundleError
        The folder holds no bundle that verifies.
    UsageError
        There is no case, or k is out of range.
    """
    found = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    model = Model(found, "cpu", spare_rows=0)
    return measure_model(model, asked, ks, trained_on=trained_on, whole_history=whole_history)


def measure_model(
    model: Model,
    asked: Cases | Questions,
    ks: Sequence[int] = KS,
    *,
    rules: PlacementRules = AS_SERVED,
    trained_on: Log | None = None,
    whole_history: bool = False,
) -> Measured:
    """The same for a loaded model and a placement of other `rules`, whose k is not looked at."""
    questions = cases_asked(asked) if isinstance(asked, Cases) else asked
    ks = checked(ks)
    rules = msgspec.structs.replace(rules, k=ks[-1])
    answers = replay(model, questions, rules=rules, strike_history=whole_history)
    return judge(model, answers, ks, rules, "history" if whole_history else "ring", trained_on)


def checked(ks: Sequence[int]) -> tuple[int, ...]:
    """The same, each once, ascending.

    Raises
    ------
    UsageError
        None is given, or one is not a length that a list can have.
    """
    if not ks or min(ks) < 1 or max(ks) > MOST_K:
        raise UsageError(f"k must lie between 1 and {MOST_K:,}")
    return tuple(sorted(set(ks)))


def judge(
    model: Model,
    answers: Answers,
    ks: Sequence[int],
    rules: PlacementRules,
    seen_in: str,
    trained_on: Log | None,
) -> Measured:
    """Compute everything from lists that are there, made under `rules`; they are as long as the
    last of `ks`.
    """
    queries = answers.questions.queries
    if not queries:
        raise UsageError("nothing to measure on: no user has an event that follows another")
    manifest = model.bundle.manifest
    targets = answers.targets()
    hits = find_hits(answers.listed, targets)
    means = by_list(hits, ks)
    names, values = list(means), np.stack(list(means.values()), axis=1)
    user = np.array([query.user for query in queries])
    low, high = np.round(bootstrap(values, user), DIGITS)
    counts = counts_by_row(answers, model.bundle, trained_on)
    figures = dict(zip(names, values.mean(axis=0).tolist(), strict=True))
    figures |= of_all_lists(answers, model, counts, ks)
    return Measured(
        bundle_id=manifest.bundle_id,
        model=manifest.model,
        ks=tuple(ks),
        cases=len(values),
        users=len(np.unique(user)),
        items=manifest.items - 1,
        leaves_out=LeavesOut.of(rules, manifest),
        seen_in=seen_in,
        targets=int(hits.wanted.sum()),
        unknown_targets=sum(int((rows == 0).sum()) for rows in targets),
        popularity_of="test histories" if trained_on is None else "training log",
        metrics={name: round(value, DIGITS) for name, value in figures.items()},
        confidence=dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True)),
        slices=by_slice(answers, hits, targets, counts, ks[-1]),
        calibration=reliability(answers.scores, hits.at),
        names=names,
        values=values,
        user=user,
    )
