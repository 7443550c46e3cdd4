"""Faults that hit a worker: it dies, sleeps, leaves, joins, or has its clock set."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.chaos.fleet import GROUP_S, Stuck, Worker
from tests.chaos.schedule import Fault
from tests.chaos.shop import SESSION_S, Shop

FEWEST, MOST = 2, 3  # workers
DEATH_S = GROUP_S + 40.0  # within which a worker reaches its point
AWAKE_S = 5.0  # within which a sleeper that has anything to send is gone
BATCHES = 20
HOUR_S = 3600.0
EARLIEST_S, LATEST_S, TOO_LATE_S = -5 * HOUR_S, 0.9 * HOUR_S, 2 * HOUR_S  # steps of a clock
TOO_LATE_SHARE = 0.3
TOLD_S = 30.0  # within which a worker is told that its clock is wrong


class WorkerHits:
    """Does them to a shop's workers.

    Attributes
    ----------
    kills : workers that died by SIGKILL
    refused : sleepers that the broker refused when they woke
    """

    def __init__(self, shop: Shop) -> None:
        self.kills = 0
        self.refused = 0
        self._fleet = shop.fleet
        self.kinds: dict[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "terminate": self._terminate,
            "sleep": self._sleep,
            "join": self._join,
            "leave": self._leave,
            "clock": self._set_clock,
        }

    def start(self) -> None:
        """Start as many workers as there must be."""
        for _ in range(FEWEST):
            self._fleet.start()

    def _victim(self, fault: Fault) -> Worker:
        workers = self._fleet.workers
        return workers[int(fault.victim * len(workers))]

    def _kill(self, fault: Fault) -> None:
        """SIGKILL to a worker, and another one in its place."""
        self._victim(fault).kill()
        self.kills += 1
        self._fleet.start()

    def kill_at(self, point: str, fault: Fault) -> None:
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

    def _set_clock(self, fault: Fault) -> None:
        """A worker's clock is set, and stays so for the rest of its life.

        Three in ten are set so far ahead that the broker refuses what it sends: it ends itself.
        """
        victim = self._victim(fault)
        if fault.amount >= TOO_LATE_SHARE:
            share = (fault.amount - TOO_LATE_SHARE) / (1 - TOO_LATE_SHARE)
            victim.set_clock(EARLIEST_S + share * (LATEST_S - EARLIEST_S))
            return
        victim.set_clock(TOO_LATE_S)
        if not self._fleet.wait_until(lambda: not victim.alive, TOLD_S):
            raise Stuck(f"{victim.name} lives with a clock of {TOO_LATE_S} s ahead")
        why = self._fleet.ends[-1][2] if self._fleet.ends else ""
        if "this machine's clock" not in why:
            self._fleet.wrong.append(f"{victim.name}, whose clock is wrong, ended by: {why}")
