"""What runs in the benchmark: each peer's command, topics, progress, and what it lacks here.

A new peer is a `Peer` in PEERS. The harness makes the source and output topics, starts `command`
with a `Spec`, watches, and ends it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from tests.bench import full_engine
from tests.bench.interest import Spec

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench"
_MAVEN_TIMEOUT_S = 600.0


def _no_environment(spec: Spec) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Peer:
    """One engine that does the job.

    Attributes
    ----------
    name : for --only and build/bench.json
    title, includes : for the printed table
    events, quick_events : how many it is timed for; a slow one gets fewer, enough for a steady rate
    command : of its process
    missing : why it cannot run here, or None
    progress : `outputs` counts committed outputs, `commits` the committed source offsets of `group`
    changelog : its changelog topic after the run's prefix
    echoes, checks_states : its outputs, its states are the job's, so that they can be checked
    makes_changelog : the framework or the job creates the changelog itself
    needs_bundle : it serves the model bundle that the harness makes
    make_topics : makes all its topics, those of the harness too
    environment : in addition to the harness's own
    metrics_url : where its stage histograms are
    """

    name: str
    title: str
    includes: str
    events: int
    quick_events: int
    command: Callable[[Spec], list[str]]
    missing: Callable[[], str | None]
    progress: Literal["outputs", "commits"] = "outputs"
    group: str = ""
    changelog: str | None = "-changelog"
    makes_changelog: bool = False
    echoes: bool = True
    checks_states: bool = True
    needs_bundle: bool = False
    make_topics: Callable[[Spec], None] | None = None
    environment: Callable[[Spec], Mapping[str, str]] = _no_environment
    metrics_url: Callable[[], str] | None = None


def _needs(*modules: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        for module in modules:
            if importlib.util.find_spec(module) is None:
                return f"the package {module} is not installed"
        return None

    return missing


def _module(name: str, *arguments: str) -> Callable[[Spec], list[str]]:
    return lambda spec: [sys.executable, "-m", f"tests.bench.jobs.{name}", *arguments]


@cache
def _streams_missing() -> str | None:
    """Build the Java peer, or say why it cannot be."""
    for program, cure in (("java", "a Java 17 or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            return f"`{program}` is not installed; install {cure}"
    pom = HERE / "kafka_streams" / "pom.xml"
    sources = [pom, *(HERE / "kafka_streams" / "src").rglob("*.java")]
    jar = BUILD / "kafka_streams" / "job.jar"
    if jar.exists() and jar.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return None
    try:
        built = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(pom), "package"],
            capture_output=True,
            text=True,
            timeout=_MAVEN_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"Maven did not build it in {_MAVEN_TIMEOUT_S:g} s"
    return None if built.returncode == 0 else f"Maven could not build it: {built.stdout[-500:]}"


def streams_command(*settings: str) -> Callable[[Spec], list[str]]:
    """Command of the Kafka Streams peer; `settings` are key=value of StreamsConfig."""

    def command(spec: Spec) -> list[str]:
        build = BUILD / "kafka_streams"
        return [
            "java",
            "-Xmx1g",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            f"{build / 'job.jar'}:{build / 'lib'}/*",
            "bench.InterestJob",
            spec.bootstrap,
            spec.source,
            spec.output,
            f"{spec.run}-streams",
            spec.vectors,
            spec.folder,
            *settings,
        ]

    return command


PLAIN_FAUST = Peer(
    name="plain_faust",
    title="plain Faust agent and table",
    includes="as documented; at least once",
    events=30_000,
    quick_events=5_000,
    command=_module("plain_faust", "worker", "-l", "warn"),
    missing=_needs("faust"),
    changelog="-faust-interests-changelog",
    makes_changelog=True,
)
KAFKA_STREAMS = Peer(
    name="kafka_streams",
    title="Kafka Streams 4.1, exactly_once_v2",
    includes="in-memory store, commit interval 100 ms (its default); exactly once",
    events=1_000_000,
    quick_events=100_000,
    command=streams_command(),
    missing=_streams_missing,
    progress="commits",
    group="-streams",
    changelog="-streams-interests-changelog",
    makes_changelog=True,
)
CONFLUENT_LOOP = Peer(
    name="confluent_loop",
    title="confluent-kafka loop, vectorised",
    includes="changelog, no recovery, no fence; at least once",
    events=1_000_000,
    quick_events=200_000,
    command=_module("confluent_loop"),
    missing=_needs("confluent_kafka"),
)

STATE_ONLY = Peer(
    name="state_only",
    title="Freshet, state only",
    includes="its transport, fence, table and decode; 64 float32 a user; exactly-once state",
    events=1_000_000,
    quick_events=200_000,
    command=_module("engine_state", "vector"),
    missing=_needs("faust"),
    changelog="-engine-interests-changelog",
    makes_changelog=True,
)
USER_STATE = replace(
    STATE_ONLY,
    name="user_state",
    title="Freshet, its own user state",
    includes="as above with the decay model's update and the ring of 50; no scoring",
    command=_module("engine_state", "user"),
    missing=_needs("faust", "onnxruntime", "onnx", "scipy"),
    checks_states=False,
    needs_bundle=True,
)
FULL = Peer(
    name="full",
    title="Freshet, full engine",
    includes="`freshet worker`: 10,000 items, top-20 with exclusions, a list per touched user",
    events=200_000,
    quick_events=30_000,
    command=full_engine.command,
    missing=_needs("faust", "onnxruntime", "onnx", "scipy"),
    progress="commits",
    changelog=None,
    makes_changelog=True,
    echoes=False,
    checks_states=False,
    needs_bundle=True,
    make_topics=full_engine.make_topics,
    environment=full_engine.environment,
    metrics_url=full_engine.metrics_url,
)
FULL_OVERWRITING = replace(
    FULL,
    name="full_overwriting",
    title="Freshet, full engine that overwrites",
    includes="as above with privacy.overwrite_memory: what it frees is overwritten",
    environment=full_engine.overwriting,
)

FULL_POLICY = replace(
    FULL,
    name="full_policy",
    title="Freshet, full engine with a policy",
    includes="as `full` with diversity and adaptive exploring (policy.toml)",
    environment=full_engine.with_policy,
)

PEERS: tuple[Peer, ...] = (
    PLAIN_FAUST,
    KAFKA_STREAMS,
    CONFLUENT_LOOP,
    STATE_ONLY,
    USER_STATE,
    FULL,
    FULL_OVERWRITING,
    FULL_POLICY,
)
