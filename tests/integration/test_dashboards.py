"""Every query of every panel and rule against a live worker, and alerts that come and go.

A real Prometheus, the embedded broker behind a proxy, a gateway, and a worker that is sent clicks,
purchases, items, requests, an erasure; then one fault after the other, until all of their alerts
fire, and an end of all of them.
`build/queries.json` has what every query answered, how many seconds each alert was waited for, and
what shows those that no fault here can bring; `build/dashboards.html` has every panel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import drawn, queries
from stream.kafka.broker import free_port
from tests.support.brokers import must_run, why_missing
from tests.support.freshet import ROOT, Freshet
from tests.support.hostile_bundles import spoiled
from tests.support.prometheus import NOT_LIVE, Prometheus, program
from tests.support.proxy import ProxiedEmbedded
from tests.support.watched import PARTITIONS, Load, lists_of

pytestmark = pytest.mark.long

REPORT = ROOT / "build" / "queries.json"
PICTURE = ROOT / "build" / "dashboards.html"
SETTINGS = "[placements.home]\nexclude_seen = false\nexplore = {temperature = 1.0}\n"
REFUSED = "[placements.home]\nk = 0\n"
LATE_S = 4.0  # beyond the objective of the rules that this run has
SHOWN_BY = "promtool test rules deploy/prometheus/tests.yaml"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[ProxiedEmbedded]:
    if reason := why_missing("embedded"):
        if must_run("embedded"):
            pytest.fail(f"embedded is required here: {reason}", pytrace=False)
        pytest.skip(f"no embedded broker: {reason}")
    with ProxiedEmbedded(log=tmp_path / "embedded.log") as broker:
        yield broker


@contextlib.contextmanager
def hanging(pid: int) -> Iterator[None]:
    """A process that does not run and does not end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def doing(what: threading.Event) -> Iterator[None]:
    """Shoppers or producers do something for a while."""
    what.set()
    try:
        yield
    finally:
        what.clear()


def put(file: Path, text: str) -> None:
    """Replace a settings file as an editor does."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


class Watched:
    """What runs and is looked at; each of its faults answers its alerts, by the seconds waited.

    What fired of the fault before has ended when the next one begins.

    Parameters
    ----------
    settings : the worker's file
    """

    def __init__(
        self, freshet: Freshet, broker: ProxiedEmbedded, seen: Prometheus, settings: Path
    ) -> None:
        self.freshet, self.broker, self.seen, self.settings = freshet, broker, seen, settings
        self.changelog = f"{freshet.environ['FRESHET_GROUP']}-interests-changelog"

    def of_other_workers(self, ports: list[int], environ: dict[str, str]) -> dict[str, float]:
        """Another, at the second port, recovers slowly, is killed, and starts time and again."""
        seen, (first, second) = self.seen, ports
        seen.watch("freshet", ports)
        mine = f'instance="127.0.0.1:{second}"'
        starts = f"changes(process_start_time_seconds{{{mine}}}[1m])"

        def start() -> contextlib.AbstractContextManager[object]:
            environment = {**environ, "FRESHET_METRICS_PORT": str(second)}
            return self.freshet.start("worker", environ=environment)

        self.broker.proxy.hold("fetch", self.changelog)
        with start():
            fired = seen.fires("FreshetRecoverySlow")
            self.broker.proxy.forward()
            seen.until(f"freshet_ready{{{mine}}} == 1")
            seen.until(f"sum (rate(freshet_lists_total{{{mine}}}[2s])) > 0")
        fired |= seen.fires("FreshetPartitionWithoutWorker")
        for number in (1, 2, 3):
            with start():
                seen.until(f"{starts} >= {number}")
        fired |= seen.fires("FreshetWorkerRestarts")
        fired |= seen.fires("FreshetWorkerCrashed", of_last_s=60)
        seen.watch("freshet", [first])
        clicks = self.freshet.topic["clicks"]
        seen.until(f'count(freshet_consumer_lag{{topic="{clicks}"}}) == {PARTITIONS}')
        return fired

    def of_hanging(self, worker: int, gateway: int) -> dict[str, float]:
        """The processes hang, one after the other, and then the broker."""
        seen = self.seen
        seen.clears("FreshetWorkerDown", "FreshetNoWorkerReady", "FreshetListsLateFast")
        began_s = time.monotonic()
        with hanging(worker):
            fired = seen.fires("FreshetWorkerDown", "FreshetNoWorkerReady")
            time.sleep(max(0.0, began_s + LATE_S - time.monotonic()))
        fired |= seen.fires("FreshetListsLateFast", "FreshetListsLateSlow")
        with hanging(gateway):
            fired |= seen.fires("FreshetGatewayDown", "FreshetNoGateway")
        assert self.broker.pid is not None
        seen.clears("FreshetWorkerNotReady", "FreshetGatewayNotReady")
        with hanging(self.broker.pid):
            fired |= seen.fires("FreshetWorkerNotReady", "FreshetGatewayNotReady")
        seen.until("freshet_ready == 1")
        return fired

    def of_unanswered_writes(self) -> dict[str, float]:
        """The changelog's leader does not acknowledge."""
        names = ("FreshetPartitionStalled", "FreshetLag", "FreshetChangelogUnacknowledged")
        self.seen.clears(*names)
        self.broker.proxy.hold("produce", self.changelog)
        fired = self.seen.fires(*names)
        self.broker.proxy.forward()
        self.seen.until("freshet_unacknowledged_seconds < 1")
        return fired

    def of_what_comes(self, load: Load) -> dict[str, float]:
        """Settings that are refused, records that cannot be used, events that the model spoils, and
        lists that nobody likes any more."""
        seen = self.seen
        put(self.settings, REFUSED)
        with doing(load.bad), doing(load.odd):
            names = ("FreshetDeadLetters", "FreshetMisroutedRecords", "FreshetStatesRefused")
            fired = seen.fires(*names)
        fired |= seen.fires("FreshetSettingsRefused")
        put(self.settings, SETTINGS)
        steady = "freshet:quality_hits:ratio_rate1h > 0.9 * freshet:quality_hits:ratio_rate1d"
        seen.until(f"{steady} > 0")
        with doing(load.bored):
            fired |= seen.fires("FreshetQualityDrop")
        return fired


def test_every_query_answers_and_alerts_come_and_go(
    embedded: ProxiedEmbedded, unique: str, tmp_path: Path
) -> None:
    program("prometheus")
    freshet = Freshet(embedded.proxied, unique)
    freshet.run("topics", "create")
    port, other, front = free_port(), free_port(), free_port()
    load = Load(freshet, front, spoiled(tmp_path / "bundle"))
    settings = tmp_path / "freshet.toml"
    put(settings, SETTINGS)
    environ = {
        "FRESHET_BUNDLE": str(tmp_path / "bundle"),
        "FRESHET_CONFIG": str(settings),
        "FRESHET_METRICS_PORT": str(port),
        "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
        "FRESHET_BROKER_HEARTBEAT_S": "1",
        "FRESHET_BROKER_COMMIT_EVERY_S": "3",  # what is killed has something left to commit
    }
    begun_s = time.time()
    with (
        freshet.start("worker", environ=environ) as worker,
        freshet.start("gateway", "--port", str(front)) as gateway,
        Prometheus(tmp_path, {"freshet": [port], "freshet-gateway": [front]}) as seen,
    ):
        watched = Watched(freshet, embedded, seen, settings)
        seen.until("freshet_ready == 1")
        load.start()
        try:
            seen.until("sum (rate(freshet_lists_total[2s])) > 0")
            # Nothing was ready, and the first of what comes waits for that.
            seen.until('absent(ALERTS{alertstate="firing"})')

            seen.until("freshet_gateway_users > 0")
            assert lists_of(front, "nobody")[0] == 404
            fired = watched.of_other_workers([port, other], environ)
            fired |= watched.of_hanging(worker.pid, gateway.pid)
            fired |= watched.of_unanswered_writes()
            fired |= watched.of_what_comes(load)

            seen.until("freshet:lists_late:ratio_rate5m >= 0")  # not 0/0: there are lists again
            asked = [*queries.of_dashboards(), *queries.of_rules()]
            answers = [queries.answer(seen.url, query) for query in asked]
            picture = drawn.page(seen.url, begun_s, time.time())
            ended = seen.clears(*fired)
        finally:
            load.ended.set()
            load.join(20)
    assert load.failed is None
    told = {
        **{name: {"fired_s": fired[name], "ended_s": ended[name]} for name in fired},
        **{name: {"not_live": why, "shown_by": SHOWN_BY} for name, why in NOT_LIVE.items()},
    }
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(queries.written(answers, {"alerts": told}), encoding="utf-8")
    PICTURE.write_text(picture, encoding="utf-8")
    assert [one.query for one in answers if not one.series] == [], queries.table(answers)
    assert told.keys() == queries.alerts()
