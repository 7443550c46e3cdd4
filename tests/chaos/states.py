"""The states of a partition, step by step, against the reference. In: steps, sources. Out: counts.

Every event is folded by itself, in the order in which the changelog says it was applied, and every
state that the changelog holds must be what came of its user's events: since the first one, or since
the user was dropped. A user is dropped for an erasure (`erasures.py`), or leaves (`leaving.py`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from stream.settings.weights import Weights
from tests.chaos import decode
from tests.chaos.changelog import Step
from tests.chaos.counts import Counts
from tests.chaos.decode import At
from tests.chaos.erasures import Forgotten
from tests.chaos.fold import Arithmetic, Reference
from tests.chaos.keeping import Keeping
from tests.chaos.leaving import Leavers
from tests.chaos.logs import Record
from tests.chaos.segments import Segments
from tests.chaos.verdict import Verdict

IN_FLIGHT = 8  # batches of a worker that are sent and not acknowledged (`batch.in_flight`)


@dataclass
class Sources:
    """Records of one partition of all sources, sorted out.

    Attributes
    ----------
    events : good events of clicks and purchases
    erasures : good ones
    done : offset of the last null on `erasures` by user
    bad : bad records of all these and of the catalogue
    """

    events: dict[At, decode.Event] = field(default_factory=dict)
    erasures: dict[At, decode.Erasure] = field(default_factory=dict)
    done: dict[bytes, int] = field(default_factory=dict)
    bad: dict[At, Record] = field(default_factory=dict)

    @property
    def users(self) -> set[bytes]:
        """Whoever has an event or an erasure."""
        mentioned = (*self.events.values(), *self.erasures.values())
        return {record.user for record in mentioned}


class States:
    """The reference of a partition's states, as its changelog goes on.

    Attributes
    ----------
    forgotten : who was erased, and which events need no list
    """

    def __init__(
        self,
        sources: Sources,
        arithmetic: Arithmetic,
        keeping: Keeping,
        partitions: int,
        verdict: Verdict,
    ) -> None:
        self.forgotten = Forgotten(keeping.key_of)
        self._sources, self._arithmetic, self._verdict = sources, arithmetic, verdict
        self._names = {keeping.key_of(user): user for user in sources.users}
        self._users: dict[bytes, Reference] = {}
        self._counts = Counts(keeping.half_lives_ms)
        self._segments = Segments(arithmetic.manifest)
        self._applied: set[At] = set()
        self._wrong: set[bytes] = set()
        limits = keeping.limits(partitions)
        self._leavers = Leavers(limits) if any(limits) else None
        self._left: set[bytes] = set()
        self._events_of_leavers: set[At] = set()
        self._last_steps: dict[int, deque[set[At]]] = defaultdict(lambda: deque(maxlen=IN_FLIGHT))
        self._last_owner = 0

    @property
    def standing(self) -> set[bytes]:
        """Users whose last list may stand: those with a state, and those who left with one."""
        return self._users.keys() | self._left

    def weigh(self, weights: Weights) -> None:
        """Fold by these in the place of the bundle's from the next step on."""
        self._arithmetic.weigh(weights.event_weights(), weights.half_lives_s or ())
        self._segments.weigh(weights)

    def take(self, step: Step) -> None:
        """Fold a step's events, and compare the states that it left."""
        verdict, where = self._verdict, step.where
        touched, erased = self._fold(step)
        if step.counts is not None:
            of_lists = {key for key in step.counts if key.startswith(decode.SEGMENTS)}
            items = {key: step.counts[key] for key in step.counts.keys() - of_lists}
            self._counts.check(items, where, verdict)
            self._segments.check({key: step.counts[key] for key in of_lists}, where, verdict)
        # A key that is nobody's stays one that nobody has.
        states = {self._names.get(key, b"?" + key): state for key, state in step.states.items()}
        self.forgotten.check_marks(erased, step.marks, where, verdict)
        verdict.count("unerased_users", where, len(erased - touched - states.keys()))
        if self._leavers is not None:
            self._leavers.look({user: state.newest_ms for user, state in self._users.items()})
        for user in touched | states.keys():
            state = states.get(user)
            if user in states and state is None:
                self._drop(user, user in touched, user in erased, where)
                continue
            if user not in touched:
                verdict.count("doubled_events", where)
            if user not in self._users or state != self._users[user].encode():
                verdict.examples.setdefault("wrong_states", where)
                self._wrong.add(user)
        verdict.most_users = max(verdict.most_users, len(self._users))

    def _fold(self, step: Step) -> tuple[set[bytes], set[bytes]]:
        """Apply events and erasures in order; whose states changed, and who was erased."""
        touched: set[bytes] = set()
        erased: set[bytes] = set()
        for at in step.order:
            event, erasure = self._sources.events.get(at), self._sources.erasures.get(at)
            if at in self._applied:
                self._verdict.count("doubled_events", step.where)
            elif erasure is not None:
                self.forgotten.erase(at, erasure, step.rank)
                self._users.pop(erasure.user, None)
                self._left.discard(erasure.user)
                touched.discard(erasure.user)
                erased.add(erasure.user)
            elif event is not None and self.forgotten.heeds(at, event, event.user in self._users):
                if self._user(event.user).fold(event):
                    self._counts.count(event)
                    self._segments.count(event, self._verdict)
                touched.add(event.user)
            self._applied.add(at)
        self._last_owner = max(self._last_owner, step.rank)
        if step.order:
            self._last_steps[step.rank].append(set(step.order))
        return touched, erased

    def _user(self, user: bytes) -> Reference:
        if user not in self._users:
            self._verdict.returned += user in self._left
            self._left.discard(user)
            until_ms = self.forgotten.until_ms.get(user, 0)
            self._users[user] = Reference(self._arithmetic, until_ms)
        return self._users[user]

    def _drop(self, user: bytes, touched: bool, erased: bool, where: str) -> None:
        """A tombstone of a user: for an erasure, or because the user left."""
        verdict = self._verdict
        verdict.tombstones += 1
        why = ""
        if self._leavers is not None and not (erased or touched):
            why = self._leavers.why(user)
        verdict.expired += why == "expired"
        verdict.evicted += why == "evicted"
        verdict.count("dropped_users", where, touched or not (erased or why))
        if why:
            self._left.add(user)
            self._events_of_leavers |= self.forgotten.let_go(user)
        self._users.pop(user, None)

    def finish(self, partition: int) -> None:
        """Count what is judged over all steps.

        A worker that dies has at most so many batches under way; whoever left by the time that the
        next one reads these again gets no list any more.
        """
        verdict, events = self._verdict, self._sources.events
        for owner, orders in self._last_steps.items():
            if owner < self._last_owner:
                unlisted = set[At]().union(*orders) & self._events_of_leavers
                self.forgotten.excused |= unlisted
        verdict.wrong_states += len(self._wrong)
        verdict.events += len(events)
        verdict.users += len({event.user for event in events.values()})
        self._count_lost(events.keys() - self._applied, partition)
        self._count_lost(self._sources.erasures.keys() - self._applied, partition)

    def _count_lost(self, lost: Iterable[At], partition: int) -> None:
        for topic, offset in sorted(lost):
            self._verdict.count("lost_events", f"{topic}-{partition}@{offset}")
