"""Who may do what with which topic. In: what the broker tells of this client's rights. Out: faults.

What each role needs stands in deploy/SECURE.md; the worker's and the gateway's share of it here as
well, so that they say at their start what they lack. Opens no connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from stream.config import Settings
from stream.errors import BrokerError
from stream.kafka.cluster import Cluster, named
from stream.kafka.faults import TopicFault
from stream.kafka.specs import changelog_topic, statistics_topic, wanted_topics

Rights = Mapping[str, frozenset[str]]  # topic -> operations, as kafka-acls calls them

NOT_AUTHORIZED: Final = 29
SEE: Final = "Describe"
LOOK: Final = "DescribeConfigs"
PAGE: Final = "deploy/SECURE.md lists what each role needs"
# What lets a client see the topic as well.
_IMPLY_SEE: Final = frozenset({"Read", "Write", "Delete", "Alter"})


def checking(settings: Settings) -> Rights:
    """What a look at the topics needs."""
    return {spec.name: frozenset({SEE, LOOK}) for spec in wanted_topics(settings)}


def serving(settings: Settings) -> Rights:
    """What a worker needs."""
    topics = settings.topics
    read = {topics.clicks, topics.purchases, topics.items, topics.erasures, topics.requests}
    written = {
        topics.recommendations,
        topics.answers,
        topics.dead_letters,
        topics.receipts,
        topics.erasures,
    }
    own = {changelog_topic(settings), statistics_topic(settings), topics.trending}
    return {
        name: rights
        | ({"Read"} if name in read | own else frozenset())
        | ({"Write"} if name in written | own else frozenset())
        for name, rights in checking(settings).items()
    }


def passing_on(settings: Settings) -> Rights:
    """What a gateway needs: it reads what workers publish, and writes what it is sent."""
    topics = settings.topics
    read = (topics.recommendations, topics.answers, topics.receipts)
    written = (topics.clicks, topics.purchases, topics.items, topics.requests, topics.erasures)
    return {
        **dict.fromkeys(read, frozenset({SEE, "Read"})),
        **dict.fromkeys(written, frozenset({SEE, "Write"})),
    }


def told_rights(topic: Mapping[str, Any]) -> frozenset[str] | None:
    """Operations that a described topic allows to this client; None when the broker tells none.

    Who may describe a topic has at least that right, so none at all is a broker that does not tell.
    """
    names = topic.get("authorized_operations")
    if names is None:
        names = topic.get("topic_authorized_operations") or ()
    words = frozenset(_word(name) for name in names)
    return words if SEE in words else None


def right_faults(
    cluster: Cluster, topic: Mapping[str, Any], wanted: Collection[str]
) -> Iterator[TopicFault]:
    """What this client may not do with a topic and must.

    Parameters
    ----------
    topic : as kafka-python's `describe_topics` answers it
    """
    if topic["error_code"] == NOT_AUTHORIZED:
        lacking = set(wanted) - {SEE} if _IMPLY_SEE & set(wanted) else set(wanted)
    else:
        told = told_rights(topic)
        lacking = set() if told is None else set(wanted) - told
    if lacking:
        does = " and ".join(sorted(lacking))
        yield TopicFault(
            topic["name"],
            f"does not allow {does} to {who(cluster)}",
            grant(cluster, sorted(lacking), f"--topic {topic['name']}"),
        )


def group_fault(cluster: Cluster, group: str) -> str:
    """What to say of a group that does not let this client in."""
    cure = grant(cluster, ["Read"], f"--group {group}")
    return f"group {group} does not allow Read to {who(cluster)}: {cure}"


def who(cluster: Cluster) -> str:
    """This client as brokers know it, with the setting that says so."""
    security = cluster.security
    if cluster.login:
        return f"user {security.username} ({named('username')})"
    if security.certificate_file is not None:
        return f"the owner of {security.certificate_file} ({named('certificate_file')})"
    return "clients without a name (User:ANONYMOUS)"


def grant(cluster: Cluster, operations: Collection[str], resource: str) -> str:
    """The command that gives rights, for an administrator."""
    user = "ANONYMOUS"
    if cluster.login:
        user = str(cluster.security.username)
    elif cluster.security.certificate_file is not None:
        user = "<subject of the certificate>"
    words = " ".join(f"--operation {operation}" for operation in operations)
    return (
        f"run kafka-acls --bootstrap-server {cluster.bootstrap} --add --allow-principal "
        f"'User:{user}' {words} {resource} ({PAGE})"
    )


def denied(cluster: Cluster, error: BaseException) -> BrokerError:
    """A broker's refusal of a request, as an error of ours."""
    return BrokerError(
        f"the broker at {cluster.bootstrap} does not allow that to {who(cluster)} "
        f"({type(error).__name__}): {PAGE}"
    )


def _word(name: object) -> str:
    """DESCRIBE_CONFIGS -> DescribeConfigs."""
    return "".join(part.capitalize() for part in str(getattr(name, "name", name)).split("_"))
