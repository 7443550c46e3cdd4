"""What held-out events settle about the terms that networks know nothing of. PyTorch.

One choice after the other, by NDCG and recall of the lists: whether seen items may come back, the
factor of the networks' logits, how much the newest popularity counts, and how far to trust the
weights of the last interactions. Those are fitted by likelihood, which is not what a list is judged
by. At the end, whether what counts tell makes the lists better still (`correcting.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.measuring.metrics.ranking import gain
from export.models.base import Float32, Int64
from export.models.glr.blend import AddedUp, Entries, Float64, fit
from export.models.glr.correcting import correct, corrected
from export.models.glr.counts import Counts
from export.models.glr.fitting import Report
from export.models.glr.judging import Cases, K, metrics
from export.models.glr.logits import Logits
from export.models.glr.popularity import drift
from export.models.glr.sequences import Sequences
from export.models.glr.settled import Settled

# Each ladder is climbed from the value in `Choice`, in the direction that makes the lists better.
LADDERS: Mapping[str, tuple[float, ...]] = {
    "temperature": (0.5, 0.6, 0.7, 0.8, 1.0, 1.25),
    "again": (0.5, 0.7, 1.0, 1.4, 1.8, 2.4),
    "half_life_days": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
    "lately": (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.8),
    "together": (0.4, 0.6, 0.8, 1.0, 1.25),
}
TRIALS_SHARE = 0.5  # of the time; the rest is for what counts tell
LENGTHS = (5, 10, 20, 40, 80)  # of lists, by which a correction is judged


@dataclass(frozen=True, slots=True)
class Choice:
    """What is tried: fields of `Settled`, but `again` and `together` are factors of the weights."""

    exclude_seen: bool
    temperature: float = 0.7
    half_life_days: float = 4.0
    lately: float = 0.3
    again: float = 1.0
    together: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What trained networks say of C cases.

    Attributes
    ----------
    asked : of each member, float32 [C, d], from `Cases.ask`
    scales : of each member's cosine
    table, biases : float32 [n, D], [n]; as exported
    """

    asked: list[Float32]
    scales: list[float]
    table: Float32
    biases: Float32

    def interests(self) -> Tensor:
        """float32 [C, D]; times `table` they are logits without biases."""
        width = len(self.scales) ** 0.5
        parts = zip(self.asked, self.scales, strict=True)
        return torch.cat([torch.from_numpy(q) * scale * width for q, scale in parts], 1)


def settle(
    cases: Cases,
    answers: Answers,
    counts: Counts,
    trained: Sequences,
    epochs: int,
    report: Report,
    seconds: float | None = None,
) -> Settled:
    """What gives the best lists.

    Parameters
    ----------
    counts : of what the networks were trained on, which is `trained`
    epochs : that they had seen
    seconds : for all of it; None: as long as it takes. No trial begins that would probably end
        after half of them, except the first two; what is left is for what counts tell
    """
    report(f"  settling the rest by {len(cases.targets):,} held-out events of items it knows")
    trials = _Trials(cases, answers, counts, trained, report, seconds)
    best = max((trials.of(Choice(out)) for out in (False, True)), key=_worth)
    for name in (*LADDERS, *LADDERS):  # twice: what one of them is worth depends on the others
        best = trials.along(name, best)
    if trials.time_left():
        best = max(best, trials.of(replace(best[0], lately=0.0)), key=_worth)
    else:
        report("  the time for trials is over; the best so far counts")
    if trials.left() > 0:
        best = trials.corrected(best)
    return replace(best[1], epochs=epochs)


Trial = tuple[Choice, Settled]


def _worth(trial: Trial) -> float:
    """NDCG plus recall at `judging.K`: NDCG is mostly of the first places, recall of all alike.

    Where trials differ by less in the one than the cases can tell, the other has its say.
    """
    return trial[1].ndcg + trial[1].recall


class _Trials:
    """Tries choices on the cases."""

    def __init__(
        self,
        cases: Cases,
        answers: Answers,
        counts: Counts,
        trained: Sequences,
        report: Report,
        seconds: float | None,
    ) -> None:
        self._begun, self._seconds = time.monotonic(), math.inf if seconds is None else seconds
        self._cases, self._answers, self._trained = cases, answers, trained
        self._counts, self._report = counts, report
        self._found = answers.interests()
        self._entries = Entries.of(cases.recent, counts.companions)
        self._made: dict[Choice, Trial] = {}
        self._fitted: tuple[Choice, Logits, Float64, Float64, Float64] | None = None  # the last

    def along(self, name: str, best: Trial) -> Trial:
        """Climb one ladder up from `best` while that gets better and there is time; if it never
        does, down."""
        ladder = LADDERS[name]
        at = ladder.index(getattr(best[0], name))
        for way in (ladder[at + 1 :], ladder[:at][::-1]):
            before = best
            for value in way:
                if not self.time_left():
                    return best
                changed: dict[str, Any] = {name: value}
                trial = self.of(replace(best[0], **changed))
                if _worth(trial) <= _worth(best):
                    break
                best = trial
            if best is not before:
                break
        return best

    def time_left(self) -> bool:
        """Whether one more trial, if it takes as long as the others, ends in time."""
        spent = time.monotonic() - self._begun
        return spent * (1 + 1 / max(len(self._made), 1)) <= self._seconds * TRIALS_SHARE

    def of(self, choice: Choice) -> Trial:
        """What a choice is worth; the second time it is known."""
        if choice not in self._made:
            self._made[choice] = choice, self._try(choice)
        return self._made[choice]

    def _try(self, choice: Choice) -> Settled:
        logits, weights, base, normaliser = self._weighed(choice)
        last = self._cases.p.last
        figures = _figures(logits.ranks(weights, choice.exclude_seen))
        found = Settled(
            epochs=0,
            exclude_seen=choice.exclude_seen,
            again=tuple(np.round(weights[:last], 4).tolist()),
            together=tuple(np.round(weights[last:], 4).tolist()),
            temperature=choice.temperature,
            half_life_days=choice.half_life_days,
            lately=choice.lately,
            level=_level(logits.entries, weights, base, normaliser),
            **figures,
        )
        self._report(
            f"  {'without' if choice.exclude_seen else 'with'} seen items, "
            f"logits * {choice.temperature:g}, "
            f"popularity of {choice.half_life_days:g} days * {choice.lately:g}, "
            f"repeats * {choice.again:g}, companions * {choice.together:g}: "
            f"of items it knows {_told(figures)}"
        )
        return found

    def corrected(self, best: Trial) -> Trial:
        """With what counts tell, where that makes lists of users better that have not fitted it.

        Of lists of several lengths, which together tell far smaller differences than those of one.
        """
        choice, settled = best
        logits, weights, _, _ = self._weighed(choice)
        counts, exclude = self._counts, choice.exclude_seen
        self._report("  asking counts of items and companions")
        found = correct(logits, weights, exclude, counts, self._report, lambda: self.left() <= 0)
        if found is None:
            return best
        figures = _figures(found.ranks)
        before = _of_several_lengths(logits.ranks(weights, exclude))
        gained = _of_several_lengths(found.ranks) - before
        self._report(
            "  what counts tell of items and companions, fitted on other users: "
            f"{_told(figures)}; over lists of {', '.join(map(str, LENGTHS))} {gained:+.4f}: "
            f"{'taken' if gained > 0 else 'not taken'}"
        )
        if gained <= 0:
            return best
        after = corrected(logits, found.correction, counts)
        base, normaliser, _ = after.base(exclude)
        return choice, replace(
            settled,
            correction=found.correction,
            level=_level(after.entries, weights, base, normaliser),
            **figures,
        )

    def left(self) -> float:
        """Seconds until the time for all of it is over."""
        return self._seconds - (time.monotonic() - self._begun)

    def _weighed(self, choice: Choice) -> tuple[Logits, Float64, Float64, Float64]:
        """As `_fit`, the weights times the choice's factors."""
        logits, fitted, *more = self._fit(replace(choice, again=1.0, together=1.0))
        factors = np.repeat([choice.again, choice.together], self._cases.p.last)
        return logits, fitted * factors, *more

    def _fit(self, choice: Choice) -> tuple[Logits, Float64, Float64, Float64]:
        """The logits, the likeliest weights of the last interactions, and what `base` says of the
        logits without these: its pairs and its normaliser."""
        if self._fitted is None or self._fitted[0] != choice:
            answers, days = self._answers, choice.half_life_days
            biases = answers.biases
            if choice.lately:
                term = drift(self._trained, len(answers.table), days)
                biases = biases + np.float32(choice.lately) * term
            warm = self._found * choice.temperature
            logits = Logits(self._cases, warm, answers.table, biases, self._entries)
            base, normaliser, hit = logits.base(choice.exclude_seen)
            weights = fit(self._entries, base, hit, self._cases.p.last)
            self._fitted = (choice, logits, weights, base, normaliser)
        return self._fitted[1:]


def _level(entries: Entries, weights: Float64, base: Float64, normaliser: Float64) -> float:
    """The mean over the cases of the log of the sum of exp(logit), all that is added included."""
    added_up = AddedUp.of(entries, base, len(normaliser))
    level = normaliser + added_up.normaliser(base + entries.added(weights))
    return round(float(level.mean()), 4)


def _figures(ranks: Int64) -> dict[str, Any]:
    """Fields of `Settled`."""
    return {name.split("@")[0]: round(value, 4) for name, value in metrics(ranks).items()}


def _told(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name}@{K} {figures[name]:.4f}" for name in ("ndcg", "recall", "mrr"))


def _of_several_lengths(ranks: Int64) -> float:
    """NDCG plus recall, the mean over `LENGTHS`."""
    worth = [float(((ranks < k) + gain(ranks, k)).mean()) for k in LENGTHS]
    return sum(worth) / len(worth)
