"""The verdict on a run: what the logs and the histories hold against what they must.

Written apart from the engine: plain Python, event by event, with its own decoding (`decode.py`) and
fold (`fold.py`). It knows an engine by its changelog alone (`changelog.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.chaos import decode
from tests.chaos.changelog import At, Changelog
from tests.chaos.decode import APPLIED_KEY
from tests.chaos.fold import Arithmetic, Reference
from tests.chaos.history import fingerprint
from tests.chaos.logs import Record
from tests.chaos.outputs import Owned, check_letters, check_lists
from tests.chaos.shop import Shop
from tests.chaos.verdict import Verdict

__all__ = ["APPLIED_KEY", "Verdict", "check"]


@dataclass
class _Partition:
    """Records of one partition of all sources, sorted out.

    Attributes
    ----------
    events : good events of clicks and purchases
    bad : bad records of these and of the catalogue
    """

    events: dict[At, decode.Event]
    bad: dict[At, Record]


def check(shop: Shop) -> Verdict:
    """Read all that the brokers have and compare it with the reference.

    The workers should have nothing left to do.

    Raises
    ------
    ValueError : there is nothing to judge by: records are missing, or the shop sent other than it
        meant to
    """
    shop.subscribe()
    shop.subscriber.finish()
    shop.logs.find()
    verdict = Verdict()
    arithmetic = Arithmetic(shop.bundle, shop.traffic.new_items)
    for partition in range(shop.settings.topics.partitions):
        sources = _sort_out(shop, partition, verdict)
        _check_states(shop.changelog, partition, sources, arithmetic, verdict)
        _check_outputs(shop, partition, sources, verdict)
    return verdict


def _sort_out(shop: Shop, partition: int, verdict: Verdict) -> _Partition:
    """Read the sources of a partition, and hold them to what was acknowledged."""
    topics = shop.settings.topics
    found = _Partition({}, {})
    kinds = ((topics.clicks, decode.CLICKS), (topics.purchases, decode.PURCHASES))
    for topic, types in (*kinds, (topics.items, None)):
        acknowledged = shop.traffic.produced.acknowledged[topic, partition]
        there = 0
        for record in shop.logs.records(topic, partition):
            at = (topic, record.offset)
            try:
                if types is None:
                    decode.item(record.key, record.value)
                else:
                    found.events[at] = decode.event(record.key, record.value, types)
            except decode.BadRecordError:
                found.bad[at] = record
            told = acknowledged.get(record.offset)
            if told is not None:
                there += told.print == fingerprint(record.key, record.value, record.headers)
                if told.good == (at in found.bad):
                    raise ValueError(f"{topic}-{partition}@{record.offset} is not as it was meant")
        verdict.count("lost_events", f"{topic}-{partition}", len(acknowledged) - there)
    return found


def _check_states(
    changelog: Changelog,
    partition: int,
    sources: _Partition,
    arithmetic: Arithmetic,
    verdict: Verdict,
) -> None:
    """Fold the events of every step and compare the states that it left."""
    users: dict[bytes, Reference] = {}
    applied: set[At] = set()
    wrong: set[bytes] = set()
    for step in changelog.steps(partition, verdict):
        touched = set()
        for at in step.order:
            event = sources.events.get(at)
            if at in applied:
                verdict.count("doubled_events", step.where)
            elif event is not None:
                if event.user not in users:
                    users[event.user] = Reference(arithmetic)
                users[event.user].fold(event)
                touched.add(event.user)
            applied.add(at)
        for key in touched | step.states.keys():
            state = step.states.get(key)
            if key not in touched and state is not None:
                verdict.count("doubled_events", step.where)
            if key in step.states and state is None:
                verdict.tombstones += 1
                users.pop(key, None)
            elif key not in users or state != users[key].encode():
                verdict.examples.setdefault("wrong_states", step.where)
                wrong.add(key)
    verdict.wrong_states += len(wrong)
    verdict.events += len(sources.events)
    verdict.users += len({event.user for event in sources.events.values()})
    _count_lost(sources.events.keys() - applied, partition, verdict)


def _count_lost(lost: Iterable[At], partition: int, verdict: Verdict) -> None:
    for topic, offset in sorted(lost):
        verdict.count("lost_events", f"{topic}-{partition}@{offset}")


def _check_outputs(shop: Shop, partition: int, sources: _Partition, verdict: Verdict) -> None:
    """Judge what the subscriber saw; the changelog has just been read, so it knows the owners."""
    topic = shop.settings.topics.recommendations
    writers = shop.logs.writers(topic, partition)
    lists = [
        Owned(seen, shop.changelog.rank(writers.of(seen.offset)))
        for seen in shop.subscriber.seen.lists[partition]
    ]
    check_lists(lists, partition, sources.events, verdict)
    check_letters(shop.subscriber.seen.letters[partition], sources.bad, verdict)
