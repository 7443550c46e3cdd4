"""The verdict on a run: what the logs and the histories hold against what they must.

Written apart from the engine: plain Python, event by event, with its own decoding (`decode.py`),
fold (`fold.py`) and rules of who leaves (`leaving.py`). It knows an engine by its changelog alone
(`changelog.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.config import Topics
from tests.chaos import decode
from tests.chaos.decode import At
from tests.chaos.erasures import Receipt, check_done, check_receipts, check_taken_back
from tests.chaos.fold import Arithmetic
from tests.chaos.history import fingerprint
from tests.chaos.logs import Record
from tests.chaos.outputs import Owned, check_letters, check_lists
from tests.chaos.shop import Shop
from tests.chaos.states import Sources, States
from tests.chaos.verdict import Verdict
from tests.chaos.weighed import InForce, Weighed


def check(shop: Shop, settings: Sequence[InForce] = ()) -> Verdict:
    """Read all that the brokers have and compare it with the reference.

    The workers should have nothing left to do.

    Parameters
    ----------
    settings : of the workers, one after the other; empty: theirs never changed

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
    topics = shop.settings.topics
    for partition in range(topics.partitions):
        sources = _sort_out(shop, partition, verdict)
        states = States(sources, arithmetic, shop.keeping, topics.partitions, verdict)
        weighed = Weighed(sources, arithmetic, shop.keeping, settings)
        for step in shop.changelog.steps(partition, verdict):
            if settings:
                weighed.follow(step, states, verdict)
            states.take(step)
        states.finish(partition)
        lists = [Owned(seen, shop.changelog.rank(by)) for seen, by in shop.lists(partition)]
        weighed.check(lists, partition, verdict)
        _check_outputs(shop, lists, partition, sources, states, verdict)
    return verdict


def _sort_out(shop: Shop, partition: int, verdict: Verdict) -> Sources:
    """Read the sources of a partition, and hold them to what was acknowledged."""
    topics = shop.settings.topics
    found = Sources()
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


def _take_in(record: Record, at: At, topics: Topics, found: Sources) -> None:
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
        found.events[at] = decode.event(key, value, types)._replace(sent_ms=record.sent_ms)


def _check_outputs(
    shop: Shop,
    lists: list[Owned],
    partition: int,
    sources: Sources,
    states: States,
    verdict: Verdict,
) -> None:
    """Judge what came of them; the changelog has just been read, so it knows the owners."""
    topics, forgotten = shop.settings.topics, states.forgotten
    check_lists(lists, partition, sources.events, verdict, forgotten.excused)
    check_letters(shop.subscriber.seen.letters[partition], sources.bad, verdict)
    receipts = [
        Receipt(record, shop.changelog.rank(batch.writer))
        for batch in shop.logs.batches(topics.receipts, partition)
        for record in batch.records
    ]
    check_receipts(sources.erasures, forgotten, receipts, partition, verdict)
    check_done(sources.erasures, sources.done, verdict)
    check_taken_back(sources.erasures, forgotten, lists, states.standing, verdict)
