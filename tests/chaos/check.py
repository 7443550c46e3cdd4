"""The verdict on a run: what the logs and the histories hold against what they must.

Written apart from the engine: plain Python, event by event, with its own decoding (`decode.py`) and
fold (`fold.py`). It knows an engine by its changelog alone (`changelog.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from stream.config import Topics
from tests.chaos import decode
from tests.chaos.changelog import Changelog
from tests.chaos.decode import At
from tests.chaos.erasures import (
    Forgotten,
    Receipt,
    check_done,
    check_receipts,
    check_taken_back,
)
from tests.chaos.fold import Arithmetic, Reference
from tests.chaos.history import fingerprint
from tests.chaos.logs import Record
from tests.chaos.outputs import Owned, check_letters, check_lists
from tests.chaos.shop import Shop
from tests.chaos.verdict import Verdict


@dataclass
class _Partition:
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


class _Folded(NamedTuple):
    """What became of the users: who was forgotten, and who has a state in the end."""

    forgotten: Forgotten
    here: set[bytes]


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
        folded = _check_states(shop.changelog, partition, sources, arithmetic, verdict)
        _check_outputs(shop, partition, sources, folded, verdict)
    return verdict


def _sort_out(shop: Shop, partition: int, verdict: Verdict) -> _Partition:
    """Read the sources of a partition, and hold them to what was acknowledged."""
    topics = shop.settings.topics
    found = _Partition()
    for topic in (topics.clicks, topics.purchases, topics.items, topics.erasures):
        acknowledged = shop.traffic.produced.acknowledged[topic, partition]
        there = 0
        for record in shop.logs.records(topic, partition):
            at = (topic, record.offset)
            try:
                _take_in(record, at, topics, found)
            except decode.BadRecordError:
                found.bad[at] = record
            told = acknowledged.get(record.offset)
            if told is not None:
                there += told.print == fingerprint(record.key, record.value, record.headers)
                if told.good == (at in found.bad):
                    raise ValueError(f"{topic}-{partition}@{record.offset} is not as it was meant")
        verdict.count("lost_events", f"{topic}-{partition}", len(acknowledged) - there)
    return found


def _take_in(record: Record, at: At, topics: Topics, found: _Partition) -> None:
    """Put a record where it belongs; raises BadRecordError."""
    key, value = record.key, record.value
    if at[0] == topics.items:
        decode.item(key, value)
    elif at[0] == topics.erasures:
        erasure = decode.erasure(key, value)
        if erasure is None:
            found.done[key or b""] = record.offset
        else:
            found.erasures[at] = erasure
    else:
        types = decode.CLICKS if at[0] == topics.clicks else decode.PURCHASES
        found.events[at] = decode.event(key, value, types)


def _check_states(
    changelog: Changelog,
    partition: int,
    sources: _Partition,
    arithmetic: Arithmetic,
    verdict: Verdict,
) -> _Folded:
    """Fold the events of every step and compare the states that it left."""
    users: dict[bytes, Reference] = {}
    forgotten = Forgotten()
    applied: set[At] = set()
    wrong: set[bytes] = set()
    for step in changelog.steps(partition, verdict):
        touched: set[bytes] = set()
        erased: set[bytes] = set()
        for at in step.order:
            event, erasure = sources.events.get(at), sources.erasures.get(at)
            if at in applied:
                verdict.count("doubled_events", step.where)
            elif erasure is not None:
                forgotten.erase(at, erasure, step.rank)
                users.pop(erasure.user, None)
                touched.discard(erasure.user)
                erased.add(erasure.user)
            elif event is not None and forgotten.heeds(at, event, event.user in users):
                if event.user not in users:
                    until_ms = forgotten.until_ms.get(event.user, 0)
                    users[event.user] = Reference(arithmetic, until_ms)
                users[event.user].fold(event)
                touched.add(event.user)
            applied.add(at)
        forgotten.check_marks(erased, step.marks, step.where, verdict)
        verdict.count("unerased_users", step.where, len(erased - touched - step.states.keys()))
        for key in touched | step.states.keys():
            state = step.states.get(key)
            if key in step.states and state is None:
                verdict.tombstones += 1
                verdict.count("dropped_users", step.where, key not in erased or key in touched)
                users.pop(key, None)
                continue
            if key not in touched:
                verdict.count("doubled_events", step.where)
            if key not in users or state != users[key].encode():
                verdict.examples.setdefault("wrong_states", step.where)
                wrong.add(key)
    verdict.wrong_states += len(wrong)
    verdict.events += len(sources.events)
    verdict.users += len({event.user for event in sources.events.values()})
    _count_lost(sources.events.keys() - applied, partition, verdict)
    _count_lost(sources.erasures.keys() - applied, partition, verdict)
    return _Folded(forgotten, set(users))


def _count_lost(lost: Iterable[At], partition: int, verdict: Verdict) -> None:
    for topic, offset in sorted(lost):
        verdict.count("lost_events", f"{topic}-{partition}@{offset}")


def _check_outputs(
    shop: Shop, partition: int, sources: _Partition, folded: _Folded, verdict: Verdict
) -> None:
    """Judge what came of them; the changelog has just been read, so it knows the owners."""
    topics, forgotten = shop.settings.topics, folded.forgotten
    lists = [Owned(seen, shop.changelog.rank(by)) for seen, by in shop.lists(partition)]
    check_lists(lists, partition, sources.events, verdict, forgotten.excused)
    check_letters(shop.subscriber.seen.letters[partition], sources.bad, verdict)
    receipts = [
        Receipt(record, shop.changelog.rank(batch.writer))
        for batch in shop.logs.batches(topics.receipts, partition)
        for record in batch.records
    ]
    check_receipts(sources.erasures, forgotten, receipts, partition, verdict)
    check_done(sources.erasures, sources.done, verdict)
    check_taken_back(sources.erasures, forgotten, lists, folded.here, verdict)
