"""What a turn waits for: nothing is settled before states and lists are acknowledged, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import pytest
from aiokafka.errors import KafkaTimeoutError, ProducerFenced

from stream.errors import BrokerError, FencedError, FreshetError
from stream.kafka.batches import RecordBatch, Records
from stream.kafka.holding import Holding, longest_wait_s
from stream.kafka.table import InterestTable
from stream.kafka.turn import Turn


class Answer(NamedTuple):
    offset: int


class Fatal(Exception):  # noqa: N818  # stands for the end of the process
    """What `app.fatal` does to a worker."""


class Desk:
    """In the place of table, app and consumer: hands out futures, notes what is settled."""

    def __init__(self) -> None:
        self.settled: list[int] = []
        self.reasons: list[BaseException] = []
        self.answers: list[list[asyncio.Future[Any]]] = []
        self.app: Any = self
        self.consumer = self
        self._room = asyncio.Semaphore(0)

    async def send(
        self, turn: Turn, changelog: Records | None, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        turn.records = 2
        loop = asyncio.get_running_loop()
        self.answers.append([loop.create_future() for _ in range(1 + len(outputs))])
        return self.answers[-1]

    def settle(self, what: Any) -> None:
        if isinstance(what, Holding):
            InterestTable.settle(self, what)  # type: ignore[arg-type]
        else:
            self.settled.append(what.next)

    async def send_outputs(
        self, holding: Holding, outputs: Mapping[str, Records]
    ) -> list[asyncio.Future[Any]]:
        loop = asyncio.get_running_loop()
        self.answers.append([loop.create_future() for _ in outputs])
        return self.answers[-1]

    def fatal(self, exc: BaseException) -> None:
        self.reasons.append(exc)
        raise Fatal


class Shard:
    nbytes = 0

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None: ...

    def __len__(self) -> int:
        return 0


def in_a_loop(test: Callable[[Desk], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        async def with_desk() -> None:
            # A raising callback must not be reported as an error of the test.
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
            await test(Desk())

        asyncio.run(with_desk())

    run.__name__ = test.__name__
    return run


async def commit(desk: Desk, holding: Holding, following: int, outputs: int) -> list[Any]:
    batch = RecordBatch("clicks", 0, following - 1, following, [b"u"], [b""], [following - 1], [0])
    turn = Turn(desk, holding, batch)
    await turn.commit(None, {f"out{n}": Records([], []) for n in range(outputs)})
    return desk.answers[-1]


async def answer(future: asyncio.Future[Any], with_: Any = None) -> None:
    if isinstance(with_, Exception):
        future.set_exception(with_)
    else:
        future.set_result(with_ or Answer(10))
    await asyncio.sleep(0)


@in_a_loop
async def test_nothing_is_settled_before_the_changelog_and_every_output_are_acknowledged(
    desk: Desk,
) -> None:
    answers = await commit(desk, Holding(0, Shard()), 5, outputs=2)
    for number, future in enumerate(answers):
        assert desk.settled == [], f"settled with {len(answers) - number} answers outstanding"
        await answer(future)
    assert desk.settled == [5]


@in_a_loop
async def test_the_changelog_alone_may_be_the_last_to_answer(desk: Desk) -> None:
    changelog, *outputs = await commit(desk, Holding(0, Shard()), 5, outputs=2)
    for future in outputs:
        await answer(future)
    assert desk.settled == []
    await answer(changelog)
    assert desk.settled == [5]


@in_a_loop
async def test_answers_out_of_order_settle_in_order(desk: Desk) -> None:
    holding = Holding(0, Shard())
    first, second, third = [await commit(desk, holding, n, outputs=1) for n in (5, 6, 7)]
    for future in [*third, *second]:
        await answer(future)
    assert desk.settled == [], "the first batch is still on its way"
    await answer(first[0])
    assert desk.settled == []
    await answer(first[1])
    assert desk.settled == [5, 6, 7]


@in_a_loop
async def test_what_comes_afterwards_is_sent_last_and_settled_with_the_turn(desk: Desk) -> None:
    made: list[str] = []

    async def afterwards() -> Mapping[str, Records]:
        made.append("receipts")
        return {"receipts": Records([], []), "erasures": Records([], [])}

    holding = Holding(0, Shard())
    batch = RecordBatch("erasures", 0, 4, 5, [b"u"], [b""], [4], [0])
    turn = Turn(desk, holding, batch)
    await turn.commit(None, {"lists": Records([], [])}, afterwards=afterwards)
    following = await commit(desk, holding, 6, outputs=0)
    changelog, lists = desk.answers[0]
    await answer(changelog)
    assert made == [], "the lists' tombstones are not acknowledged yet"
    await answer(lists)
    for _ in range(3):
        await asyncio.sleep(0)
    assert made == ["receipts"]
    receipts, erasures = desk.answers[2]
    await answer(following[0])
    await answer(receipts)
    assert desk.settled == []
    await answer(erasures)
    assert desk.settled == [5, 6]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("error", "reason"), [(KafkaTimeoutError(), BrokerError), (ProducerFenced(), FencedError)]
)
def test_a_failed_send_ends_the_worker_and_settles_nothing(
    which: int, error: Exception, reason: type[FreshetError]
) -> None:
    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        desk = Desk()
        answers = await commit(desk, Holding(0, Shard()), 5, outputs=1)
        await answer(answers[1 - which])
        await answer(answers[which], error)
        assert [type(found) for found in desk.reasons] == [reason]
        assert desk.settled == []

    asyncio.run(run())


@in_a_loop
async def test_the_end_of_the_changelog_is_known_only_when_the_broker_told_it(desk: Desk) -> None:
    holding = Holding(0, Shard())
    (future,) = await commit(desk, holding, 5, outputs=0)
    await answer(future, Answer(10))
    assert holding.log_end == 12
    (future,) = await commit(desk, holding, 6, outputs=0)
    await answer(future, Answer(-1))
    assert holding.log_end is None


@in_a_loop
async def test_the_oldest_batch_tells_for_how_long_it_waits(desk: Desk) -> None:
    waiting, idle = Holding(0, Shard()), Holding(1, Shard())
    holdings = {0: waiting, 1: idle}
    assert longest_wait_s({}) == longest_wait_s(holdings) == 0
    first, second = [await commit(desk, waiting, n, outputs=0) for n in (5, 6)]
    waiting.turns[0].sent_s -= 100
    waiting.turns[1].sent_s -= 10
    assert 100 <= longest_wait_s(holdings) < 105
    await answer(first[0])
    assert 10 <= longest_wait_s(holdings) < 15
    await answer(second[0])
    assert longest_wait_s(holdings) == idle.waits_s == 0
