"""The checker's states beside an engine in this process, as it should be and with mistakes.

No broker: the log of a partition is a list. Users leave and come back, are erased, and the engine
starts anew from its log; the reference must come to the same, and must see each mistake.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.config import Placement
from stream.contracts import Events, item_hash
from stream.core import engine
from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.counting import count_items, count_segments
from stream.core.engine import Engine
from stream.core.fold import Folded
from stream.core.lifecycle import Lifecycle
from stream.core.lifecycle import Limits as Served
from stream.core.micro_batch import Decoded
from stream.core.model import Model
from stream.core.policy.learning import Happened
from stream.core.policy.lists import Lists
from stream.core.policy.naming import Named, Naming
from stream.core.pseudonyms import Pseudonyms
from stream.core.state import UserShard
from stream.core.statistics import counts, segments
from stream.core.statistics.adding import Columns
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import Fading, KeyedRows
from stream.core.statistics.segments import Seen, SegmentCounts
from stream.core.user_keys import UserKeys
from stream.core.weighing import Weighing
from stream.kafka.batches import RecordBatch
from stream.placements import Explore
from stream.revision import revision_of
from stream.settings.weights import UNSET, Weights
from tests.chaos import decode
from tests.chaos.changelog import Step
from tests.chaos.decode import At
from tests.chaos.erasures import check_taken_back
from tests.chaos.fold import Arithmetic
from tests.chaos.history import SeenList
from tests.chaos.keeping import KEEPINGS, PLAIN, Keeping
from tests.chaos.leaving import Leavers, Limits
from tests.chaos.names import Names
from tests.chaos.outputs import Owned, check_lists
from tests.chaos.segments import CELLS, HALF_LIFE_MS, PLACEMENT, TEMPERATURE, told_cell
from tests.chaos.segments import key as counts_key
from tests.chaos.states import IN_FLIGHT, Sources, States
from tests.chaos.verdict import Verdict
from tests.chaos.weighed import InForce, Weighed
from tests.support.adopting import adopt
from tests.support.bundles import random_decay_bundle
from tests.support.parts import Part
from tests.support.seed import SEED

NOW_MS = 1_795_000_000_000
STEPS = 120
USERS = 200
UNCOMMITTED = 5  # batches
BRIEF = Keeping(60.0, 40, "swordfish-" * 4, half_life_s=5.0, recent_half_life_s=1.0)
BROAD = Keeping(expire_after_s=300.0, max_users=90)  # its share has room to choose ahead
EXPLORE = Explore(temperature=TEMPERATURE, half_life_s=HALF_LIFE_MS / 1000)
Times = NDArray[np.int64]
TOPICS = {"clicks": decode.CLICKS, "purchases": decode.PURCHASES}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_decay_bundle(tmp_path_factory.mktemp("states") / "bundle", 50, dim=16)


class Worker:
    """An engine with one partition, and the log of what it did.

    Parameters
    ----------
    keeping : how it keeps states
    explore : how much its lists explore
    """

    def __init__(self, bundle: Bundle, keeping: Keeping, explore: Explore = EXPLORE) -> None:
        self.sources = Sources()
        self.steps: list[Step] = []
        self.lists: list[Owned] = []
        self._names = Names(SEED)
        self._rank = 0
        self._placements = {PLACEMENT: Placement(k=1, explore=explore)}
        self.model = Model(bundle, "cpu")
        self._engine = Engine(
            self.model,
            Catalogue(bundle.item_ids),
            kinds={"clicks": "clicks", "purchases": "purchases", "erasures": "erasures"},
            placements=self._placements,
            ring=50,
            limits=Served(round(keeping.expire_after_s * 1000), keeping.max_users),
            pseudonyms=Pseudonyms(keeping.secret.encode() or None),
            new_counts=partial(Counts, Fading(*keeping.half_lives_ms)),
        )
        self._shard: UserShard = self._engine.new_shard(0, 1)
        self._log: list[tuple[bytes, bytes | None]] = []
        self._batches: list[tuple[RecordBatch, int, int]] = []  # and how many lists came before
        self._ends = dict.fromkeys((*TOPICS, "erasures"), 0)

    def die(self, lists_lost: bool) -> None:
        """Another one takes over: all it has is the log. It reads again what was not committed.

        Parameters
        ----------
        lists_lost : those of the batches that were not committed never reached the broker
        """
        if lists_lost:
            del self.lists[self._batches[-UNCOMMITTED][2] :]
        self._rank += 1
        self._shard = self._engine.new_shard(0, 1)
        for key, value in self._log:
            self._shard.load([key], [value])
        self.steps.append(Step([], {}, "a fence", {}, self._rank))
        for batch, now_ms, _ in self._batches[-UNCOMMITTED:]:
            self._step(batch, self._ends[batch.topic], [], now_ms)

    @property
    def naming(self) -> Naming:
        return self._engine.answers.lists.naming

    def weigh(self, weights: Weights) -> None:
        """Take other weights over, as a worker does that follows its settings file."""
        adopt(self._engine, self._placements, weights, NOW_MS)

    def in_force(self, weights: Weights) -> InForce:
        """Its settings with these weights."""
        return InForce(revision_of(self._placements, weights), weights)

    def work(self, topic: str, records: list[dict[str, object]], now_ms: int) -> None:
        """Take a batch in, and write down what came of it; events of lists name some."""
        records = [self._on_a_list(record) for record in records]
        keys: list[bytes | None] = [str(record["user_id"]).encode() for record in records]
        values: list[bytes | None] = [json.dumps(record).encode() for record in records]
        first = self._ends[topic]
        self._ends[topic] += len(records)
        offsets = list(range(first, self._ends[topic]))
        for offset, key, value in zip(offsets, keys, values, strict=True):
            if topic == "erasures":
                erasure = decode.erasure(key, value)
                assert erasure is not None
                self.sources.erasures[topic, offset] = erasure
            else:
                event = decode.event(key, value, TOPICS[topic])
                self.sources.events[topic, offset] = event._replace(sent_ms=now_ms)
        batch = RecordBatch(
            topic, 0, first, self._ends[topic], keys, values, offsets, [now_ms] * len(keys)
        )
        self._batches.append((batch, now_ms, len(self.lists)))
        self._step(batch, first, [(topic, offset) for offset in offsets], now_ms)

    def _on_a_list(self, record: dict[str, object]) -> dict[str, object]:
        name = self._names.drawn(str(record["user_id"]).encode())
        return {**record, "list_name": name} if record.get("placement") else record

    def _step(self, batch: RecordBatch, applied: int, order: list[At], now_ms: int) -> None:
        (did,) = self._engine.step([Part(self._shard, batch, applied)], now_ms).parts
        for user, value in zip(did.list_keys, did.list_values, strict=True):
            cause = settings = name = None
            if value is not None:
                record = json.loads(value)
                told, settings = record["cause"], record["settings"]
                cause = told["topic"], told["partition"], told["offset"], told["event_time_ms"]
                name = record["lists"][PLACEMENT]["name"]
                self._names.note(user, name)
            seen = SeenList(len(self.lists), user, cause, settings, name)
            self.lists.append(Owned(seen, self._rank))
        written = dict(zip(*did.changelog, strict=True))
        self._log += written.items()
        about = {key: value for key, value in written.items() if key[:1] == b"\xff"}
        states = {key: value for key, value in written.items() if key not in about}
        kinds = decode.COUNTS, decode.SEGMENTS
        counts = {key: about.pop(key) for key in [*about] if key[:2] in kinds}
        where = f"step {len(self.steps)}"
        self.steps.append(Step(order, states, where, about, self._rank, counts))


def traffic(seed: int) -> Iterator[tuple[str, list[dict[str, object]], int]]:
    """Batches: everybody now and then, some of it late, some of it erased."""
    chance, now_ms = random.Random(seed), NOW_MS
    for _ in range(STEPS):
        now_ms += chance.randrange(8_000)
        topic = chance.choice((*TOPICS, *TOPICS, *TOPICS, "erasures"))
        records: list[dict[str, object]] = []
        for _ in range(chance.randrange(1, 12) if topic != "erasures" else 1):
            late_ms = chance.choice((0, 0, 5_000, 300_000, -900))
            record: dict[str, object] = {
                "user_id": f"u{int(USERS * chance.random() ** 2)}",
                "event_time_ms": now_ms - late_ms,
            }
            if topic != "erasures":
                record["event_id"] = f"e{chance.randrange(300)}"  # some come twice
                record["item_id"] = f"i{chance.randrange(1, 60)}"
                record["type"] = chance.choice(TOPICS[topic])
            if topic == "clicks":
                record["placement"] = "elsewhere" if len(records) % 5 == 4 else PLACEMENT
            if topic == "purchases":
                record["unit_price"] = round(9 * chance.random(), 2)
            records.append(record)
        yield topic, records, now_ms


def judged(
    bundle: Bundle, keeping: Keeping, told: Keeping | None = None, seed: int = SEED
) -> Verdict:
    """What the checker says of a worker with these settings, when it is told these or others."""
    worker, verdict = Worker(bundle, keeping), Verdict()
    for number, batch in enumerate(traffic(seed)):
        worker.work(*batch)
        if number % 30 == 29:
            worker.die(lists_lost=number % 60 == 29)
    states = States(worker.sources, Arithmetic(bundle, {}), told or keeping, 1, verdict)
    for step in worker.steps:
        states.take(step)
    states.finish(0)
    sources, forgotten = worker.sources, states.forgotten
    check_lists(worker.lists, 0, sources.events, verdict, forgotten.excused)
    check_taken_back(sources.erasures, forgotten, worker.lists, states.standing, verdict)
    return verdict


@pytest.mark.parametrize("seed", [SEED, SEED + 1, SEED + 2])
@pytest.mark.parametrize("keeping", [PLAIN, BRIEF, BROAD], ids=str)
def test_an_engine_without_a_mistake_is_right(bundle: Bundle, keeping: Keeping, seed: int) -> None:
    verdict = judged(bundle, keeping, seed=seed)
    assert verdict.right, verdict.table()
    left = (verdict.expired, verdict.evicted, verdict.returned)
    assert all(left) if keeping != PLAIN else not any(left), verdict.table()
    assert verdict.counted_items > 20
    assert verdict.list_events > 50
    assert verdict.named_events > 20
    assert verdict.unknown_names > 3
    assert (verdict.items_let_go > 0) == (keeping == BRIEF)
    assert verdict.tombstones > sum(left[:2]), "somebody was erased"


WEIGHTS = Weights(click=1.5, dislike=0.0, purchase=-0.3, half_lives_s=(900.0, 20.0))


@pytest.mark.parametrize("told_of", [True, False])
def test_each_event_is_folded_once_by_the_weights_of_its_moment(
    bundle: Bundle, told_of: bool
) -> None:
    """Weights change, and a worker dies before and after; the checker is told of it, or is not."""
    worker, verdict = Worker(bundle, BRIEF, Explore()), Verdict()
    changed_at = -1
    for number, (topic, records, now_ms) in enumerate(traffic(SEED)):
        if number == STEPS // 2:
            changed_at = len(worker.steps)
            worker.weigh(WEIGHTS)
        elsewhere = [{**record, "placement": None} for record in records]
        worker.work(topic, elsewhere, now_ms)
        if number % 20 == 19:
            worker.die(lists_lost=number % 40 == 19)
    arithmetic = Arithmetic(bundle, {})
    states = States(worker.sources, arithmetic, BRIEF, 1, verdict)
    for number, step in enumerate(worker.steps):
        if number == changed_at and told_of:
            arithmetic.weigh(WEIGHTS.event_weights(), WEIGHTS.half_lives_s or ())
        states.take(step)
    states.finish(0)
    assert set(verdict.faults) == (set() if told_of else {"wrong_states"}), verdict.table()


OTHERS = (Weights(click=0.9, view=-0.2), Weights(purchase=2.0, half_lives_s=(3600.0, 60.0)))


def reweighed(bundle: Bundle, tells: bool = True) -> Worker:
    """A worker whose weights changed twice.

    Parameters
    ----------
    tells : the worker's lists tell of it; else its states alone come of it
    """
    worker = Worker(bundle, BRIEF)
    changes = dict(zip((STEPS // 6, STEPS // 3), OTHERS, strict=True))
    for number, batch in enumerate(islice(traffic(SEED), STEPS // 2)):
        if number in changes and tells:
            worker.weigh(changes[number])
        elif number in changes:
            worker.model.weigh(Weighing.of(bundle.manifest, changes[number]))
        worker.work(*batch)
        if number % 10 == 9:
            worker.die(lists_lost=number % 20 == 9)
    return worker


def followed(worker: Worker, *told: Weights) -> Verdict:
    """What the checker says of states and settings when it is told of these weights."""
    settings = [worker.in_force(weights) for weights in (UNSET, *told)]
    verdict, arithmetic = Verdict(), Arithmetic(worker.model.bundle, {})
    states = States(worker.sources, arithmetic, BRIEF, 1, verdict)
    weighed = Weighed(worker.sources, arithmetic, BRIEF, settings)
    for step in worker.steps:
        weighed.follow(step, states, verdict)
        states.take(step)
    states.finish(0)
    weighed.check(worker.lists, 0, verdict)
    return verdict


def test_weights_that_change_are_found_by_the_states(bundle: Bundle) -> None:
    worker = reweighed(bundle)
    verdict = followed(worker, *OTHERS)
    assert verdict.right, verdict.table()
    assert verdict.weighings == len(OTHERS)
    # Those that nobody was to set.
    assert {"wrong_states", "false_settings"} <= followed(worker, OTHERS[0]).faults.keys()


def test_a_list_of_other_weights_counts_nowhere_and_tells_which_are_in_force(
    bundle: Bundle,
) -> None:
    """By its state the event may have been folded with either: nobody weighs what it is."""
    worker = Worker(bundle, BRIEF)
    event = {"user_id": "u", "item_id": "i1", "type": "view", "event_time_ms": NOW_MS}
    worker.work("clicks", [event], NOW_MS)
    worker.weigh(OTHERS[0])
    on_old_one = {"type": "impression", "list_name": worker.lists[0].seen.name}
    worker.work("clicks", [{**event, **on_old_one, "user_id": "v"}], NOW_MS)
    verdict = followed(worker, OTHERS[0])
    assert verdict.right, verdict.table()
    counts = verdict.weighings, verdict.named_events, verdict.unknown_names
    assert counts == (1, 0, 1)


def test_lists_that_name_other_settings_than_their_states_came_of_are_seen(bundle: Bundle) -> None:
    verdict = followed(reweighed(bundle, tells=False), *OTHERS)
    assert set(verdict.faults) == {"false_settings", "wrong_segments"}, verdict.table()


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (BRIEF._replace(max_users=0), BRIEF._replace(max_users=0, expire_after_s=80.0)),
        (BRIEF._replace(expire_after_s=0.0), BRIEF._replace(expire_after_s=0.0, max_users=41)),
        (BRIEF, BRIEF._replace(expire_after_s=0.0)),
        (BRIEF, BRIEF._replace(max_users=0)),
        (BRIEF, BRIEF._replace(expire_after_s=0.0, max_users=0)),
    ],
)
def test_whoever_leaves_too_early_is_seen(bundle: Bundle, does: Keeping, told: Keeping) -> None:
    faults = set(judged(bundle, does, told).faults)
    assert "dropped_users" in faults
    assert not faults - {"dropped_users", "unreflected_events", "kept_lists"}, "its consequences"


def test_whoever_leaves_in_the_place_of_others_is_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest(self: Lifecycle, keys: UserKeys, most: int, stay: set[bytes]) -> list[bytes]:
        excess = min(len(keys) - self.limits.max_users, most)
        times_ms = dict(zip(keys, self._newest_ms(slice(0, len(keys))).tolist(), strict=True))
        others = sorted(times_ms.keys() - stay, key=lambda key: -times_ms[key])
        return others[: max(0, excess)]

    monkeypatch.setattr(Lifecycle, "evicted", newest)
    assert "dropped_users" in judged(bundle, BRIEF).faults


def test_whoever_comes_back_with_the_old_state_is_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says that they left, and memory does not."""

    def forget(self: UserShard, keys: Iterable[bytes]) -> list[bytes]:
        return [key for key in keys if self.find(key) is not None]

    monkeypatch.setattr(UserShard, "forget", forget)
    found = judged(bundle, BRIEF._replace(max_users=0))
    assert found.wrong_states > 0
    assert found.returned > 0


def _counts_again(
    parts: Sequence[Decoded], folded: Folded, events: Events, times_ms: Times, catalogue: Catalogue
) -> list[KeyedRows]:
    """All events of the part, those that were applied before a crash as well."""
    (part,) = parts
    items = np.array([item_hash(item) for item in part.events.items], np.uint64)
    nothing = np.zeros(len(items), np.bool_)
    sent_ms = np.minimum(part.events.times_ms, part.given.batch.timestamps_ms[0])
    columns = Columns(items, part.events.types, sent_ms, nothing, nothing)
    return [part.given.shard.counts.fold(columns)]


def _counts_repeats(
    parts: Sequence[Decoded], folded: Folded, events: Events, times_ms: Times, catalogue: Catalogue
) -> list[KeyedRows]:
    nothing = np.zeros_like(folded.repeated)
    as_new = folded._replace(repeated=nothing, forgotten=nothing)
    return count_items(parts, as_new, events, times_ms, catalogue)


def _counts_ahead(
    parts: Sequence[Decoded], folded: Folded, events: Events, times_ms: Times, catalogue: Catalogue
) -> list[KeyedRows]:
    return count_items(parts, folded, events, events.times_ms, catalogue)


def _leaves_a_row_out(
    parts: Sequence[Decoded], folded: Folded, events: Events, times_ms: Times, catalogue: Catalogue
) -> list[KeyedRows]:
    counted = count_items(parts, folded, events, times_ms, catalogue)
    return [(keys[1:], values[1:]) for keys, values in counted]


@pytest.mark.parametrize(
    "mistake",
    [_counts_again, _counts_repeats, _counts_ahead, _leaves_a_row_out],
)
def test_items_counted_wrongly_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, mistake: object
) -> None:
    monkeypatch.setattr(engine, "count_items", mistake)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_counts"}


def test_counts_that_a_new_owner_does_not_know_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counts, "load", lambda *arguments: None)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_counts"}


def test_items_let_go_too_early_are_seen(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "LEAST", 0.2)
    found = judged(bundle, BRIEF)
    assert set(found.faults) == {"wrong_counts"}
    assert found.wrong_counts <= found.items_let_go


Learnt = tuple[Sequence[Decoded], Sequence[Seen], Times, Sequence[KeyedRows]]


def _counts_lists_again(*given: *Learnt) -> None:
    """Twice, and the second time as a batch of its own."""
    for _ in range(2):
        count_segments(*given)


def _counts_lists_ahead(*given: *Learnt) -> None:
    (part,), seen, _, counted = given
    count_segments([part], seen, part.events.tail(part.skipped).times_ms, counted)


def _leaves_lists_out(*given: *Learnt) -> None:
    count_segments(*given[:3], [([], []) for _ in given[0]])


def _moves_counts(*given: *Learnt) -> None:
    """All that was counted stands in another cell of its column, and adds up."""
    count_segments(*given)
    for part in given[0]:
        for row in part.given.shard.segments.rows.values():
            row.counts[:] = np.roll(row.counts, 1, axis=2)


@pytest.mark.parametrize(
    "mistake", [_counts_lists_again, _counts_lists_ahead, _leaves_lists_out, _moves_counts]
)
def test_lists_counted_wrongly_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, mistake: object
) -> None:
    monkeypatch.setattr(engine, "count_segments", mistake)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_segments"}


def _ignores_names(named: Named) -> Named:
    return Named.nothing(len(named.given))


def _credits_nobody(named: Named) -> Named:
    return named._replace(cells=np.full_like(named.cells, -1))


def _credits_another_cell(named: Named) -> Named:
    return named._replace(cells=np.where(named.cells < 0, -1, (named.cells + 1) % CELLS))


def _takes_unknown_names_for_none(named: Named) -> Named:
    return named._replace(given=named.cells >= 0)


@pytest.mark.parametrize(
    "mistake",
    [_ignores_names, _credits_nobody, _credits_another_cell, _takes_unknown_names_for_none],
)
def test_lists_that_are_named_and_counted_elsewhere_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[Named], Named]
) -> None:
    read = Naming.read
    monkeypatch.setattr(Naming, "read", lambda self, names: mistake(read(self, names)))
    assert set(judged(bundle, PLAIN).faults) == {"wrong_segments"}


def test_any_name_says_here_what_it_says_there(bundle: Bundle) -> None:
    """Seen ones, cut, altered and made up ones, and such as nobody could have given."""
    worker, names = Worker(bundle, PLAIN), Names(SEED)
    users = [f"u{number}" for number in range(40)]
    event = {"item_id": "i1", "type": "view", "event_time_ms": NOW_MS}
    worker.work("clicks", [{**event, "user_id": user} for user in users], NOW_MS)
    for owned in worker.lists:
        names.note(owned.seen.user, owned.seen.name or "")
    texts = [names.drawn(user.encode()) or "" for user in users * 50]
    texts += ["", "A" * 16, "_" * 16, "=" * 16, "\N{SNOWMAN}" * 16, "\0" * 16]
    key = counts_key(Arithmetic(bundle, {}).manifest)
    here = [
        told_cell(decode.Event(b"u", "i1", 0, 1, NOW_MS, list_name=text), key) for text in texts
    ]
    there = worker.naming.read(texts).cells
    assert [-1 if cell is None else cell for cell in here] == there.tolist()
    assert len(set(here)) > 3


def test_counts_of_lists_that_a_new_owner_does_not_know_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SegmentCounts, "load", lambda *arguments: None)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_segments"}


def test_counts_of_lists_let_go_too_early_are_seen(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "LEAST", 1e9)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_segments"}


def test_lists_of_repeats_and_of_who_was_forgotten_are_seen_to_count(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_them(self: Lists, happened: Happened) -> list[Seen]:
        return learn(self, happened._replace(counts=np.ones_like(happened.counts)))

    learn = Lists.learn
    monkeypatch.setattr(Lists, "learn", all_of_them)
    assert set(judged(bundle, PLAIN).faults) == {"wrong_segments"}


@pytest.mark.parametrize(
    ("does", "told"),
    [
        (PLAIN, PLAIN._replace(secret="swordfish-" * 4)),
        (PLAIN._replace(secret="swordfish-" * 4), PLAIN),
        (PLAIN._replace(secret="swordfish-" * 4), PLAIN._replace(secret="pineapple-" * 4)),
    ],
)
def test_a_state_under_another_key_is_seen(bundle: Bundle, does: Keeping, told: Keeping) -> None:
    faults = judged(bundle, does, told).faults
    assert faults["wrong_states"] > USERS // 2
    assert faults["wrong_marks"] > 0


def test_a_list_may_be_missing_where_its_user_left_while_a_worker_died(bundle: Bundle) -> None:
    """Events of the last batches of who died, and no others."""
    ats: list[At] = [("clicks", offset) for offset in range(3 * IN_FLIGHT)]
    late: At = ("purchases", 0)
    sources = Sources()
    sources.events = {at: decode.Event(b"u", "i1", 0, 1, NOW_MS) for at in ats}
    sources.events[late] = decode.Event(b"v", "i1", 0, 8, NOW_MS + 2_000)
    for owners, excused in ((0, set()), (1, set(ats[-IN_FLIGHT:]))):
        verdict = Verdict()
        keeping = PLAIN._replace(expire_after_s=1.0)
        states = States(sources, Arithmetic(bundle, {}), keeping, 1, verdict)
        for at in ats:
            states.take(Step([at], {}, "", {}, 0))
        states.take(Step([late], {b"u": None}, "", {}, owners))
        states.finish(0)
        assert verdict.expired == 1
        assert states.forgotten.excused - {late} == excused


def test_the_last_list_of_who_left_may_stand_and_of_who_was_erased_may_not(
    bundle: Bundle,
) -> None:
    sources, again = Sources(), NOW_MS + 1_000
    sources.events["clicks", 0] = decode.Event(b"left", "i1", 0, 1, NOW_MS)
    sources.events["clicks", 1] = decode.Event(b"erased", "i1", 0, 1, again)
    sources.events["clicks", 2] = decode.Event(b"here", "i1", 0, 1, again)
    sources.erasures["erasures", 0] = decode.Erasure(b"erased", again)
    sources.erasures["erasures", 1] = decode.Erasure(b"left", again)
    states = States(
        sources, Arithmetic(bundle, {}), PLAIN._replace(expire_after_s=0.5), 1, Verdict()
    )
    for offset in range(3):
        states.take(Step([("clicks", offset)], {}, "", {}, 0))
    states.take(Step([], {b"left": None}, "", {}, 0))
    states.take(Step([("erasures", 0)], {b"erased": None}, "", {}, 0))
    assert states.standing == {b"left", b"here"}
    states.take(Step([("erasures", 1)], {b"left": None}, "", {}, 0))
    assert states.standing == {b"here"}


def test_the_least_active_may_go_and_as_many_as_are_too_many() -> None:
    leavers = Leavers(Limits(users=2))
    leavers.look({b"a": 3, b"b": 1, b"c": 2, b"d": 4})
    assert [leavers.why(user) for user in (b"a", b"d", b"nobody")] == ["", "", ""]
    assert leavers.why(b"b") == "evicted"
    assert leavers.why(b"c") == "evicted"
    leavers.look({b"a": 3, b"d": 4})
    assert leavers.why(b"a") == ""


def test_who_was_chosen_ahead_may_not_go_before_there_are_too_many() -> None:
    leavers = Leavers(Limits(users=64))
    newest_ms = {b"u%d" % number: number + 1 for number in range(65)}
    leavers.look(newest_ms)
    assert [leavers.why(user) for user in (b"u0", b"u1")] == ["evicted", ""]
    del newest_ms[b"u0"]
    leavers.look(newest_ms | {b"new": 100})
    assert [leavers.why(user) for user in (b"u1", b"u2")] == ["evicted", ""]


def test_who_was_active_since_the_last_look_stays() -> None:
    leavers = Leavers(Limits(users=1))
    leavers.look({b"a": 1, b"b": 2})
    leavers.look({b"a": 5, b"b": 2})
    assert leavers.why(b"a") == ""
    assert leavers.why(b"b") == "evicted"


def test_the_inactive_may_go_by_the_time_of_events() -> None:
    leavers = Leavers(Limits(expire_after_ms=10))
    leavers.look({b"a": 100, b"b": 101, b"c": 111})
    assert [leavers.why(user) for user in (b"a", b"b", b"c")] == ["expired", "", ""]
    leavers.look({b"b": 101})
    assert leavers.why(b"b") == "", "the clock of events does not go on by itself"


def test_a_seed_draws_how_states_are_kept() -> None:
    drawn = [Keeping.drawn(seed) for seed in range(40)]
    assert drawn == [Keeping.drawn(seed) for seed in range(40)]
    for some in (
        {bool(keeping.secret) for keeping in drawn},
        {keeping.expire_after_s > 0 for keeping in drawn},
    ):
        assert some == {True, False}
    assert all((one.expire_after_s > 0) == (one.max_users > 0) for one in drawn)
    for keeping in KEEPINGS.values():
        assert len(keeping.environment) == sum(map(bool, keeping))
