"""`python -m tests.bench.scale_out`: the full engine with one worker, then with more of its group.

In: numbers of workers. Out: a table of events a second, for all and for each core's second. Broker
and workers share the machine's cores, so what more workers bring here is less than on machines of
their own: the columns say what the cores were busy with.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stream.kafka.broker import free_port
from tests.bench import machine
from tests.bench.bench import Bench
from tests.bench.cluster import open_cluster
from tests.bench.interest import PARTITIONS
from tests.bench.peers import FULL
from tests.bench.runner import JobError, JobProcess, running
from tests.bench.workload import Workload
from tests.support.kafka import ApacheKafka
from tests.support.runs import told, whole

EVENTS = 400_000
_WATCH_EVERY_S = 0.1
_NO_PROGRESS_S = 90.0
_FOLDED = re.compile(r"^freshet_events_total\{[^}]*\} (\S+)$", re.MULTILINE)


class Run(NamedTuple):
    """What one run showed, from when every worker had folded events to the last commit.

    Attributes
    ----------
    cores : mean of cores that all workers together were busy with; and the broker
    """

    workers: int
    events: int
    seconds: float
    cores: float
    broker_cores: float
    steal_percent: float
    others_percent: float

    @property
    def eps(self) -> float:
        """Events per second of all workers."""
        return self.events / self.seconds


def folded(page: str) -> float:
    """Events that a worker has folded, by its metrics."""
    return sum(float(value) for value in _FOLDED.findall(page))


def table(runs: Sequence[Run]) -> str:
    """One row a run, the first of them as the measure of the others."""
    head = (
        "workers",
        "events/s",
        "times one",
        "cores, workers",
        "cores, broker",
        "steal",
        "others",
    )
    rows = [
        (
            str(run.workers),
            f"{run.eps:,.0f}",
            f"{run.eps / runs[0].eps:.2f}",
            f"{run.cores:.2f}",
            f"{run.broker_cores:.2f}",
            f"{run.steal_percent:.0f}%",
            f"{run.others_percent:.0f}%",
        )
        for run in runs
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def measure(bench: Bench, source: str, workload: Workload, workers: int) -> Run:
    """Fold the workload with so many workers of one group.

    Raises
    ------
    JobError : a worker ended by itself, or there was no progress for 90 s
    """
    ports = [free_port() for _ in range(workers)]
    with bench.topics(FULL, source) as spec, contextlib.ExitStack() as stack:
        processes = []
        for port in ports:
            environment = {**spec.environment(), **FULL.environment(spec)}
            environment["FRESHET_METRICS_PORT"] = str(port)
            log = bench.folder / f"worker-{port}.log"
            processes.append(stack.enter_context(running(FULL.command(spec), environment, log)))
        return _watched(bench, spec.run, source, workload.events, processes, ports)


def _watched(
    bench: Bench,
    group: str,
    source: str,
    events: int,
    processes: Sequence[JobProcess],
    ports: Sequence[int],
) -> Run:
    pids = [*(process.pid for process in processes), *filter(None, [bench.broker_pid])]
    done = first = 0
    begun = moved = time.monotonic()
    before: machine.Usage | None = None
    while True:
        for process in processes:
            process.check()
        seen, now = bench.cluster.committed(group, source), time.monotonic()
        if seen > done:
            done, moved = seen, now
        if before is None and all(_folded_at(port) for port in ports):
            first, begun, before = done, now, machine.Usage(pids)
        if done >= events:
            break
        if now - moved > _NO_PROGRESS_S:
            raise JobError(f"no progress for {_NO_PROGRESS_S:g} s at {done:,} events")
        time.sleep(_WATCH_EVERY_S)
    if before is None or done == first:
        raise JobError("the events were folded before every worker had joined: ask for more")
    after, seconds = machine.Usage(pids), moved - begun
    spent = [now - then for now, then in zip(after.cpu_s, before.cpu_s, strict=True)]
    return Run(
        len(processes),
        done - first,
        seconds,
        sum(spent[: len(processes)]) / seconds,
        sum(spent[len(processes) :]) / seconds,
        after.steal_percent_since(before),
        after.others_percent_since(before),
    )


def _folded_at(port: int) -> float:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return folded(page.read().decode())
    except (urllib.error.URLError, OSError):
        return 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each number of workers in turn; the exit codes of `tests.support.runs`."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale_out", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--events", type=whole(1), default=EVENTS, help=f"default {EVENTS}")
    options = parser.parse_args(arguments)
    if not all(0 < workers <= PARTITIONS for workers in options.workers):
        parser.error(f"--workers: from 1 to {PARTITIONS}, as many as there are partitions")
    return told(lambda: _run(Workload(options.events), options.workers))


def _run(workload: Workload, numbers: Sequence[int]) -> int:
    print(machine.describe_machine(), flush=True)
    runs = []
    with (
        tempfile.TemporaryDirectory(prefix="freshet-bench-") as folder,
        ApacheKafka(Path(folder) / "kafka") as broker,
        open_cluster(broker.bootstrap) as cluster,
    ):
        bench = Bench(cluster, broker.pid, Path(folder), quick=False)
        workload.write_vectors(bench.vectors)
        source = f"{bench.token}-clicks"
        cluster.create([source])
        workload.preload(cluster.bootstrap, source)
        for workers in numbers:
            runs.append(measure(bench, source, workload, workers))
            print(f"workers: {workers}, {runs[-1].eps:,.0f} events/s", flush=True)
    print("\n" + table(runs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
