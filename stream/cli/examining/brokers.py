"""The brokers: how fast they are reached, their version and clock. In: settings. Out: findings."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import ClusterAuthorizationFailedError, KafkaError

from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.kafka.cluster import Cluster
from stream.kafka.rights import PAGE

# A broker refuses what is dated an hour ahead (message.timestamp.after.max.ms), and half-lives
# and measured times bear seconds.
FAULTY_SKEW_S: Final = 60.0
NOTED_SKEW_S: Final = 1.0
_CONNECT_WITHIN_S: Final = 3.0


def examine_brokers(
    settings: Settings, admin: KafkaAdminClient, consumer: KafkaConsumer
) -> Iterator[Finding]:
    """What answers at the addresses that are set, and how its clock goes."""
    version = ".".join(map(str, consumer.config["api_version"]))
    cluster = _cluster(admin)
    reached = {server: _connect_s(server) for server in Cluster.of(settings).servers}
    members = [f"{one['host']}:{one['port']}" for one in cluster.get("brokers", ())]
    reached |= {server: _connect_s(server) for server in members if server not in reached}
    away = [server for server, took_s in reached.items() if took_s is None]
    facts = {
        "version": version,
        "cluster_id": cluster.get("cluster_id"),
        "controller": cluster.get("controller_id"),
        "brokers": members,
        "connect_s": reached,
        "protocol": settings.security.protocol,
    }
    told = f"{settings.bootstrap} answers, speaks Kafka {version}; brokers: {len(members)}"
    more = tuple(
        f"{server} " + ("takes no connection" if s is None else f"connects in {1000 * s:.1f} ms")
        for server, s in reached.items()
    )
    if away:
        cure = "start it, or see that this machine can reach what brokers advertise"
        yield Finding("broker", "fault", f"{', '.join(away)}: no connection", cure, more, facts)
    else:
        yield Finding("broker", "ok", told, more=more, facts=facts)
    yield _clock(admin)


def _cluster(admin: KafkaAdminClient) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = admin.describe_cluster()
    except (KafkaError, ValueError):  # a broker that answers it otherwise
        return {}
    return found


def _connect_s(server: str) -> float | None:
    host, _, port = server.rpartition(":")
    began_s = time.monotonic()
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_WITHIN_S).close()
    except (OSError, ValueError, OverflowError):
        return None
    return time.monotonic() - began_s


def _clock(admin: KafkaAdminClient) -> Finding:
    """Compare the clocks. No answer of Kafka's says what time it is, but for the controllers':

    their leader tells when each voter was last in step, itself at the moment of the answer.
    """
    asked_s = time.time()
    try:
        quorum = admin.describe_metadata_quorum()
    except ClusterAuthorizationFailedError:
        lacking = f"needs Describe on the cluster: {PAGE}"
        return Finding("clock", "skip", lacking)
    except (KafkaError, ValueError) as error:
        return Finding("clock", "skip", f"the brokers do not tell theirs ({type(error).__name__})")
    answered_s = time.time()
    at_s = _leaders_time_s(quorum)
    if at_s is None:
        return Finding("clock", "skip", "the brokers do not tell theirs")
    return compared(at_s, asked_s, answered_s)


def _leaders_time_s(quorum: Mapping[str, Any]) -> float | None:
    for topic in quorum["topics"]:
        for partition in topic["partitions"]:
            for voter in partition["current_voters"]:
                told_ms = voter.get("last_caught_up_timestamp") or -1
                if voter["replica_id"] == partition["leader_id"] and told_ms > 0:
                    return float(told_ms) / 1000
    return None


def compared(at_s: float, asked_s: float, answered_s: float) -> Finding:
    """Our clock beside one that was read between two looks at ours; seconds since 1970."""
    ahead_s = (asked_s + answered_s) / 2 - at_s
    within_s = max((answered_s - asked_s) / 2, 0.001)
    facts = {"ahead_s": round(ahead_s, 4), "uncertain_s": round(within_s, 4)}
    word = "ahead of" if ahead_s > 0 else "behind"
    told = (
        f"this machine is {abs(ahead_s):.3f} s {word} the brokers' controller, within "
        f"{within_s:.3f} s"
    )
    off_s = abs(ahead_s) - within_s
    if off_s > FAULTY_SKEW_S:
        cure = "let one source of time (chrony, systemd-timesyncd) set all clocks"
        return Finding("clock", "fault", told, cure, facts=facts)
    return Finding("clock", "note" if off_s > NOTED_SKEW_S else "ok", told, facts=facts)
