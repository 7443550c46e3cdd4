"""The engine as users run it, a `freshet worker` process with topics of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from stream.config import load_settings
from stream.kafka.broker import free_port
from stream.kafka.topics import create_topics
from tests.bench.interest import PARTITIONS, Spec

METRICS_PORT = free_port()
POLICY = Path(__file__).with_name("policy.toml")


def metrics_url() -> str:
    """Where the worker's metrics are."""
    return f"http://127.0.0.1:{METRICS_PORT}/metrics"


def command(spec: Spec) -> list[str]:
    """Command of the worker."""
    return [sys.executable, "-m", "stream.cli", "worker", "--log-level", "warning"]


def make_topics(spec: Spec) -> None:
    """Create what the worker needs; the source may exist."""
    create_topics(load_settings(environ=environment(spec)))


def overwriting(spec: Spec) -> Mapping[str, str]:
    """The same settings, and memory that is freed is overwritten."""
    return {**environment(spec), "FRESHET_PRIVACY_OVERWRITE_MEMORY": "true"}


def with_policy(spec: Spec) -> Mapping[str, str]:
    """The same settings, and lists by `policy.toml`."""
    return {**environment(spec), "FRESHET_CONFIG": str(POLICY)}


def environment(spec: Spec) -> Mapping[str, str]:
    """Settings: the topics' names, and commits often enough to be watched by."""
    others = ("purchases", "items", "requests", "erasures", "answers", "dead-letters", "receipts")
    names = {name: f"{spec.run}-{name}" for name in (*others, "trending")}
    names |= {"clicks": spec.source, "recommendations": spec.output}
    return {
        "FRESHET_BOOTSTRAP": spec.bootstrap,
        "FRESHET_GROUP": spec.run,
        "FRESHET_BUNDLE": spec.bundle or "",
        "FRESHET_PROVIDER": "cpu",
        "FRESHET_METRICS_PORT": str(METRICS_PORT),
        "FRESHET_TOPICS_PARTITIONS": str(PARTITIONS),
        "FRESHET_BROKER_COMMIT_EVERY_S": "0.1",
    } | {f"FRESHET_TOPICS_{topic.replace('-', '_').upper()}": name for topic, name in names.items()}
