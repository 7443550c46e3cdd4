"""What a micro-batch did, as metrics and as a word to the operator.

In: a batch, the step's result, times. Out: observations. Knows nothing of how they are served, and
puts no user and no item into a label or a log line.
"""

from __future__ import annotations

import logging
import time
from collections import Counter as Counted
from functools import cache, partial
from typing import Final, NamedTuple

import numpy as np
from prometheus_client import Counter, Histogram

from stream import metrics
from stream.bulk import Axes, BulkCounter
from stream.contracts import REASONS
from stream.core.micro_batch import PartResult, StepResult
from stream.core.policy.lists import Lists
from stream.core.policy.variants import placement_and_variant
from stream.core.quality.live import Quality
from stream.core.quality.outcomes import BOUNDS, EXPLORED, LOOKED_UP, Outcomes
from stream.declared import keep_arms
from stream.kafka.batches import RecordBatch
from stream.settings import Topics

log = logging.getLogger(__name__)

LEFT: Final = ("expired", "evicted", "erased")


class Observer:
    """Counts what was done, and tells once in its life of each thing that somebody should mend.

    Parameters
    ----------
    quality : what knows how much of the catalogue is listed; None: that is not shown
    topics : their counters begin at 0; None: at the first that is counted
    lists : what makes them; those of its placements count, from 0. None: any do
    """

    def __init__(
        self,
        quality: Quality | None = None,
        topics: Topics | None = None,
        lists: Lists | None = None,
    ) -> None:
        self._quality = quality
        self._lists = lists
        self._arms: frozenset[str] = frozenset()
        self.follow()
        self._warned = False
        self._refused = False
        if topics is not None:
            _begin_at_0(topics)

    def follow(self) -> None:
        """Show the placements that there are now, and those that are gone no more."""
        if self._quality is not None:
            _show_quality(self._quality)
        if self._lists is not None:
            self._arms = frozenset(self._lists.arms)
            keep_arms(map(placement_and_variant, self._arms))
            _lists.cache_clear()  # it holds series that may be gone
            for arm in self._arms:
                _lists(arm)

    def stepped(self, result: StepResult) -> None:
        """Count a micro-batch whose states and lists are made."""
        metrics.BATCH_EVENTS.observe(result.records)
        for stage, stage_s in result.stage_s.items():
            _stage(stage).observe(stage_s)
        if result.outcomes is not None:
            _count_outcomes(result.outcomes)
        if result.refused_states:
            metrics.REFUSED_STATES_TOTAL.inc(result.refused_states)
            if not self._refused:
                self._refused = True
                log.error(
                    "states that are not finite come from the model: their users keep the old"
                )

    def acked(self, batch: RecordBatch, part: PartResult, begun_s: float, sent_s: float) -> None:
        """Count a part of a micro-batch whose states and lists are acknowledged.

        Parameters
        ----------
        begun_s, sent_s : wall-clock time, seconds since 1970; when the step began, and when the
            first of its records were handed to the producer
        """
        acked_s = time.time()
        self._count(batch.topic, part)
        _stage("poll").observe(max(begun_s - batch.timestamps_ms[-1] / 1000, 0.0))
        _stage("publish").observe(max(acked_s - sent_s, 0.0))  # less when the clock was set back
        if part.erased:
            return  # followed by a receipt, not by a list
        stamps_s = np.array(batch.timestamps_ms, np.float64) / 1000
        # A producer may write any timestamp: a sum that falls would read as a restart.
        took_s = np.maximum(acked_s - stamps_s, 0.0)
        if part.asked:
            metrics.REQUEST_TO_ANSWER_SECONDS.observe_many(took_s)
        else:
            metrics.EVENT_TO_LIST_SECONDS.observe_many(took_s)
        if part.misrouted and not self._warned:
            self._warned = True
            self._warn(batch, part)

    def _count(self, topic: str, part: PartResult) -> None:
        of = _of_topic(topic)
        of.folded.inc(part.folded)
        if part.skipped:
            of.applied.inc(part.skipped)
        if part.repeated:
            of.repeated.inc(part.repeated)
        if part.forgotten:
            of.forgotten.inc(part.forgotten)
        for reason, left in _left(part):
            metrics.USERS_LEFT_TOTAL.labels(reason).inc(left)
        if part.misrouted:
            of.misrouted.inc(part.misrouted)
        if part.unknown_items:
            metrics.UNKNOWN_ITEM_EVENTS_TOTAL.inc(part.unknown_items)
        for (kind, status), answers in Counted(part.answered).items():
            _answers(kind, status).inc(answers)
        if part.unchanged:
            metrics.UNCHANGED_RECORDS_TOTAL.inc(part.unchanged)
        for arm, lists in part.lists_by_arm.items():
            # What is acknowledged after a change may be of a placement that it took away.
            if self._lists is None or arm in self._arms:
                _lists(arm).inc(lists)
        for rejection in part.rejections:
            metrics.DEAD_LETTERS_TOTAL.labels(topic, rejection.reason).inc()

    def _warn(self, batch: RecordBatch, part: PartResult) -> None:
        log.warning(
            "topic %s, partition %d: %d records sit in another partition than their key's, so a "
            "user's events may reach two workers. The producer must partition by murmur2 as the "
            "Java client does (librdkafka: partitioner=murmur2_random)",
            batch.topic,
            batch.partition,
            part.misrouted,
            extra={"topic": batch.topic, "partition": batch.partition, "records": part.misrouted},
        )


def _show_quality(quality: Quality) -> None:
    """Have every series begin at 0, and coverage found when it is asked for: it falls by itself."""
    if quality.arms:
        _count_outcomes(Outcomes.none(quality.arms))
    metrics.QUALITY_COVERAGE_RATIO.clear()
    for placement in {arm.placement for arm in quality.arms}:
        gauge = metrics.QUALITY_COVERAGE_RATIO.labels(placement)
        gauge.set_function(partial(_coverage, quality, placement))


def _coverage(quality: Quality, placement: str) -> float:
    return quality.coverage(placement, int(time.time() * 1000))


_TYPES: Final = tuple((kind.name.lower(),) for kind in LOOKED_UP)
_EXPLORED: Final = tuple((way,) for way in EXPLORED)
_PROBABILITIES: Final = tuple((f"{bound:g}",) for bound in BOUNDS)
# What the axes behind the arm's are.
_AXES: Final[list[tuple[BulkCounter, str, Axes]]] = [
    (metrics.QUALITY_PLACES_TOTAL, "made", (_EXPLORED,)),
    (metrics.QUALITY_OUTCOMES_TOTAL, "looked_up", (_TYPES,)),
    (metrics.QUALITY_HITS_TOTAL, "hits", (_TYPES, _EXPLORED)),
    (metrics.QUALITY_RECIPROCAL_RANK_TOTAL, "reciprocal_rank", (_TYPES, _EXPLORED)),
    (metrics.QUALITY_EXPECTED_TOTAL, "expected", (_EXPLORED,)),
    (metrics.QUALITY_SHOWN_TOTAL, "shown", (_EXPLORED, _PROBABILITIES)),
    (metrics.QUALITY_CLICKED_TOTAL, "clicked", (_EXPLORED, _PROBABILITIES)),
    (metrics.QUALITY_IMPRESSIONS_TOTAL, "impressions", ()),
    (metrics.QUALITY_CLICKTHROUGHS_TOTAL, "clickthroughs", ()),
]


def _count_outcomes(outcomes: Outcomes) -> None:
    for counter, field, axes in _AXES:
        counter.add((outcomes.arms, *axes), getattr(outcomes, field))


def _begin_at_0(topics: Topics) -> None:
    """Show what has not happened: Prometheus sees no increase where a series was not there."""
    for topic in (topics.clicks, topics.purchases, topics.erasures, topics.requests):
        _of_topic(topic)
    for topic in (topics.clicks, topics.purchases, topics.erasures, topics.requests, topics.items):
        for reason in REASONS:
            metrics.DEAD_LETTERS_TOTAL.labels(topic, reason)
    for reason in LEFT:
        metrics.USERS_LEFT_TOTAL.labels(reason)


def _left(part: PartResult) -> list[tuple[str, int]]:
    """Users that left, by reason; no row where none did."""
    left = zip(LEFT, (part.expired, part.evicted, part.removed), strict=True)
    return [row for row in left if row[1]]


class _OfTopic(NamedTuple):
    """The counters of one source topic; looking a label up costs more than counting."""

    folded: Counter
    applied: Counter
    repeated: Counter
    forgotten: Counter
    misrouted: Counter


@cache
def _of_topic(topic: str) -> _OfTopic:
    return _OfTopic(
        folded=metrics.EVENTS_TOTAL.labels(topic),
        applied=metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "applied"),
        repeated=metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "repeated"),
        forgotten=metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "forgotten"),
        misrouted=metrics.MISROUTED_RECORDS_TOTAL.labels(topic),
    )


@cache
def _stage(stage: str) -> Histogram:
    return metrics.STAGE_SECONDS.labels(stage)


@cache
def _lists(arm: str) -> Counter:
    return metrics.LISTS_TOTAL.labels(*placement_and_variant(arm))


@cache
def _answers(kind: str, status: str) -> Counter:
    return metrics.ANSWERS_TOTAL.labels(kind, status)
