"""A schedule of faults, carried out on a shop's workers, their broker and its topics."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable

from tests.chaos.hits_broker import BrokerHits
from tests.chaos.hits_topics import TopicHits
from tests.chaos.hits_workers import WorkerHits
from tests.chaos.schedule import Fault
from tests.chaos.shop import Shop
from tests.chaos.storm_broker import StormKafka


class Storm:
    """Does faults one after the other.

    Attributes
    ----------
    happened : faults by kind
    workers : what befell the workers
    """

    def __init__(self, shop: Shop, broker: StormKafka, tell: Callable[[str], None]) -> None:
        self.happened: Counter[str] = Counter()
        self.workers = WorkerHits(shop)
        self._shop, self._fleet = shop, shop.fleet
        self._tell = tell
        self._began_s = time.monotonic()
        self._kinds: dict[str, Callable[[Fault], None]] = {
            **self.workers.kinds,
            **BrokerHits(shop, broker).kinds,
            **TopicHits(shop).kinds,
        }

    def rage(self, faults: Iterable[Fault], minutes: float | None = None) -> None:
        """Do `faults`, at most for `minutes`.

        Raises
        ------
        Stuck : the engine did not come back from one
        """
        self.workers.start()
        self._fleet.wait_until_ready()
        with (self._shop.folder / "faults.jsonl").open("w") as told:
            for fault in faults:
                if minutes is not None and time.monotonic() - self._began_s > minutes * 60:
                    break
                if not fault.at_once:
                    self._fleet.wait_until_ready()
                self._fleet.wait(fault.wait_s)
                self._tell(f"{time.monotonic() - self._began_s:6.1f} s  {fault.kind}")
                told.write(json.dumps({"time_s": time.time(), **fault._asdict()}) + "\n")
                told.flush()
                self.do(fault)
        self._fleet.wait_until_ready()

    def do(self, fault: Fault) -> None:
        """Let one fault happen."""
        self.happened[fault.kind] += 1
        kind, _, point = fault.kind.partition(" at ")
        if point:
            self.workers.kill_at(point, fault)
        else:
            self._kinds[kind](fault)
