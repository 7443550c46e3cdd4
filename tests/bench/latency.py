"""The latency runs: let the open-loop client measure a peer, read the stages from its metrics.

In: a subject. Out: the client's percentiles, each stage's mean and share, the steal of the same
minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from tests.bench import machine
from tests.bench.full_engine import metrics_url
from tests.bench.latency_client import Load, Result
from tests.bench.peers import FULL, KAFKA_STREAMS, STATE_ONLY, Peer, streams_command
from tests.bench.runner import JobError, JobProcess, end_with_parent

_SAMPLE = re.compile(r'^freshet_stage_seconds_(sum|count)\{[^}]*stage="(\w+)"[^}]*\} (\S+)$', re.M)


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes
    ----------
    key : its name in build/bench.json
    peer : None is the floor, the bare client
    metrics_url : where its stage histograms are, None when it has none
    """

    name: str
    key: str
    title: str
    mode: Literal["echo", "list", "floor"]
    peer: Peer | None = None
    metrics_url: Callable[[], str] | None = None


SUBJECTS: tuple[Subject, ...] = (
    Subject("latency_floor", "floor_ms", "floor: one hop, librdkafka to librdkafka", "floor"),
    Subject("latency_full", "latency_ms", "Freshet, full engine", "list", FULL, metrics_url),
    Subject("latency_state", "state_latency_ms", "Freshet, state only", "echo", STATE_ONLY),
    Subject(
        "latency_streams",
        "kafka_streams_latency_ms",
        "Kafka Streams, commit 100 ms (default)",
        "echo",
        KAFKA_STREAMS,
    ),
    Subject(
        "latency_streams_10ms",
        "kafka_streams_commit_10ms_latency_ms",
        "Kafka Streams, commit 10 ms",
        "echo",
        replace(KAFKA_STREAMS, command=streams_command("commit.interval.ms=10")),
    ),
)


@dataclass(frozen=True)
class LatencyRun:
    """What one run showed; `stages` are (name, mean milliseconds a batch, share of them all)."""

    subject: Subject
    result: Result
    steal_percent: float
    others_percent: float
    stages: list[tuple[str, float, float]]


def read_stages(url: str) -> Mapping[tuple[str, str], float]:
    """Read (stage, sum | count) of the stage histograms from a /metrics page."""
    with urllib.request.urlopen(url, timeout=5) as page:
        text = page.read().decode()
    return {(stage, kind): float(value) for kind, stage, value in _SAMPLE.findall(text)}


def stage_shares(
    before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]
) -> list[tuple[str, float, float]]:
    """Mean milliseconds a batch of every stage between two readings, and its share of their sum."""
    means = {}
    for stage in dict.fromkeys(stage for stage, _ in after):
        spent_s = after[stage, "sum"] - before.get((stage, "sum"), 0.0)
        batches = after[stage, "count"] - before.get((stage, "count"), 0.0)
        if batches:
            means[stage] = spent_s / batches * 1000.0
    # Waiting for events is no part of an event's way.
    whole = sum(mean for stage, mean in means.items() if stage != "poll") or 1.0
    return [(stage, ms, ms / whole) for stage, ms in means.items() if stage != "poll"]


def run_client(
    subject: Subject, load: Load, process: JobProcess | None, pids: list[int]
) -> LatencyRun:
    """Run the client to its end; `pids` are the processes under test, its own is added.

    Raises
    ------
    JobError
        The client saw no answer, or the measured job ended.
    """
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.latency_client", msgspec.json.encode(load).decode()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  # takes no lock
    )
    url = subject.metrics_url() if subject.metrics_url else None
    usage = [machine.Usage([*pids, client.pid])]
    stages: list[Mapping[tuple[str, str], float]] = [{}]
    result = None
    try:
        assert client.stdout is not None
        assert client.stderr is not None
        for line in client.stdout:
            if line.startswith("measur"):
                usage.append(machine.Usage([*pids, client.pid]))
                stages.append(read_stages(url) if url else {})
            else:
                result = msgspec.json.decode(line, type=Result)
        said = client.stderr.read()
        client.wait(10)
    finally:
        if client.poll() is None:
            client.kill()
        client.wait()
    if process:
        process.check()
    if result is None:
        raise JobError(f"the latency client failed: {said.strip()[-600:]}")
    return LatencyRun(
        subject=subject,
        result=result,
        steal_percent=usage[-1].steal_percent_since(usage[-2]),
        others_percent=usage[-1].others_percent_since(usage[-2]),
        stages=stage_shares(stages[-2], stages[-1]),
    )
