"""A test split through a worker, event by event, and the offline evaluation of the same events.

In: a model's name. Out: the lists that a worker publishes, the lists that
`export.measuring.evaluate` makes, and where they differ. Every event is sent when the list of its
user's last one has come, so that each list has one event as its cause, and stands beside the answer
to the question after that event.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from export.bundle import write_bundle
from export.data.cleaning import clean
from export.data.dataset import Log, read_log
from export.measuring.evaluate import RING, replay
from export.measuring.questions import Questions, moments_asked
from export.training.train import fit
from stream.config import load_settings
from stream.contracts import (
    Click,
    Purchase,
    RankedList,
    Recommendation,
    decode_recommendation,
    encode_record,
)
from stream.core.bundle import Bundle
from stream.core.model import Model
from stream.core.policy.placement import LeavesOut
from tests.support.freshet import Freshet, interrupt, producing, wait_for

THEMES, ITEMS = 40, 20  # more than 20 blocks of the top-k
VISITORS, DAYS = 500, 30
REGULAR = "regular"  # comes every day, so that the ring overflows
BEGIN_MS, DAY_MS = 1_700_000_000_000, 86_400_000
SINCE_MS = BEGIN_MS + (DAYS - 1) * DAY_MS  # the newest visits are the test split
TYPES = ("view", "click", "add_to_cart", "like", "dislike", "remove_from_cart", "impression")
ODDS = (0.35, 0.35, 0.1, 0.05, 0.05, 0.03, 0.07)
LISTS_WITHIN_S = 15.0
SCORE_WITHIN = 1e-6  # they are published with 6 decimals

Event = Click | Purchase
At = tuple[str, int]  # a user, and how many of the user's events are known


class Shown(NamedTuple):
    """A list as users see it."""

    items: list[str]
    scores: list[float]

    def is_like(self, other: Shown) -> bool:
        """The same items at the same places, with the same scores."""
        return self.items == other.items and bool(
            np.allclose(self.scores, other.scores, rtol=0, atol=SCORE_WITHIN)
        )

    def places_unlike(self, other: Shown) -> int:
        """Places that hold another item, or one in one list alone."""
        return sum(one != two for one, two in zip_longest(self.items, other.items))

    def furthest_score(self, other: Shown) -> float:
        """The largest difference of two scores at one place."""
        pairs = zip(self.scores, other.scores, strict=False)
        return max((abs(one - two) for one, two in pairs), default=0.0)


Lists = dict[At, dict[str, Shown]]  # by placement


@dataclass(slots=True)
class Compared:
    """Published lists beside those of the offline evaluation.

    Attributes
    ----------
    users, events : whose lists were compared; what was sent of them, repeats too
    lists, places : that were compared; items in the expected ones
    places_differing : that hold another item
    max_score_difference : at one place
    told : each list that differs, in words
    """

    users: int = 0
    events: int = 0
    lists: int = 0
    places: int = 0
    places_differing: int = 0
    max_score_difference: float = 0.0
    told: list[str] = field(default_factory=list)


class Split(NamedTuple):
    """The two sides of a log.

    Attributes
    ----------
    older : what is trained on
    deliveries : records of each user with held-out events, from the first to the last, as a shop
        would send them: some arrive twice
    asked : what comes next, after every event of these users
    """

    older: Log
    deliveries: dict[str, list[Event]]
    asked: Questions


class Case(NamedTuple):
    """A trained model, two placements, and what it lists there by the offline evaluation."""

    shop: Split
    bundle: Bundle
    settings: Path
    expected: Lists


def visit(
    rng: np.random.Generator, user: str, start_ms: int, themes: int = THEMES
) -> Iterator[Event]:
    """Steps on from item to item of a theme, now and then back; may end in a purchase."""
    theme, at = rng.integers(themes), rng.integers(ITEMS)
    shown: list[str] = []
    time_ms = start_ms
    for step in range(int(rng.integers(2, 7))):
        item = f"i{theme * ITEMS + (at + step) % ITEMS}"
        if shown and rng.random() < 0.2:
            item = shown[-1]
        elif start_ms >= SINCE_MS and rng.random() < 0.15:
            item = f"new-{rng.integers(5)}"
        shown.append(item)
        time_ms += int(rng.integers(500, 90_000))
        kind = str(rng.choice(TYPES, p=ODDS))
        yield Click(user, item, kind, time_ms, event_id=f"{user}-{time_ms}")  # type: ignore[arg-type]
    if rng.random() < 0.5:
        time_ms += 60_000
        yield Purchase(user, shown[-1], "purchase", time_ms, event_id=f"{user}-{time_ms}")


def shop(seed: int = 0) -> dict[str, list[Event]]:
    """Every visitor's events in time order."""
    rng = np.random.default_rng(seed)
    events: dict[str, list[Event]] = {}
    for number in range(VISITORS):
        starts = rng.integers(0, DAYS * DAY_MS, rng.integers(1, 4))
        events[f"u{number}"] = [
            event
            for start_ms in starts.tolist()
            for event in visit(rng, f"u{number}", BEGIN_MS + start_ms)
        ]
    # Of few themes, so that what the ring has forgotten is worth listing.
    events[REGULAR] = [
        event
        for day in range(DAYS - 14, DAYS)
        for event in visit(rng, REGULAR, BEGIN_MS + day * DAY_MS, themes=3)
    ]
    for of_user in events.values():
        of_user.sort(key=lambda event: event.event_time_ms)
    return events


def split(folder: Path) -> Split:
    """The toy shop's log, written, read and cleaned as `freshet-export` does it."""
    events = shop()
    path = folder / "log.jsonl"
    lines = [encode_record(event) for of_user in events.values() for event in of_user]
    path.write_bytes(b"\n".join(lines))
    log, _ = clean(read_log(path, "events"))
    assert len(log) == len(lines)
    held_out = np.unique(log.user[log.time_ms >= SINCE_MS])
    asked = moments_asked(log.only_users(held_out.astype(np.int64)))
    deliveries = {
        log.users[code]: [*_delivered(events[log.users[code]])] for code in held_out.tolist()
    }
    return Split(log.before(SINCE_MS), deliveries, asked)


def _delivered(events: Sequence[Event]) -> Iterator[Event]:
    """Every fifth event comes a second time, after the next one.

    Impressions do not: they are not in the ring, which knows a repeat.
    """
    for number, event in enumerate(events):
        yield event
        if number % 5 == 1 and events[number - 1].type != "impression":
            yield events[number - 1]


def case_of(
    model: str, leaves_out: LeavesOut, parameters: Mapping[str, float], folder: Path
) -> Case:
    """Train on the older events; the manifest says whether seen and bought items may come back."""
    shop = split(folder)
    fitted = fit(shop.older, model, parameters, lambda line: None)
    assert fitted.calibration is not None
    said = replace(fitted, exclude_seen=leaves_out.seen, exclude_bought=leaves_out.bought)
    bundle = write_bundle(said, folder / "bundle")
    settings = _placements(folder, leaves_out)
    return Case(shop, bundle, settings, offline(bundle, settings, shop.asked))


def _placements(folder: Path, leaves_out: LeavesOut) -> Path:
    """Settings of two placements: one leaves it all to the manifest, one says the opposite."""
    path = folder / "freshet.toml"
    seen, bought = (str(not excluded).lower() for excluded in leaves_out)
    path.write_text(
        "[placements.home]\n"
        f"[placements.cart]\nk = 12\nexclude_seen = {seen}\nexclude_bought = {bought}\n"
    )
    return path


def offline(bundle: Bundle, settings: Path, asked: Questions, *, ring: int = RING) -> Lists:
    """What the evaluation lists for each question, by placement."""
    model = Model(bundle, "cpu", spare_rows=0)
    users = [asked.log.users[asked.log.user[history[0]]] for history in asked.histories]
    found: Lists = defaultdict(dict)
    for name, rules in load_settings(settings, environ={}).placements.items():
        answers = replay(model, asked, rules=rules, ring=ring)
        for query, rows, scores in zip(asked.queries, answers.listed, answers.scores, strict=True):
            listed = rows > 0
            items = [bundle.item_ids[row] for row in rows[listed].tolist()]
            shown = Shown(items, scores[listed].tolist())
            found[users[query.user], query.position][name] = shown
    return found


def streamed(freshet: Freshet, case: Case) -> Iterator[tuple[At, dict[str, Shown]]]:
    """What a worker publishes after each delivery, by placement."""
    deliveries = case.shop.deliveries
    freshet.run("topics", "create")
    environ = {"FRESHET_BUNDLE": str(case.bundle.path), "FRESHET_CONFIG": str(case.settings)}
    with (
        freshet.start("worker", environ=environ) as worker,
        producing(freshet.bootstrap) as producer,
        _reading(freshet) as lists,
    ):
        wait_for(worker, "took partitions")
        known: dict[str, set[str]] = defaultdict(set)
        for number in range(max(map(len, deliveries.values()))):
            sent = {}
            for user, events in deliveries.items():
                if number < len(events):
                    event = events[number]
                    known[user].add(str(event.event_id))
                    topic = "purchases" if isinstance(event, Purchase) else "clicks"
                    sent[user] = producer.send(
                        freshet.topic[topic], key=user.encode(), value=encode_record(event)
                    )
            producer.flush()
            places = {user: future.get(timeout=10) for user, future in sent.items()}
            causes = {(p.topic, p.partition, p.offset): user for user, p in places.items()}
            for user, published in _published(lists, causes):
                shown = {name: _shown(of) for name, of in published.lists.items()}
                yield (user, len(known[user])), shown
        interrupt(worker)


def _published(
    lists: KafkaConsumer, causes: dict[tuple[str, int, int], str]
) -> Iterator[tuple[str, Recommendation]]:
    """The lists with these causes, each once, as they come; no other list may come."""
    deadline = time.monotonic() + LISTS_WITHIN_S
    while causes:
        assert time.monotonic() < deadline, f"no list for {sorted(causes.values())}"
        for records in lists.poll(timeout_ms=100).values():
            for record in records:
                published = decode_recommendation(record.value)
                cause = published.cause
                user = causes.pop((cause.topic, cause.partition, cause.offset))
                assert (user, user.encode()) == (published.user_id, record.key)
                yield user, published


def _shown(ranked: RankedList) -> Shown:
    assert [listed.rank for listed in ranked.items] == [*range(1, len(ranked.items) + 1)]
    return Shown([one.item_id for one in ranked.items], [one.score for one in ranked.items])


@contextlib.contextmanager
def _reading(freshet: Freshet) -> Iterator[KafkaConsumer]:
    # The embedded broker holds a fetch until its time is over, and a round waits for one.
    lists = KafkaConsumer(bootstrap_servers=freshet.bootstrap, fetch_max_wait_ms=10)
    try:
        where = [TopicPartition(freshet.topic["recommendations"], number) for number in range(3)]
        lists.assign(where)
        lists.seek_to_beginning(*where)
        yield lists
    finally:
        lists.close(autocommit=False)


def compare(expected: Lists, published: Iterable[tuple[At, Mapping[str, Shown]]]) -> Compared:
    """Lay published lists beside the expected ones; each question must have been answered."""
    unanswered = set(expected)
    found = Compared()
    for at, shown in published:
        unanswered.discard(at)
        found.events += 1
        for name, wanted in expected.get(at, {}).items():
            found.lists += 1
            found.places += len(wanted.items)
            found.places_differing += shown[name].places_unlike(wanted)
            further = shown[name].furthest_score(wanted)
            found.max_score_difference = max(found.max_score_difference, further)
            if not shown[name].is_like(wanted):
                found.told.append(f"{at}, {name}: {shown[name]} is not {wanted}")
    assert not unanswered
    found.users = len({user for user, _ in expected})
    return found


def differences(expected: Lists, published: Iterable[tuple[At, Mapping[str, Shown]]]) -> list[str]:
    """Where published lists are not the expected ones."""
    return compare(expected, published).told
