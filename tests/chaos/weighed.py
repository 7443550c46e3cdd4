"""By which weights a partition's events were folded, where workers go over to others live.

In: the steps of a changelog, the settings that workers had, in their order. Out: for each step the
settings that its states can have come of. A worker changes between two steps, at a moment that no
client is told; its states tell, and its lists must name the same settings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stream.settings.weights import Weights
from tests.chaos import segments
from tests.chaos.changelog import Step
from tests.chaos.decode import At, Event
from tests.chaos.fold import Arithmetic, Reference
from tests.chaos.keeping import Keeping
from tests.chaos.outputs import Owned
from tests.chaos.states import Sources, States
from tests.chaos.verdict import Verdict


class InForce(NamedTuple):
    """Settings that workers had at a time: the revision that lists name, and their weights."""

    revision: str
    weights: Weights


class _Told(NamedTuple):
    rank: int
    numbers: set[int]


class Weighed:
    """Follows the steps of a partition, from the bundle's weights to later ones and never back.

    Parameters
    ----------
    settings : workers', one after the other, no weights twice; the first sets none

    Attributes
    ----------
    now : number of the settings that the last step came of
    """

    def __init__(
        self,
        sources: Sources,
        arithmetic: Arithmetic,
        keeping: Keeping,
        settings: Sequence[InForce],
    ) -> None:
        self.now = 0
        self._sources, self._arithmetic, self._keeping = sources, arithmetic, keeping
        self._settings = settings
        self._keys = [segments.key(arithmetic.manifest, of.weights) for of in settings]
        self._states: dict[bytes, bytes] = {}
        self._told: dict[At, _Told] = {}
        arithmetic.weigh({}, ())

    def follow(self, step: Step, states: States, verdict: Verdict) -> None:
        """Find out what a step was folded with, and have its reference fold so.

        Where no event tells old from new, the old ones are taken to be in force still.
        """
        found = self._numbers(step)
        passed, self.now = min(found) - self.now, min(found)
        if passed:
            verdict.weighings += passed
            states.weigh(self._settings[self.now].weights)
        for at in step.order:
            self._told[at] = _Told(step.rank, found)
        self._states.update({key: state for key, state in step.states.items() if state})
        for key, state in step.states.items():
            if state is None:
                self._states.pop(key, None)

    def _numbers(self, step: Step) -> set[int]:
        """Of all settings from those in force on, which may have been it; at least one."""
        left = set(range(self.now, len(self._settings)))
        if len(left) > 1:
            for key, events in self._events(step).items():
                left &= self._of_user(key, events, step.states.get(key), left) or left
                if len(left) == 1:  # `States` holds the others to it
                    break
            there = {key for key in step.counts or {} if key in self._keys}
            left &= {number for number in left if self._keys[number] in there} or left
        if len(left) > 1:
            left -= {number for number in left if self._lacks_row(number, step)}
        return left or {self.now}

    def _lacks_row(self, number: int, step: Step) -> bool:
        """Whether an event names a list of these settings, and there is no count of it."""
        key = self._keys[number]
        if step.counts is None or key in step.counts:
            return False
        for of, events in self._events(step).items():
            user = Reference.decode(self._arithmetic, self._states.get(of))
            for event in events:
                counts = segments.told_cell(event, key) is not None
                if user.fold(event) and counts and event.kind in segments.COLUMNS:
                    return True
        return False

    def _events(self, step: Step) -> dict[bytes, list[Event]]:
        """The step's events by the keys of their users."""
        found: dict[bytes, list[Event]] = defaultdict(list)
        for at in step.order:
            event = self._sources.events.get(at)
            if event is not None:
                found[self._keeping.key_of(event.user)].append(event)
        return found

    def _of_user(
        self, key: bytes, events: Sequence[Event], state: bytes | None, numbers: Iterable[int]
    ) -> set[int]:
        """By which of the settings a user's events come to the state; perhaps by none."""
        found = set()
        for number in numbers if state is not None else ():
            self._weigh(number)
            user = Reference.decode(self._arithmetic, self._states.get(key))
            for event in events:
                user.fold(event)
            if user.encode() == state:
                found.add(number)
        self._weigh(self.now)
        return found

    def _weigh(self, number: int) -> None:
        weights = self._settings[number].weights
        self._arithmetic.weigh(weights.event_weights(), weights.half_lives_s or ())

    def check(self, lists: Sequence[Owned], partition: int, verdict: Verdict) -> None:
        """Count lists that name other settings than those by which their cause was folded.

        One that a later owner made again names what was in force with that one: some settings of
        the run, no older ones.
        """
        numbers = {of.revision: number for number, of in enumerate(self._settings)}
        for seen, rank in lists:
            told = None if seen.cause is None else self._told.get((seen.cause[0], seen.cause[2]))
            if told is None:  # taken back, or a false cause
                continue
            named = numbers.get(seen.settings or "")
            right = named in told.numbers
            if named is not None and rank > told.rank:
                right = named >= min(told.numbers)
            verdict.count("false_settings", f"list {partition}@{seen.offset}", not right)
