"""Search a model's parameters. In: a log, a time. Out: what was tried, best first.

Optuna's TPE (Bergstra et al. 2011) chooses from the space beside the model's `Parameters`. A trial
trains on the older events and is measured on the newest ones, as `train.fit` does it; so what
nobody gave to this command, such as a test, is never looked at. The first trial has the defaults.

Must not know: files of a log, the command line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from export.data.dataset import Log
from export.models import SPACES, TRIED_AS, parameters_for
from export.models.base import Run
from export.models.space import Choices, Range
from export.models.text import as_options, as_text
from export.training.sides import hold_out
from export.training.train import CHOSEN_BY, attempt
from stream.errors import UsageError

SHOWN = 10  # trials in the table, beside the defaults
TOLD = (CHOSEN_BY, "recall@20", "mrr@20")
DIGITS = 4  # of a number that is tried: `--set` says it exactly
AT_LEAST = 8  # trials that there is time for, where training can be cut short
RANDOM = 8  # trials before the sampler trusts what it has seen
UNPRUNED = 3  # trials that no other one is compared with yet


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters and what it was worth.

    Attributes
    ----------
    changed : what differs from the defaults
    metrics : of its lists on the held-out events
    """

    number: int
    changed: dict[str, Any]
    metrics: dict[str, float]
    seconds: float

    @property
    def worth(self) -> float:
        return self.metrics[CHOSEN_BY]


@dataclass(slots=True)
class Search:
    """Trials that were measured.

    Attributes
    ----------
    given : parameters that were not looked for
    ended : trials that were given up before their end
    """

    model: str
    given: dict[str, Any]
    seed: int
    trials: list[Trial] = field(default_factory=list)
    ended: int = 0

    @property
    def best(self) -> Trial:
        """The first of the best ones."""
        return max(self.trials, key=lambda trial: trial.worth)

    @property
    def parameters(self) -> dict[str, Any]:
        """The best ones, without what is the default anyway."""
        return self.given | self.best.changed

    def summary(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "trials": len(self.trials) + self.ended,
            "seed": self.seed,
            CHOSEN_BY: self.best.worth,
            "defaults": self.trials[0].worth,
        }

    def lines(self) -> Iterator[str]:
        """A table of the best trials and the defaults, and how to repeat the best."""
        yield "trial  " + "".join(f"{name:>11}" for name in TOLD) + "  seconds  changed"
        ordered = sorted(self.trials, key=lambda trial: (-trial.worth, trial.number))
        for place, trial in enumerate(ordered):
            if place < SHOWN or trial.number == 0:
                numbers = "".join(f"{trial.metrics[name]:11.4f}" for name in TOLD)
                yield f"{trial.number:5}  {numbers}{trial.seconds:9.0f}  {_told(trial.changed)}"
        more = "" if len(ordered) <= SHOWN else f", {SHOWN} of them shown"
        yield f"{len(ordered)} trials measured{more}; {self.ended} ended early"
        yield " ".join(["best:", f"--model {self.model}", as_options(self.parameters)]).rstrip()


def search(
    log: Log,
    model: str,
    given: Mapping[str, Any],
    run: Run,
    *,
    trials: int | None = None,
    seed: int = 1,
) -> Search:
    """Look for parameters until the time or the trials are over, or Ctrl-C is pressed.

    Parameters
    ----------
    given : parameters that stay as they are
    run : the device, who is told, and the seconds that all trials have together
    seed : of the sampler; the same one, and time enough, give the same trials

    Raises
    ------
    UsageError
        Optuna is missing, the log is too small, nothing is left to look for, or the model cannot be
        trained here.
    KeyboardInterrupt
        By Ctrl-C, before the first trial was measured.
    """
    optuna, report = _optuna(), run.report
    space = {name: among for name, among in SPACES[model].items() if name not in given}
    if not space:
        raise UsageError(f"every parameter of {model} that can be looked for is set; leave one out")
    sides = hold_out(log)
    if sides is None:
        raise UsageError(
            "no trial could be measured: no user of the log's newest events has an earlier one; "
            "give a log whose users come back, or choose parameters by hand with --set"
        )
    defaults = asdict(parameters_for(model, sides.older, given))
    report(
        f"held out: the newest {len(log) - len(sides.older):,} of {len(log):,} events; "
        f"{sides.cases:,} cases of half their users measure; looking for {', '.join(space)}"
    )
    found = Search(model, dict(given), seed)
    clock = _Clock(run.seconds)

    def measure(trial: Any) -> float:
        values = {name: _suggested(trial, name, among) for name, among in space.items()}
        if trial.number == 0:
            values = {name: defaults[name] for name in space}  # to the last digit
        watched = _watch(trial, optuna.TrialPruned)
        begun = clock.spent_s
        part = Run(seconds=clock.part(AT_LEAST), device=run.device, watch=watched)
        try:
            of = {**TRIED_AS.get(model, {}), **given, **values}
            tried = attempt(model, sides, of, part, lambda line: None)
        except UsageError as error:
            if trial.number == 0:
                raise
            report(f"trial {trial.number}: {error}")
            raise optuna.TrialPruned from None
        changed = {name: value for name, value in values.items() if value != defaults[name]}
        metrics = {name: tried.measured.metrics[name] for name in TOLD}
        done = Trial(trial.number, changed, metrics, clock.spent_s - begun)
        found.trials.append(done)
        return done.worth

    def told(study: Any, trial: Any) -> None:
        measured = trial.state == optuna.trial.TrialState.COMPLETE
        found.ended += not measured
        worth = f"{CHOSEN_BY} {found.trials[-1].worth:.4f}" if measured else "ended early"
        best = f"best {found.best.worth:.4f}, of trial {found.best.number}"
        report(f"trial {trial.number}: {worth}; {best}{clock.left()}")
        if not clock.time_for(float(np.median([done.seconds for done in found.trials]))):
            study.stop()

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=1),
    )
    study.enqueue_trial({name: defaults[name] for name in space})
    try:
        study.optimize(measure, n_trials=trials, timeout=run.seconds, callbacks=[told])
    except KeyboardInterrupt:
        if not found.trials:
            raise
        report("interrupted: this is the best so far")
    return found


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "parameters are looked for by Optuna, which is not installed: pip install "
            "'freshet[export]', or choose them by hand with --set and freshet-export evaluate"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Clock:
    """Seconds that a search has. None: as many as it takes."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._begun = seconds, time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._begun

    def part(self, parts: int) -> float | None:
        """A share of all the time, or what is left of it."""
        if self._seconds is None:
            return None
        return max(1.0, min(self._seconds / parts, self._seconds - self.spent_s))

    def time_for(self, seconds: float) -> bool:
        return self._seconds is None or self.spent_s + seconds <= self._seconds

    def left(self) -> str:
        of = "" if self._seconds is None else f" of {self._seconds:.0f}"
        return f"  ({self.spent_s:.0f}{of} s)"


def _suggested(trial: Any, name: str, among: Range | Choices) -> Any:
    if not isinstance(among, Range):
        return trial.suggest_categorical(name, list(among))
    if isinstance(among.low, int):
        return trial.suggest_int(name, among.low, among.high, log=among.log)
    value = trial.suggest_float(name, among.low, among.high, log=among.log)
    return min(max(float(f"{value:.{DIGITS}g}"), among.low), among.high)


def _watch(trial: Any, ended: type[Exception]) -> Callable[[Mapping[str, float]], None]:
    """Ends a training that does worse than the median of the others did after as many epochs."""
    epochs = 0

    def watch(measured: Mapping[str, float]) -> None:
        nonlocal epochs
        if CHOSEN_BY not in measured:
            return
        epochs += 1
        trial.report(measured[CHOSEN_BY], epochs)
        if trial.should_prune():
            raise ended

    return watch


def _told(changed: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={as_text(value)}" for name, value in changed.items()) or "(defaults)"
