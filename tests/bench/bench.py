"""One run of the benchmark: its topics, its jobs' processes, one measurement at a time.

In: a broker, a workload, a peer or a latency subject. Out: what was measured. Leaves no topic and
no process.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.bench.bundle import make_bundle
from tests.bench.check import check_outputs, check_states
from tests.bench.cluster import Cluster
from tests.bench.interest import Spec
from tests.bench.latency import LatencyRun, Subject, run_client
from tests.bench.latency_client import Load
from tests.bench.peers import Peer
from tests.bench.runner import JobProcess, Measurement, measure, running
from tests.bench.workload import USERS, Workload


class Bench:
    """One run of the benchmark: its broker, its topics, its results so far."""

    def __init__(self, cluster: Cluster, broker_pid: int | None, folder: Path, quick: bool) -> None:
        self.cluster = cluster
        self.broker_pid = broker_pid
        self.folder = folder
        self.quick = quick
        self.token = f"bench-{uuid.uuid4().hex[:8]}"
        self.vectors = folder / "vectors.f32"

    def bundle(self) -> Path:
        """Folder of the model bundle; made once, when the first peer needs it."""
        folder = self.folder / "bundle"
        if not folder.exists():
            make_bundle(folder)
        return folder

    @contextlib.contextmanager
    def topics(self, peer: Peer | None, source: str | None = None) -> Iterator[Spec]:
        """Make the topics of one run of one peer, and delete them and what else the run left."""
        run = f"{self.token}-{uuid.uuid4().hex[:6]}"
        folder = self.folder / run
        folder.mkdir(parents=True)
        spec = Spec(
            run=run,
            bootstrap=self.cluster.bootstrap,
            source=source or f"{run}-source",
            output=f"{run}-output",
            changelog=f"{run}{peer.changelog if peer and peer.changelog else '-changelog'}",
            vectors=str(self.vectors),
            folder=str(folder),
            users=USERS,
            low_latency=source is None,
            bundle=str(self.bundle()) if peer and peer.needs_bundle else None,
        )
        if peer and peer.make_topics:
            peer.make_topics(spec)
        else:
            plain = [spec.output] + ([] if source else [spec.source])
            compacted = [spec.changelog] if peer and not peer.makes_changelog else []
            self.cluster.create(plain, compacted)
        try:
            yield spec
        finally:
            self.cluster.delete(run)
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def process(self, peer: Peer, spec: Spec) -> Iterator[JobProcess]:
        """Run a peer's process for the length of a block."""
        environment = {**spec.environment(), **peer.environment(spec)}
        log = self.folder / f"{peer.name}.log"
        with running(peer.command(spec), environment, log) as process:
            yield process

    def throughput(self, peer: Peer, source: str, workload: Workload, check: bool) -> Measurement:
        """Time one run of one peer; look at what it left when `check`."""
        events = min(workload.events, peer.quick_events if self.quick else peer.events)
        with self.topics(peer, source) as spec:

            def progress() -> int:
                if peer.progress == "commits":
                    return self.cluster.committed(spec.run + peer.group, source)
                return sum(self.cluster.ends(spec.output))

            with self.process(peer, spec) as process:
                url = peer.metrics_url() if peer.metrics_url else None
                measured = measure(process, progress, events, self.broker_pid, url)
            whole = events == workload.events
            if check and peer.echoes:
                print("    " + check_outputs(self.cluster, spec.output, workload), flush=True)
            if check and peer.checks_states:
                print(
                    "    " + check_states(self.cluster, spec.changelog, workload, whole), flush=True
                )
        return measured

    def latency(
        self, subject: Subject, rate_hz: float, warm_up_s: float, seconds: float
    ) -> LatencyRun:
        """Measure one subject under a Poisson load."""
        with self.topics(subject.peer) as spec, contextlib.ExitStack() as stack:
            peer = subject.peer
            process = stack.enter_context(self.process(peer, spec)) if peer else None
            load = Load(
                bootstrap=spec.bootstrap,
                source=spec.source,
                listen=spec.source if subject.mode == "floor" else spec.output,
                mode=subject.mode,
                rate_hz=rate_hz,
                warm_up_s=warm_up_s,
                seconds=seconds,
                users=USERS,
            )
            pids = [pid for pid in (process and process.pid, self.broker_pid) if pid]
            return run_client(subject, load, process, pids)
