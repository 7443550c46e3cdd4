"""Engines that the harness can run: what a worker of each is, and how its changelog is read.

The plain Faust agent does the same job: the same fold of the same events into a table, a list with
its cause for each event, dead letters as they came. So that its changelog says what was applied in
which order, a state there begins with the event that made it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.changelog import Changelog, FreshetChangelog, Step
from tests.chaos.fleet import FRESHET, Engine, Worker
from tests.chaos.logs import Logs, Writer
from tests.chaos.schedule import KILLS, OTHERS, PLAIN
from tests.chaos.verdict import Verdict

MADE_BY = struct.Struct("<Bq")  # number of the topic, offset
READY_LINE = "faust peer: serving"
NEW_ITEMS = "new_items.json"  # beside the configuration: embeddings that only the catalogue has


class FaustChangelog:
    """A record of its table's changelog is a step of one event.

    Parameters
    ----------
    topic : as Freshet would have named it, which is also Faust's name
    """

    def __init__(self, logs: Logs, topic: str) -> None:
        self._logs, self._topic = logs, topic
        unique = topic.removeprefix("shop-").removesuffix("-interests-changelog")
        self._sources = (f"clicks-{unique}", f"purchases-{unique}")

    def rank(self, writer: Writer) -> int:
        """Faust's batches do not say who wrote them."""
        return 0

    def steps(self, partition: int, verdict: Verdict) -> Iterator[Step]:
        for record in self._logs.records(self._topic, partition):
            number, offset = MADE_BY.unpack_from(record.value or b"")
            state = (record.value or b"")[MADE_BY.size :]
            where = f"{self._topic}-{partition}@{record.offset}"
            yield Step([(self._sources[number], offset)], {record.key or b"": state}, where, {}, 0)


@dataclass(frozen=True)
class Peer:
    """An engine, its changelog, the faults of its schedule; whether it reads these topics."""

    engine: Engine
    changelog: Callable[[Logs, str], Changelog]
    kills: tuple[str, ...]
    others: tuple[str, ...]
    catalogue: bool = True
    erasures: bool = True


def _says_ready(worker: Worker) -> bool:
    return READY_LINE in worker.log.read_text(errors="replace")


PEERS = {
    "freshet": Peer(FRESHET.instead("tests.chaos.clock_steps"), FreshetChangelog, KILLS, OTHERS),
    # Its own worst points are not known here: all kills are at random. It looks at no topic's
    # configuration, and its clock is not set.
    "faust": Peer(
        Engine(("tests.chaos.plain_faust",), _says_ready),
        FaustChangelog,
        ("kill",) * len(KILLS),
        PLAIN,
        catalogue=False,
        erasures=False,
    ),
}
