"""What held-out events settle about the terms that networks know nothing of. PyTorch.

One choice after the other, by NDCG and recall of the lists: whether seen items may come back, the
factor of the networks' logits, how much the newest popularity counts, and how far to trust the
weights of the last interactions. Those are fitted by likelihood, which is not what a list is judged
by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.models.base import Float32, Int64
from export.models.glr.blend import AddedUp, Entries, Float64, fit
from export.models.glr.companions import Companions
from export.models.glr.fitting import Report
from export.models.glr.judging import AT_ONCE, Cases, K, metrics, strike
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
    companions: Companions,
    trained: Sequences,
    epochs: int,
    report: Report,
    seconds: float | None = None,
) -> Settled:
    """What gives the best lists.

    Parameters
    ----------
    trained : what the networks were trained on
    epochs : that they had seen
    seconds : no trial begins that would probably end after them, except the first two; None: all do
    """
    report(f"  settling the rest by {len(cases.targets):,} held-out events of items it knows")
    trials = _Trials(cases, answers, companions, trained, report, seconds)
    best = max((trials.of(Choice(out)) for out in (False, True)), key=_worth)
    for name in (*LADDERS, *LADDERS):  # twice: what one of them is worth depends on the others
        best = trials.along(name, best)
    if trials.time_left():
        best = max(best, trials.of(replace(best[0], lately=0.0)), key=_worth)
    else:
        report("  the time for trials is over; the best so far counts")
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
        companions: Companions,
        trained: Sequences,
        report: Report,
        seconds: float | None,
    ) -> None:
        self._begun, self._seconds = time.monotonic(), math.inf if seconds is None else seconds
        self._cases, self._answers, self._trained = cases, answers, trained
        self._report = report
        self._found = answers.interests()
        self._entries = Entries.of(cases.recent, companions)
        self._made: dict[Choice, Trial] = {}
        self._fitted: tuple[Choice, _Blend, Float64, Float64, Float64] | None = None  # the last

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
        return spent * (1 + 1 / max(len(self._made), 1)) <= self._seconds

    def of(self, choice: Choice) -> Trial:
        """What a choice is worth; the second time it is known."""
        if choice not in self._made:
            self._made[choice] = choice, self._try(choice)
        return self._made[choice]

    def _try(self, choice: Choice) -> Settled:
        blend, fitted, base, normaliser = self._fit(replace(choice, again=1.0, together=1.0))
        last = self._cases.p.last
        weights = fitted * np.repeat([choice.again, choice.together], last)
        added_up = AddedUp.of(self._entries, base, len(normaliser))
        level = normaliser + added_up.normaliser(base + self._entries.added(weights))
        measured = metrics(blend.ranks(weights, choice.exclude_seen))
        found = Settled(
            epochs=0,
            exclude_seen=choice.exclude_seen,
            again=tuple(np.round(weights[:last], 4).tolist()),
            together=tuple(np.round(weights[last:], 4).tolist()),
            temperature=choice.temperature,
            half_life_days=choice.half_life_days,
            lately=choice.lately,
            level=round(float(level.mean()), 4),
            ndcg=round(measured[f"ndcg@{K}"], 4),
            recall=round(measured[f"recall@{K}"], 4),
            mrr=round(measured[f"mrr@{K}"], 4),
        )
        self._report(
            f"  {'without' if choice.exclude_seen else 'with'} seen items, "
            f"logits * {choice.temperature:g}, "
            f"popularity of {choice.half_life_days:g} days * {choice.lately:g}, "
            f"repeats * {choice.again:g}, companions * {choice.together:g}: of items it knows "
            f"ndcg@{K} {found.ndcg:.4f}  recall@{K} {found.recall:.4f}  mrr@{K} {found.mrr:.4f}"
        )
        return found

    def _fit(self, choice: Choice) -> tuple[_Blend, Float64, Float64, Float64]:
        """The logits, the likeliest weights of the last interactions, and what `base` says of the
        logits without these: its pairs and its normaliser."""
        if self._fitted is None or self._fitted[0] != choice:
            answers, days = self._answers, choice.half_life_days
            biases = answers.biases
            if choice.lately:
                term = drift(self._trained, len(answers.table), days)
                biases = biases + np.float32(choice.lately) * term
            warm = self._found * choice.temperature
            blend = _Blend(self._cases, warm, answers.table, biases, self._entries)
            base, normaliser, hit = blend.base(choice.exclude_seen)
            weights = fit(self._entries, base, hit, self._cases.p.last)
            self._fitted = (choice, blend, weights, base, normaliser)
        return self._fitted[1:]


@dataclass(frozen=True, slots=True, eq=False)
class _Blend:
    """Logits of the cases with what is added to them.

    Attributes
    ----------
    found : float32 [C, D]; interests of length scale * temperature
    table, biases : float32 [n, D], [n]
    """

    cases: Cases
    found: Tensor
    table: Float32
    biases: Float32
    entries: Entries

    def base(self, exclude: bool) -> tuple[Float64, Float64, Int64]:
        """What `blend.fit` needs.

        Returns
        -------
        base : float64 [U]; log-probability of each pair of `entries`
        normaliser : float64 [C]; log of the sum over items of exp(logit)
        target : int64 [C]; index of the pair that is the case's target, -1 when it is none of them
        """
        base = np.empty(len(self.entries.case))
        normaliser = np.empty(len(self.found))
        for part, logits in self._chunks(exclude):
            logsum = torch.logsumexp(logits, 1)
            normaliser[part] = logsum.numpy()
            of, at = self._of(part)
            base[of] = (logits[at] - logsum[at[0]]).double().numpy()
        n = len(self.table)
        pair = self.entries.case * n + self.entries.row
        wanted = np.arange(len(self.found)) * n + self.cases.targets
        at_pair = np.minimum(np.searchsorted(pair, wanted), len(pair) - 1)
        inside = (pair[at_pair] == wanted) & np.isfinite(base[at_pair])
        return base, normaliser, np.where(inside, at_pair, -1)

    def ranks(self, weights: Float64, exclude: bool) -> Int64:
        """Ranks from 0 of the targets when the last interactions have their say: int64 [C].

        `weights`: from `blend.fit`.
        """
        added = torch.from_numpy(self.entries.added(weights).astype(np.float32))
        ranks = np.empty(len(self.found), np.int64)
        for part, logits in self._chunks(exclude):
            of, at = self._of(part)
            logits[at] += added[of]
            target = torch.from_numpy(self.cases.targets[part])[:, None]
            worth = logits.gather(1, target)
            before = (~(logits <= worth)).sum(1)  # what is no number is no hit
            ranks[part] = torch.where(worth[:, 0] > -torch.inf, before, len(self.table)).numpy()
        return ranks

    def _chunks(self, exclude: bool) -> Iterator[tuple[slice, Tensor]]:
        """Cases of `AT_ONCE` and their logits, float32 [c, n]."""
        vectors, bias = torch.from_numpy(self.table), torch.from_numpy(self.biases)
        for first in range(0, len(self.found), AT_ONCE):
            part = slice(first, min(first + AT_ONCE, len(self.found)))
            logits = self.found[part] @ vectors.T + bias
            logits[:, 0] = -torch.inf
            if exclude:
                strike(logits, self.cases.seen[part])
            yield part, logits

    def _of(self, part: slice) -> tuple[slice, tuple[Tensor, Tensor]]:
        """Which entries belong to some cases, and where they stand in the cases' logits."""
        of = slice(*np.searchsorted(self.entries.case, [part.start, part.stop]))
        case = torch.from_numpy(self.entries.case[of] - part.start)
        return of, (case, torch.from_numpy(self.entries.row[of]))
