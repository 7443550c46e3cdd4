"""The latency runs: let the open-loop client measure a peer, read the stages from its metrics.

In: a subject. Out: the client's percentiles, each stage's mean and share, the steal of the same
minute.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from tests.bench import machine
from tests.bench.latency_client import Load, Result
from tests.bench.peers import FULL, FULL_POLICY, KAFKA_STREAMS, STATE_ONLY, Peer, streams_command
from tests.bench.runner import JobError, JobProcess, end_with_parent
from tests.bench.stages import Stages, between, read_stages


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes
    ----------
    key : its name in build/bench.json
    peer : None is the floor, the bare client
    """

    name: str
    key: str
    title: str
    mode: Literal["echo", "list", "floor"]
    peer: Peer | None = None


SUBJECTS: tuple[Subject, ...] = (
    Subject("latency_floor", "floor_ms", "floor: one hop, librdkafka to librdkafka", "floor"),
    Subject("latency_full", "latency_ms", "Freshet, full engine", "list", FULL),
    Subject("latency_full_policy", "latency_policy_ms", "Freshet, a policy", "list", FULL_POLICY),
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
    """What one run showed; `stages` are of the measured time alone."""

    subject: Subject
    result: Result
    steal_percent: float
    others_percent: float
    stages: Stages


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
    url = subject.peer.metrics_url() if subject.peer and subject.peer.metrics_url else None
    usage = [machine.Usage([*pids, client.pid])]
    readings: list[Stages] = [{}]
    result = None
    try:
        assert client.stdout is not None
        assert client.stderr is not None
        for line in client.stdout:
            if line.startswith("measur"):
                usage.append(machine.Usage([*pids, client.pid]))
                readings.append(read_stages(url))
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
        stages=between(readings[-2], readings[-1]),
    )
