"""A Prometheus of a test's own, with Freshet's rules at a pace that a test can wait for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import yaml

from deploy import queries
from stream.errors import FreshetError
from stream.kafka.broker import HOST, free_port

STARTED_WITHIN_S = 20.0
WITHIN_S = 60.0  # on a machine that does much else
_LOOK_EVERY_S = 0.1
# Windows as a test has them: in the order of the real ones, seconds for minutes, hours and days.
# What looks for starts of a process has one in which a process can start often enough.
_WINDOWS = {
    **{"2m": "2s", "5m": "3s", "10m": "4s", "15m": "5s", "30m": "6s"},
    **{"1h": "8s", "6h": "10s", "1d": "12s", "3d": "15s"},
}
_OF_STARTS = "30s"
# Of these promtool's tests alone tell that they fire and end.
NOT_LIVE = {
    "FreshetProviderFallback": "needs NVIDIA's driver, and no device that works",
    "FreshetRebalances": "six joins of a group take the embedded broker half a session each",
}


def program(name: str) -> str:
    """Where a program of Prometheus is; skips without it, and fails under REQUIRE_PROMETHEUS=1."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("REQUIRE_PROMETHEUS", "") not in ("", "0"):
            pytest.fail(f"{name} is required here and not installed", pytrace=False)
        pytest.skip(f"{name} is not installed (Debian: apt install prometheus)")
    return found


def shortened(rules: str) -> str:
    """Rules whose windows are seconds, whose alerts wait for one second, and with a wide objective.

    2.5 s, since a busy machine alone may take more than a tenth of one from event to list. What
    brokers do not acknowledge is told after 2 s, and 20 events are enough for a rate of hits.
    """
    rules = re.sub(r"(increase\(freshet_quality_outcomes_total\S+\)) > 200", r"\1 > 20", rules)
    rules = re.sub(r"(process_start_time_seconds\S*)\[\w+\]", rf"\1[{_OF_STARTS}]", rules)
    rules = re.sub(r"(unacknowledged_seconds\[\w+\]\)\)) > \d+", r"\1 > 2", rules)
    rules = re.sub(r"\[(\w+)\]", lambda window: f"[{_WINDOWS.get(window[1], window[1])}]", rules)
    return re.sub(r"( +for:) \w+", r"\1 1s", rules).replace('le="0.1"', 'le="2.5"')


class Prometheus:
    """Scrapes ports of this machine twice a second, and looks at the shortened rules as often.

    Parameters
    ----------
    ports_by_job : the workers' job is `freshet`, the gateways' `freshet-gateway`
    """

    def __init__(self, folder: Path, ports_by_job: Mapping[str, Iterable[int]]) -> None:
        self.folder = folder
        for job, ports in ports_by_job.items():
            self.watch(job, ports)
        self.url = f"http://{HOST}:{free_port()}"
        rules = []
        for file in queries.RULES:
            rules.append(folder / file.name)
            rules[-1].write_text(shortened(file.read_text(encoding="utf-8")), encoding="utf-8")
        jobs = [
            {
                "job_name": job,
                "file_sd_configs": [{"files": [str(self._targets(job))], "refresh_interval": "1s"}],
            }
            for job in ports_by_job
        ]
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(file) for file in rules],
            "scrape_configs": jobs,
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self._log = folder / "prometheus.log"

    def _targets(self, job: str) -> Path:
        return self.folder / f"{job}.json"

    def watch(self, job: str, ports: Iterable[int]) -> None:
        """Scrape these ports from now on, and no others of the job."""
        file = self._targets(job)
        told = file.with_suffix(".new")
        told.write_text(json.dumps([{"targets": [f"{HOST}:{port}" for port in ports]}]))
        told.replace(file)

    def __enter__(self) -> Self:
        command = [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(_LOOK_EVERY_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            queries.ask(self.url, "query", query="1")
        except FreshetError:
            return False
        return True

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        told = queries.ask(self.url, "query", query='ALERTS{alertstate="firing"}')["result"]
        return {series["metric"]["alertname"] for series in told}

    def until(self, expr: str, within_s: float = WITHIN_S) -> float:
        """Wait until a query has an answer; how many seconds that took."""
        started_s = time.monotonic()
        while not queries.ask(self.url, "query", query=expr)["result"]:
            waited_s = time.monotonic() - started_s
            assert waited_s < within_s, f"nothing within {within_s:g} s: {expr}; {self.firing()}"
            time.sleep(_LOOK_EVERY_S)
        return time.monotonic() - started_s

    def fires(self, *names: str, of_last_s: int = 1) -> dict[str, float]:
        """Wait until each of these alerts fires; how many seconds it took, one after the other.

        Parameters
        ----------
        of_last_s : one that fired in these seconds will do, for a fault that ends by itself
        """
        fired = 'last_over_time(ALERTS{{alertname="{}", alertstate="firing"}}[{}s])'.format
        return {name: self.until(fired(name, of_last_s)) for name in names}

    def clears(self, *names: str) -> dict[str, float]:
        """Wait until none of these alerts fires; how many seconds it took, one after the other."""
        return {
            name: self.until(f'absent(ALERTS{{alertname="{name}", alertstate="firing"}})')
            for name in names
        }
