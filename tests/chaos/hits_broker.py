"""Faults that hit the broker: it dies, its disk or the network before it is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.fleet import Stuck
from tests.chaos.schedule import Fault
from tests.chaos.shop import Shop
from tests.chaos.storm_broker import StormKafka

CUT_S = 10.0  # within which a worker sends what is to be cut
SLOWEST_MS = 150  # each write: a request to a few partitions takes most of a second
FOREVER_MS = 600_000


class BrokerHits:
    """Does them to a broker, and waits until the shop's workers serve again."""

    def __init__(self, shop: Shop, broker: StormKafka) -> None:
        self._fleet, self._broker = shop.fleet, broker
        self.kinds: dict[str, Callable[[Fault], None]] = {
            "broker": self._kill,
            "unreachable": self._unreachable,
            "silent": self._silent,
            "delay": self._delay,
            "cut": self._cut,
            "slow disk": self._slow_disk,
            "hung disk": self._hung_disk,
        }

    @contextmanager
    def _away(self) -> Iterator[None]:
        """Workers may end for the lack of it, until all serve again."""
        self._fleet.broker_away = True
        yield
        self._fleet.wait_until_ready()
        self._fleet.broker_away = False

    def _kill(self, fault: Fault) -> None:
        """SIGKILL; it starts again with its data."""
        with self._away():
            self._broker.kill()
            self._fleet.wait(2 * fault.amount)
            self._broker.start()

    # -- the network between the workers and it ----------------------------------------------

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
        with self._away():
            self._fleet.wait(0.5 + 3.5 * fault.amount)
            self._broker.proxy.forward()

    def _cut(self, fault: Fault) -> None:
        """Connections are cut in the middle of the next 1 to 3 produce requests."""
        proxy, times = self._broker.proxy, 1 + int(3 * fault.amount)
        before = proxy.cuts
        proxy.cut("produce", after=fault.victim, times=times)
        if not self._fleet.wait_until(lambda: proxy.cuts >= before + times, CUT_S):
            raise Stuck(f"only {proxy.cuts - before} of {times} requests came to be cut")

    # -- its disk ----------------------------------------------------------------------------

    def _slow_disk(self, fault: Fault) -> None:
        """Each write takes up to 0.15 s longer, for up to 3 s."""
        self._delay_writes(int(SLOWEST_MS * fault.victim), fault)

    def _hung_disk(self, fault: Fault) -> None:
        """No write ends for 0.5 to 3 s, which may be longer than a session. Reads do."""
        self._delay_writes(FOREVER_MS, fault)

    def _delay_writes(self, delay_ms: int, fault: Fault) -> None:
        assert self._broker.disk is not None, "left out of the schedule where there is none"
        with self._away():
            self._broker.disk.delay_ms = delay_ms
            self._fleet.wait(0.5 + 2.5 * fault.amount)
            self._broker.disk.delay_ms = 0
