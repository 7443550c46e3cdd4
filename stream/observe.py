"""What a micro-batch did, as metrics and as a word to the operator.

In: a batch, the step's result, times. Out: observations. Knows nothing of how they are served, and
puts no user and no item into a label or a log line.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from stream import metrics
from stream.core.engine import StepResult
from stream.kafka.batches import RecordBatch

log = logging.getLogger(__name__)


class Observer:
    """Counts batches, and warns once in its life of a producer with another partitioner."""

    def __init__(self) -> None:
        self._warned = False

    def acked(self, batch: RecordBatch, result: StepResult, begun_s: float, sent_s: float) -> None:
        """Count a micro-batch whose states and lists are acknowledged.

        Parameters
        ----------
        begun_s, sent_s : wall-clock time, seconds since 1970; when the step began, and when its
            records were handed to the producer
        """
        acked_s = time.time()
        self._count(batch.topic, result)
        metrics.BATCH_EVENTS.observe(len(batch))
        seconds = metrics.STAGE_SECONDS
        seconds.labels("poll").observe(max(begun_s - batch.timestamps_ms[-1] / 1000, 0.0))
        for stage, stage_s in result.stage_s.items():
            seconds.labels(stage).observe(stage_s)
        seconds.labels("publish").observe(acked_s - sent_s)
        stamps_s = np.array(batch.timestamps_ms, np.float64) / 1000
        metrics.EVENT_TO_LIST_SECONDS.observe_many(acked_s - stamps_s)
        if result.misrouted and not self._warned:
            self._warned = True
            self._warn(batch, result)

    def _count(self, topic: str, result: StepResult) -> None:
        metrics.EVENTS_TOTAL.labels(topic).inc(result.folded)
        metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "applied").inc(result.skipped)
        metrics.EVENTS_SKIPPED_TOTAL.labels(topic, "repeated").inc(result.repeated)
        metrics.UNKNOWN_ITEM_EVENTS_TOTAL.inc(result.unknown_items)
        metrics.MISROUTED_RECORDS_TOTAL.labels(topic).inc(result.misrouted)
        for placement, lists in result.lists_by_placement.items():
            metrics.LISTS_TOTAL.labels(placement).inc(lists)
        for rejection in result.rejections:
            metrics.DEAD_LETTERS_TOTAL.labels(topic, rejection.reason).inc()

    def _warn(self, batch: RecordBatch, result: StepResult) -> None:
        log.warning(
            "topic %s, partition %d: %d records sit in another partition than their key's, so a "
            "user's events may reach two workers. The producer must partition by murmur2 as the "
            "Java client does (librdkafka: partitioner=murmur2_random)",
            batch.topic,
            batch.partition,
            result.misrouted,
        )
