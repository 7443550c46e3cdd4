"""Faults that hit a topic that workers write, or only look at when they start.

A changelog or a source that is deleted takes with it what the checker compares with, and so do dead
letters and receipts: `test_faults_topics.py` has them, each in a shop of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream.kafka.specs import changelog_topic, wanted_topics
from stream.kafka.topics import create_topics
from tests.chaos.faulty import admin_of, configure, delete
from tests.chaos.fleet import Stuck
from tests.chaos.schedule import Fault
from tests.chaos.shop import PARTITIONS, Shop

NARROW_BYTES = 200  # no batch is as small
MET_S = 30.0  # within which a worker meets what is wrong with a topic
MOST_S = 1.0  # that it stays so once one did


class TopicHits:
    """Does them to a shop's topics, and mends these once a worker met what is wrong."""

    def __init__(self, shop: Shop) -> None:
        self._shop, self._fleet = shop, shop.fleet
        self.kinds: dict[str, Callable[[Fault], None]] = {
            "narrow changelog": self._narrow_changelog,
            "narrow output": self._narrow_output,
            "asked topic": self._asked,
            "lists anew": self._lists_anew,
        }

    @contextmanager
    def _refused(self, *words: str) -> Iterator[None]:
        """Workers may be refused for a reason with one of these in it, until all serve again."""
        self._fleet.refused = words
        yield
        self._fleet.wait_until_ready()
        self._fleet.refused = ()

    def _until_met(self, *words: str) -> None:
        """Wait until a worker ended, or was refused, for one of these reasons."""
        ends = self._fleet.ends
        before = len(ends)

        def met() -> bool:
            return any(word in why for _, _, why in ends[before:] for word in words)

        if not self._fleet.wait_until(met, MET_S):
            raise Stuck(f"no worker ended, or was refused, by any of {words}: {ends[before:]}")

    # -- too small for a batch ---------------------------------------------------------------

    def _narrow_changelog(self, fault: Fault) -> None:
        """No batch of states fits into the changelog's max.message.bytes."""
        self._narrow(changelog_topic(self._shop.settings), fault)

    def _narrow_output(self, fault: Fault) -> None:
        """The lists' topic, or that of the receipts, refuses every record."""
        topics = self._shop.settings.topics
        self._narrow(topics.recommendations if fault.victim < 0.5 else topics.receipts, fault)

    def _narrow(self, topic: str, fault: Fault) -> None:
        right = next(spec for spec in wanted_topics(self._shop.settings) if spec.name == topic)
        takes = right.config.get("max.message.bytes", str(1 << 20))
        with self._refused(f"max.message.bytes={NARROW_BYTES}"):
            configure(self._shop, topic, max_message_bytes=str(NARROW_BYTES))
            self._until_met("max.message.bytes")
            self._fleet.wait(MOST_S * fault.amount)
            configure(self._shop, topic, max_message_bytes=takes)

    # -- gone, or of another shape -----------------------------------------------------------

    def _asked(self, fault: Fault) -> None:
        """The topic of requests, or of their answers, is deleted or has partitions added.

        Workers end themselves and none starts until it is made again. No state hangs on either.
        """
        topics = self._shop.settings.topics
        topic = topics.answers if fault.victim < 0.5 else topics.requests
        gone = fault.amount < 0.5
        words = "is missing" if gone else f"has {PARTITIONS + 2} partitions"
        with self._refused(words, "is missing"):  # for a moment, where it is made anew
            if gone:
                delete(self._shop, topic)
            else:
                with admin_of(self._shop) as admin:
                    admin.create_partitions({topic: PARTITIONS + 2})
            self._until_met(words, "is gone", "got more partitions")
            if not gone:
                delete(self._shop, topic)
            create_topics(self._shop.settings)

    def _lists_anew(self, fault: Fault) -> None:
        """The lists' topic is deleted and made anew, at once or after a while.

        The workers sleep until the subscriber has read all of the old one: what is in it is gone
        with it, and nothing else may be.
        """
        topic = self._shop.settings.topics.recommendations
        at_once = fault.victim < 0.5
        with self._refused("is missing"):
            sleepers = list(self._fleet.workers)
            try:
                for worker in sleepers:
                    worker.send(signal.SIGSTOP)
                self._shop.keep_lists()
                delete(self._shop, topic)
                if at_once:
                    create_topics(self._shop.settings)
            finally:
                for worker in sleepers:
                    worker.send(signal.SIGCONT)
            if not at_once:
                self._until_met("is gone", "is missing")
                self._fleet.wait(MOST_S * fault.amount)
                create_topics(self._shop.settings)
            self._shop.subscriber.read_anew()
