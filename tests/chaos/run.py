"""One run of chaos on a broker: traffic, faults, and the verdict. In: a plan. Out: a report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from stream.errors import BrokerError
from stream.settings import variable
from tests.chaos import schedule
from tests.chaos.check import check
from tests.chaos.fleet import Stuck
from tests.chaos.keeping import PLAIN, Keeping
from tests.chaos.peer import NEW_ITEMS, PEERS
from tests.chaos.shop import Shop, Shoppers
from tests.chaos.storm import Storm
from tests.chaos.storm_broker import StormKafka, possible
from tests.chaos.verdict import Verdict
from tests.support.slow_disk import why_missing


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes
    ----------
    kills : end after so many SIGKILLs to workers; None: the minutes decide
    minutes : end of the faults at the latest; None: the kills decide
    rate : events/s
    engine : a name of PEERS
    kill_kinds, other_kinds : of the schedule, in the place of the engine's own
    keeping : how workers keep states
    """

    seed: int
    kills: int | None
    minutes: float | None = None
    rate: int = 600
    engine: str = "freshet"
    kill_kinds: tuple[str, ...] = ()
    other_kinds: tuple[str, ...] = ()
    keeping: Keeping = PLAIN

    def faults(self) -> Iterator[schedule.Fault]:
        """The schedule; without end when the minutes alone decide.

        What cannot happen on this machine is left out of it, and the rest is as everywhere.
        """
        peer = PEERS[self.engine]
        kills, others = self.kill_kinds or peer.kills, self.other_kinds or peer.others
        kinds = {*kills, *possible(others)}
        rounds = (
            [fault for fault in faults if fault.kind in kinds]
            for faults in schedule.draw(self.seed, kills, others)
        )
        if self.kills is None:
            return chain.from_iterable(rounds)
        return schedule.until(rounds, self.kills)


MOST_LATE = 0.1  # of the stops


@dataclass
class Report:
    """What a run came to.

    Attributes
    ----------
    stuck : why it could not go on, empty when it could
    wrong_ends : workers that ended as none should
    stops : workers that were stopped
    late : those of them whose orderly stop took too long; they end at once
    ends : those that ended themselves and were started again, with the reason
    """

    plan: Plan
    verdict: Verdict = field(default_factory=Verdict)
    happened: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    refused: int = 0
    seconds: float = 0.0
    stuck: str = ""
    wrong_ends: list[str] = field(default_factory=list)
    stops: int = 0
    late: list[str] = field(default_factory=list)
    ends: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def right(self) -> bool:
        judged = self.verdict.events > 0 and self.verdict.right
        in_time = len(self.late) <= MOST_LATE * self.stops
        return judged and in_time and not self.stuck and not self.wrong_ends

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.plan.engine,
            "seed": self.plan.seed,
            "keeping": str(self.plan.keeping),
            "kills": self.kills,
            "faults": sum(self.happened.values()),
            **self.verdict.counts(),
            "right": self.right,
            "refused_sleepers": self.refused,
            "faults_by_kind": self.happened,
            "ended_themselves": len(self.ends),
            "stops": self.stops,
            "late_stops": len(self.late),
            "wrong_ends": self.wrong_ends,
            "stuck": self.stuck,
            "seconds": round(self.seconds, 1),
        }

    def table(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.happened.items()))
        lines = [
            f"{self.plan.engine}, seed {self.plan.seed}, {self.seconds:.0f} s: {kinds}",
            f"{self.plan.keeping}",
            f"{'kills':22}{self.kills:>10,}",
            f"{'faults':22}{sum(self.happened.values()):>10,}",
            self.verdict.table(),
            f"{'refused sleepers':22}{self.refused:>10,}",
            f"{'ended themselves':22}{len(self.ends):>10,}",
            f"{'late stops':22}{len(self.late):>10,} of {self.stops:,}",
            *(f"WRONG END: {end}" for end in self.wrong_ends),
        ]
        if self.stuck:
            lines.append(f"STUCK: {self.stuck}")
        lines.append("all is right" if self.right else "NOT RIGHT")
        return "\n".join(lines)


def run(
    plan: Plan,
    broker: StormKafka,
    unique: str,
    folder: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Carry the plan out; the workers and the traffic are gone afterwards, the broker is not.

    Parameters
    ----------
    broker : the workers go through its proxy, the traffic and the subscriber do not
    unique : suffix of topics and group
    folder : for histories and logs
    tell : is told each fault as it happens
    """
    report = Report(plan)
    peer = PEERS[plan.engine]
    if left_out := set(peer.others) - set(possible(peer.others)):
        tell(f"left out: {', '.join(sorted(left_out))}; {why_missing()}")
    began_s = time.monotonic()
    engine = peer.engine.where({variable("bootstrap"): broker.proxied})
    shop = Shop(broker.bootstrap, unique, folder, plan.seed, engine, peer.changelog, plan.keeping)
    if peer.catalogue:
        shop.traffic.fill_catalogue()
    shop.traffic.erases = peer.erasures
    (folder / NEW_ITEMS).write_text(json.dumps(shop.traffic.new_items))
    shop.subscribe()
    storm = Storm(shop, broker, tell)
    shoppers = Shoppers(shop, plan.rate)
    try:
        shoppers.start()
        try:
            storm.rage(plan.faults(), plan.minutes)
            tell("no more faults: the workers finish")
        except Stuck as stuck:
            report.stuck = str(stuck)
        broker.calm()
        shoppers.finish()
        if not report.stuck and not shop.drain():
            report.stuck = f"{shop.lag()} events are not committed"
        shop.fleet.retire_all()
        tell("judging")
        report.verdict = check(shop)
    except (TimeoutError, BrokerError) as error:
        report.stuck = f"{report.stuck}\n{error}"
    finally:
        report.happened, report.kills = dict(storm.happened), storm.workers.kills
        report.refused = storm.workers.refused
        report.wrong_ends, report.ends = shop.fleet.wrong, shop.fleet.ends
        report.stops, report.late = shop.fleet.stops, shop.fleet.late
        report.seconds = time.monotonic() - began_s
        shop.close()
    (folder / "report.json").write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return report
