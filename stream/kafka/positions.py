"""Where a source partition is read from. In: committed offsets, states, a reader. Out: positions.

A position that the states contradict is refused, never read on from in silence. Knows nothing of
Faust's consumer and of what a state means.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from aiokafka import TopicPartition
from faust.types import TP

from stream.errors import StateError, TopicError
from stream.kafka.batches import RecordBatch
from stream.kafka.holding import Holdings
from stream.kafka.reader import Reader

log = logging.getLogger(__name__)


def refuse_unknown(sources: Iterable[TP], wanted: int) -> None:
    """Refuse a partition that was added while the worker ran: no state is kept for it.

    Raises
    ------
    TopicError : the group gave us a partition above `wanted`
    """
    for tp in sources:
        if tp.partition >= wanted:
            raise TopicError(
                f"topic {tp.topic} got more partitions than topics.partitions ({wanted}): a user's "
                f"events and state do not meet. `freshet topics check` says what to do"
            )


async def needed_by_states(
    interests: Holdings,
    reader: Reader,
    starts: dict[TP, int | None],
    passing: Collection[str] = (),
) -> None:
    """Move `starts`, the committed offsets, back to what the states need.

    Parameters
    ----------
    passing : topics whose records change no state, which needs none of them

    Raises
    ------
    StateError : a partition ends before the offset up to which its events are in the states
    """
    ends: dict[TP, int] = {}
    if interests.fenced:  # the embedded broker's ends are too low
        ends = await reader.ends([TopicPartition(*tp) for tp in starts])
    known = {tp.partition for tp in starts if interests.applied(tp.partition, tp.topic) is not None}
    for tp, committed in starts.items():
        if tp.topic in passing:
            continue
        applied = interests.applied(tp.partition, tp.topic)
        if committed and tp.partition not in known:
            log.error(
                "changelog %s has nothing of partition %d, although %s was worked off up to offset "
                "%d: users start with empty states there. To fold what the topics still keep once "
                "more, stop the workers and set the group's offsets to the earliest "
                "(kafka-consumer-groups --reset-offsets --to-earliest)",
                interests.changelog_topic_name,
                tp.partition,
                tp.topic,
                committed,
                extra=tp._asdict(),
            )
        if applied is None:
            continue
        if applied > ends.get(TopicPartition(*tp), applied):
            raise StateError(
                f"{tp.topic}, partition {tp.partition}, ends before offset {applied}, yet its "
                f"events up to there are in the users' states: the topic was made anew or lost "
                f"records. Restore it, or delete changelog {interests.changelog_topic_name} to "
                f"start with empty states"
            )
        if committed is not None and applied < committed:
            starts[tp] = applied


class Continuity:
    """Whether what is fetched of a partition goes on where the last of it ended.

    Parameters
    ----------
    passing : topics whose records change no state; one that was made anew is read on

    aiokafka goes to the oldest record when an offset is not there any more, and says so in a line
    of level info. That is right after the topic's retention overtook the reader, and wrong when the
    topic was made anew: the states have events of the old one under the same offsets.
    """

    def __init__(self, passing: Collection[str] = ()) -> None:
        self._passing = passing
        self._next: dict[TopicPartition, int] = {}

    def start_at(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        """Begin anew with these positions; None may be anywhere."""
        self._next = {tp: offset for tp, offset in offsets.items() if offset is not None}

    async def check(self, reader: Reader, fetched: Mapping[TopicPartition, RecordBatch]) -> None:
        """Compare the next batches with what came before them.

        Raises
        ------
        StateError : a batch begins before the offset up to which its partition was read
        """
        for tp, batch in fetched.items():
            expected = self._next.get(tp, batch.base)
            self._next[tp] = batch.next
            if batch.base < expected and tp.topic in self._passing:
                log.warning(
                    "%s, partition %d, was read up to offset %d and begins with %d again: made "
                    "anew, or it lost records; going on",
                    *tp,
                    expected,
                    batch.base,
                    extra=tp._asdict(),
                )
            elif batch.base < expected:
                raise StateError(
                    f"{tp.topic}, partition {tp.partition}, was read up to offset {expected} and "
                    f"begins with {batch.base} again: the topic was made anew or lost records "
                    f"while the worker ran. The next start says what to do"
                )
            if batch.base > expected:  # compaction leaves such gaps; retention moves the beginning
                oldest = (await reader.beginnings([tp]))[tp]
                if oldest > expected:
                    log.error(
                        "%d records of %s, partition %d, were deleted by the topic's retention "
                        "before they were read: going on with offset %d",
                        oldest - expected,
                        *tp,
                        batch.base,
                        extra=tp._asdict(),
                    )
