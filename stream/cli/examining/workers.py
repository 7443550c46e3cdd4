"""The workers: their group, how far it is behind, the endpoints on this machine. Out: findings."""

from __future__ import annotations

import http.client
import re
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from stream.cli.examining.endpoints import (
    Place,
    StrangerError,
    asked,
    asked_readiness,
    examine_place,
    reason,
)
from stream.cli.examining.finding import Finding
from stream.config import Settings
from stream.kafka.rights import PAGE
from stream.revision import revision_of

_ITS_HOST: Final = "metrics_host (FRESHET_METRICS_HOST)"
_ITS_PORT: Final = "metrics_port (FRESHET_METRICS_PORT)"
_MAX_METRICS: Final = 8 << 20  # a worker of a thousand partitions tells one


def examine_lag(settings: Settings, admin: KafkaAdminClient, consumer: KafkaConsumer) -> Finding:
    """How many records the group has not worked off, by what it committed."""
    group, topics = settings.group, settings.topics
    try:
        committed = admin.list_group_offsets({group: None})[group]
    except AuthorizationError:
        return Finding("lag", "skip", f"needs Describe on group {group}: {PAGE}")
    except (KafkaError, ValueError) as error:
        soon = ", ask again" if getattr(error, "retriable", False) else ""
        return Finding("lag", "skip", f"the brokers do not tell it ({type(error).__name__}){soon}")
    sources = (topics.clicks, topics.purchases, topics.erasures, topics.requests)
    where = [
        TopicPartition(topic, number)
        for topic in sources
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    begins, ends = consumer.beginning_offsets(where), consumer.end_offsets(where)
    state, members = _group(admin, group)
    lag = {}
    beyond = []
    for one in where:
        at = committed[one].offset if one in committed else -1
        lag[one] = max(0, ends[one] - max(at, begins[one]))
        if at > ends[one]:
            beyond.append(f"{one.topic}-{one.partition} at {at} of {ends[one]}")
    by_topic = {t: sum(n for one, n in lag.items() if one.topic == t) for t in sources}
    facts = {
        "group": group,
        "state": state,
        "members": members,
        "committed": {f"{one.topic}-{one.partition}": at.offset for one, at in committed.items()},
        "lag": {f"{one.topic}-{one.partition}": records for one, records in lag.items()},
    }
    told = "; ".join(f"{topic} {records:,}" for topic, records in by_topic.items() if records)
    detail = f"group {group}{_in_words(state, members)}: {sum(lag.values()):,} records behind"
    detail += f" ({told})" if told else ""
    if beyond:
        cure = "the topic was made anew or lost records: see deploy/README.md, Backup"
        found = f"the group is past the end of {', '.join(beyond)}"
        return Finding("lag", "fault", found, cure, (detail,), facts)
    return Finding("lag", "note" if members == 0 else "ok", detail, facts=facts)


def _group(admin: KafkaAdminClient, group: str) -> tuple[str | None, int | None]:
    """State and number of members; None where it is not told."""
    try:
        told: dict[str, Any] = admin.describe_groups([group])[group]
        return str(told["group_state"]), len(told["members"])
    except (KafkaError, ValueError, KeyError):
        return None, None


def _in_words(state: str | None, members: int | None) -> str:
    if members is None:
        return ""
    return f" ({state}, workers: {members})" if members else " (no worker)"


def examine_worker(settings: Settings) -> Finding:
    """What a worker of these settings on this machine says of itself."""
    host, port = settings.metrics_host, settings.metrics_port
    if port == 0:
        return Finding("worker", "skip", "its port is any free one")
    at = f"{host}:{port}"
    try:
        told = asked_readiness(host, port)
    except StrangerError:
        detail = f"what answers at {at} is no worker"
        return Finding("worker", "fault", detail, f"give {_ITS_PORT} a free port")
    if told is None:
        return examine_place(Place("worker", host, port, _ITS_HOST, _ITS_PORT), {})
    facts = {"readyz": told, "settings": _in_force(host, port)}
    wanted = revision_of(settings.placements, settings.weights)
    if facts["settings"] not in (None, wanted):
        detail = f"the one at {at} has live settings {facts['settings']} in force, and what is "
        detail += f"set here is {wanted}"
        cure = "its log says why it took others: it refused its file, follows another, or has none"
        return Finding("worker", "fault", detail, cure, facts=facts)
    if told["ready"] is True:
        return Finding("worker", "ok", f"the one at {at} serves", facts=facts)
    return Finding("worker", "note", f"the one at {at} waits: {reason(told)}", facts=facts)


def _in_force(host: str, port: int) -> str | None:
    """The revision of the live settings that a worker tells; None: it tells none."""
    try:
        told = asked(host, port, "/metrics", _MAX_METRICS).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    found = re.search(r'(?m)^freshet_settings_info\{revision="([0-9a-f]+)"\} 1', told)
    return None if found is None else found[1]
