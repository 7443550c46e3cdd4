"""A schedule of faults, carried out on a shop's workers and their broker."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable

from tests.chaos.fleet import Stuck, Worker
from tests.chaos.schedule import Fault
from tests.chaos.shop import SESSION_S, Shop
from tests.support.proxy import ProxiedKafka

FEWEST, MOST = 2, 3  # workers
DEATH_S = 40.0  # within which a worker reaches its point
AWAKE_S = 5.0  # within which a sleeper that has anything to send is gone
BATCHES = 20
CUT_S = 10.0  # within which a worker sends what is to be cut


class Storm:
    """Does faults one after the other.

    Attributes
    ----------
    happened : faults by kind
    kills : workers that died by SIGKILL
    refused : sleepers that the broker refused when they woke
    """

    def __init__(self, shop: Shop, broker: ProxiedKafka, tell: Callable[[str], None]) -> None:
        self.happened: Counter[str] = Counter()
        self.kills = 0
        self.refused = 0
        self._shop, self._fleet, self._broker = shop, shop.fleet, broker
        self._tell = tell
        self._began_s = time.monotonic()
        self._kinds: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "sleep": self._sleep,
            "join": self._join,
            "leave": self._leave,
            "broker": self._kill_broker,
            "unreachable": self._unreachable,
            "silent": self._silent,
            "delay": self._delay,
            "cut": self._cut,
        }

    def rage(self, faults: Iterable[Fault], minutes: float | None = None) -> None:
        """Do `faults`, at most for `minutes`.

        Raises
        ------
        Stuck : the engine did not come back from one
        """
        for _ in range(FEWEST):
            self._fleet.start()
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
            self._kill_at(point, fault)
        else:
            self._kinds[kind](fault)

    def _victim(self, fault: Fault) -> Worker:
        workers = self._fleet.workers
        return workers[int(fault.victim * len(workers))]

    # -- kinds of fault --------------------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        """SIGKILL to a worker, and another one in its place."""
        self._victim(fault).kill()
        self.kills += 1
        self._fleet.start()

    def _kill_at(self, point: str, fault: Fault) -> None:
        """One worker more, that kills itself at a point."""
        after = int(fault.amount * BATCHES) if point in ("sent", "acknowledged") else 0
        engine = self._fleet.engine.instead(
            "tests.chaos.points", CHAOS_POINT=point, CHAOS_AFTER=str(after)
        )
        mortal = self._fleet.start(engine, bound_to_end=True)
        guest = None
        if point == "rebalance":
            self._fleet.wait_until_ready()
            guest = self._fleet.start()
        self._await_death(mortal, point)
        self.kills += 1
        if guest is not None:
            self._fleet.retire(guest)

    def _await_death(self, mortal: Worker, point: str) -> None:
        died = self._fleet.wait_until(lambda: not mortal.alive, DEATH_S)
        if not died or mortal.process.returncode != -signal.SIGKILL:
            mortal.kill()
            raise Stuck(f"{mortal.name} did not come to {point!r}:\n{mortal.tail()}")

    def _terminate(self, fault: Fault) -> None:
        """SIGTERM to a worker, and another one in its place."""
        self._fleet.retire(self._victim(fault))
        self._fleet.start()

    def _sleep(self, fault: Fault) -> None:
        """SIGSTOP for longer than the session, then SIGCONT."""
        sleeper = self._victim(fault)
        sleeper.send(signal.SIGSTOP)
        self._fleet.wait(SESSION_S + 0.5 + 2 * fault.amount)
        before = len(self._fleet.ends)
        sleeper.send(signal.SIGCONT)
        self._fleet.wait_until(lambda: len(self._fleet.ends) > before, AWAKE_S * fault.victim)
        self.refused += any("another worker" in why for _, _, why in self._fleet.ends[before:])

    def _join(self, fault: Fault) -> None:
        """One worker more, or one less when there are many."""
        if len(self._fleet.workers) < MOST:
            self._fleet.start()
        else:
            self._fleet.retire(self._victim(fault))

    def _leave(self, fault: Fault) -> None:
        """One worker less, or one more when there are few."""
        if len(self._fleet.workers) > FEWEST:
            self._fleet.retire(self._victim(fault))
        else:
            self._fleet.start()

    def _kill_broker(self, fault: Fault) -> None:
        """SIGKILL to the broker; it starts again with its data."""
        self._fleet.broker_away = True
        self._broker.kill()
        self._fleet.wait(2 * fault.amount)
        self._broker.start()
        self._fleet.wait_until_ready()
        self._fleet.broker_away = False

    # -- the network between the workers and their broker ------------------------------------

    def _unreachable(self, fault: Fault) -> None:
        """All connections are cut and new ones refused, for up to 4 s."""
        self._broker.proxy.refuse()
        self._network_back(fault)

    def _silent(self, fault: Fault) -> None:
        """Connections stay and pass nothing, for up to 4 s: longer than a session."""
        self._broker.proxy.blackhole()
        self._network_back(fault)

    def _delay(self, fault: Fault) -> None:
        """Everything takes up to 0.3 s longer each way, for up to 4 s."""
        self._broker.proxy.delay(0.3 * fault.victim, 0.3 * fault.victim)
        self._network_back(fault)

    def _network_back(self, fault: Fault) -> None:
        self._fleet.broker_away = True
        self._fleet.wait(0.5 + 3.5 * fault.amount)
        self._broker.proxy.forward()
        self._fleet.wait_until_ready()
        self._fleet.broker_away = False

    def _cut(self, fault: Fault) -> None:
        """Connections are cut in the middle of the next 1 to 3 produce requests."""
        proxy, times = self._broker.proxy, 1 + int(3 * fault.amount)
        before = proxy.cuts
        proxy.cut("produce", after=fault.victim, times=times)
        if not self._fleet.wait_until(lambda: proxy.cuts >= before + times, CUT_S):
            raise Stuck(f"only {proxy.cuts - before} of {times} requests came to be cut")
