"""`freshet worker` with one mistake, for the tests of the checker.

    SABOTAGE=dropped_list python -m tests.chaos.sabotage worker --config ...

CHAOS_POINT, when it is set too, is one of `points.py`, or `between`: after the first batch that
`applied_apart` sends, and the first receipts of `early_receipt`. Nothing in the product does this.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stream.cli import main
from stream.contracts import Events
from stream.core import engine
from stream.kafka.applied import APPLIED_KEY, encode_applied
from stream.kafka.batches import Records
from stream.kafka.table import InterestTable, Turn
from stream.kafka.takeover import Takeover
from tests.chaos.decode import MARK
from tests.chaos.points import POINTS, Point, replace

Answers = list[asyncio.Future[Any]]
Outputs = Mapping[str, Records]
HELD_UP_S = 3.0

_send = InterestTable.send


def _sends(changed: Callable[[InterestTable, Turn, Records | None, Outputs], Any]) -> None:
    """Put `changed` in the place of `InterestTable.send`."""
    replace(InterestTable, "send", lambda original: changed)


def slow_lists() -> None:
    """No mistake: lists take some seconds longer to the broker than states do."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        answers = await _send(self, turn, changelog, {})
        answers.append(asyncio.ensure_future(_later(self, turn, outputs)))
        return answers

    _sends(send)


async def _later(table: InterestTable, turn: Turn, outputs: Outputs) -> None:
    await asyncio.sleep(HELD_UP_S)
    async with turn.holding.lock:  # in the order of their turns
        answers = await table.send_outputs(turn.holding, outputs)
    await asyncio.gather(*answers)


def commit_first() -> None:
    """An offset may be committed as soon as its batch is sent; lists are slow, too."""
    slow_lists()
    slow = InterestTable.send

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        answers = await slow(self, turn, changelog, outputs)
        self.app.consumer.settle(turn.batch)
        return answers

    _sends(send)


def applied_apart() -> None:
    """States in one batch, the `applied` record in the next."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        holding, topic = turn.holding, turn.batch.topic
        following = max(holding.applied.get(topic, 0), turn.batch.next)
        answers = []
        states = changelog or Records([], [])
        holding.applied[topic] = following
        applied = Records([APPLIED_KEY], [encode_applied(holding.applied_record(self.owner))])
        for records in (states, applied):
            if len(records):
                batch = await self._writer.one_batch(
                    records, self.changelog_topic_name, int(time.time() * 1000)
                )
                sent = await self._writer.send(
                    batch, self.changelog_topic_name, holding.partition, holding.fence
                )
                await sent
                answers.append(sent)
                POINT.passed()
        rest = await _send(self, turn, None, outputs)
        return [*rest, *answers]

    _sends(send)


def no_fence() -> None:
    """Partitions are taken over without a fence, and batches are sent without a right."""

    async def fence(*arguments: Any) -> None:
        """Leave `Holding.fence` as it is: None."""

    replace(Takeover, "_fence", lambda original: fence)


def dropped_list() -> None:
    """The lists of every seventh user of a batch are not published."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        lists = self.app.settings.topics.recommendations
        kept = [i for i in range(len(outputs[lists])) if i % 7 != 6]
        some = Records(
            [outputs[lists].keys[i] for i in kept], [outputs[lists].values[i] for i in kept]
        )
        return await _send(self, turn, changelog, {**outputs, lists: some})

    _sends(send)


def repeated_list() -> None:
    """The lists of a batch are published twice."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        lists = self.app.settings.topics.recommendations
        records = outputs[lists]
        twice = Records([*records.keys] * 2, [*records.values] * 2)
        return await _send(self, turn, changelog, {**outputs, lists: twice})

    _sends(send)


def altered_letter() -> None:
    """Dead letters get a space at their end."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        name = self.app.settings.topics.dead_letters
        letters = outputs[name]
        values = [value and value + b" " for value in letters.values]
        changed = Records(letters.keys, values, letters.headers)
        return await _send(self, turn, changelog, {**outputs, name: changed})

    _sends(send)


def double_fold() -> None:
    """The last event of every micro-batch is folded twice."""

    def make(fold: Any) -> Any:
        def twice(model: Any, catalogue: Any, users: Any, who: Any, events: Events) -> Any:
            folded = fold(model, catalogue, users, who, events)
            if len(events):
                last = events.take(np.array([len(events) - 1]))
                last.event_hashes[:] = 0  # or its event_id would tell it from a new one
                fold(model, catalogue, users, who[-1:], last)
            return folded

        return twice

    replace(engine, "fold", make)


def dropped_user() -> None:
    """Every third batch drops a user who is not in it."""
    batches = 0

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        nonlocal batches
        batches += 1
        states = changelog or Records([], [])
        gone = [key for key in turn.shard.keys if key not in states.keys][:1]
        if turn.source is not None and batches % 3 == 0 and gone:
            turn.shard.forget(gone)
            states = Records([*states.keys, *gone], [*states.values, None])
        return await _send(self, turn, states, outputs)

    _sends(send)


def lost_mark() -> None:
    """The marks of erasures are not written."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        states = changelog or Records([], [])
        kept = [i for i, key in enumerate(states.keys) if not (key or b"").startswith(MARK)]
        some = Records([states.keys[i] for i in kept], [states.values[i] for i in kept])
        return await _send(self, turn, some, outputs)

    _sends(send)


def kept_list() -> None:
    """The lists of erased users are not taken back."""

    async def send(
        self: InterestTable, turn: Turn, changelog: Records | None, outputs: Outputs
    ) -> Answers:
        name = self.app.settings.topics.recommendations
        lists = outputs.get(name, Records([], []))
        kept = [i for i, value in enumerate(lists.values) if value is not None]
        some = Records([lists.keys[i] for i in kept], [lists.values[i] for i in kept])
        return await _send(self, turn, changelog, {**outputs, name: some})

    _sends(send)


def no_receipt() -> None:
    """Erasures are done, and nobody is told."""

    def make(commit: Any) -> Any:
        async def silent(self: Turn, *given: Any, afterwards: Any = None, **options: Any) -> None:
            await commit(self, *given, **options)

        return silent

    replace(Turn, "commit", make)


def early_receipt() -> None:
    """Receipts are sent, and acknowledged, before anything else of the erasure."""

    def make(commit: Any) -> Any:
        async def hasty(self: Turn, *given: Any, afterwards: Any = None, **options: Any) -> None:
            if afterwards is not None:
                async with self.holding.lock:
                    answers = await self._desk.send_outputs(self.holding, await afterwards())
                await asyncio.gather(*answers)
                POINT.passed()
            await commit(self, *given, **options)

        return hasty

    replace(Turn, "commit", make)


SABOTAGES: dict[str, Callable[[], None]] = {
    made.__name__: made
    for made in (
        slow_lists,
        commit_first,
        applied_apart,
        no_fence,
        dropped_list,
        repeated_list,
        altered_letter,
        double_fold,
        dropped_user,
        lost_mark,
        kept_list,
        no_receipt,
        early_receipt,
    )
}
POINT = Point()

if __name__ == "__main__":
    SABOTAGES[os.environ["SABOTAGE"]]()
    if (name := os.environ.get("CHAOS_POINT", "between")) != "between":
        POINTS[name](POINT)
    sys.exit(main())
