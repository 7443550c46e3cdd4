"""The topics as they must be. In: settings. Out: each topic's name and configuration, in one table.

Creation and check both read it. Knows no broker and nothing of records.
"""

from __future__ import annotations

from typing import NamedTuple

from stream.config import Settings
from stream.kafka.sizes import changelog_batch_bytes, lists_bytes

INTERESTS = "interests"  # the table of the users' states

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MIB = 1 << 20

# The longest: a thousand items, each with its id and its reason's, of 256 bytes that JSON escapes.
ANSWER_BYTES = 4 * _MIB

# A compacted topic that is written to lets go of what a tombstone replaced within a day, and of the
# tombstone, which has the key, within another two (`retention.longest_kept_ms`).
_FORGETTING = {
    "max.compaction.lag.ms": str(_DAY_MS),
    "delete.retention.ms": str(_DAY_MS),
}

# An erasure waits for a worker as long as Kafka keeps events by default. The null that answers one
# has the user's key, as has a second erasure: compaction would take one that nobody read yet with
# what they replace. Then it goes, with its id, whether it could be used or not. Times count from
# when the broker took it: a producer may give its record any, and one of last month would go at
# once.
ERASURES_WAIT_MS = 7 * _DAY_MS
_WAITING = {
    "message.timestamp.type": "LogAppendTime",
    "retention.bytes": "-1",
    "retention.ms": str(ERASURES_WAIT_MS),
    "segment.ms": str(_DAY_MS),
    "min.compaction.lag.ms": str(ERASURES_WAIT_MS),
    "max.compaction.lag.ms": str(ERASURES_WAIT_MS + _DAY_MS),
    "delete.retention.ms": str(_DAY_MS),
}


# The same keys come again and again, and every worker reads all of it at its start.
_TOLD = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}


class TopicSpec(NamedTuple):
    """One topic: what it is made with, and what `check_topics` holds it to."""

    name: str
    config: dict[str, str]

    @property
    def cleanup(self) -> frozenset[str]:
        """Its cleanup policies."""
        return policies_of(self.config["cleanup.policy"])


def changelog_topic(settings: Settings, table: str = INTERESTS) -> str:
    """Return the name of the states' changelog; Faust derives the same from its app and table."""
    return f"{settings.group}-{table}-changelog"


def statistics_topic(settings: Settings) -> str:
    """Return the name of the topic on which workers tell each other their counts."""
    return f"{settings.group}-statistics"


def changelog_config(settings: Settings) -> dict[str, str]:
    """Return the changelog's configuration."""
    max_bytes = max(8 * _MIB, changelog_batch_bytes(settings))
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(max_bytes),
        # Recovery reads what is not compacted yet. A segment is compacted once it is full, and
        # once a tenth of the log is news (the default is half).
        "segment.bytes": str(max(64 * _MIB, max_bytes)),
        "min.cleanable.dirty.ratio": "0.1",
        **_FORGETTING,
    }


def source_names(settings: Settings) -> list[str]:
    """Return the topics whose records may become dead letters."""
    names = settings.topics
    return [names.clicks, names.purchases, names.items, names.requests, names.erasures]


def passing_names(settings: Settings) -> frozenset[str]:
    """Return the topics whose records change no state: it does not matter to one what was read."""
    return frozenset({settings.topics.requests})


def wanted_topics(settings: Settings) -> list[TopicSpec]:
    """Return every topic that a worker needs, the changelog last."""
    names = settings.topics
    # At least; `create_topics` and `check_topics` look what the sources take.
    dead_letters = {"cleanup.policy": "delete", "max.message.bytes": str(2 * _MIB)}
    lists = {
        "cleanup.policy": "compact,delete",
        **_FORGETTING,
        # Five placements of a thousand items, unless the settings ask for more.
        "max.message.bytes": str(max(4 * _MIB, lists_bytes(settings))),
    }
    answers = {
        "cleanup.policy": "delete",
        "retention.ms": str(_HOUR_MS),
        "max.message.bytes": str(ANSWER_BYTES),
    }
    specs = [
        TopicSpec(names.clicks, {"cleanup.policy": "delete"}),
        TopicSpec(names.purchases, {"cleanup.policy": "delete"}),
        TopicSpec(names.items, {"cleanup.policy": "compact"}),
        TopicSpec(names.requests, {"cleanup.policy": "delete"}),
        TopicSpec(names.erasures, {"cleanup.policy": "compact,delete", **_WAITING}),
        TopicSpec(names.recommendations, lists),
        TopicSpec(names.answers, answers),
        TopicSpec(names.dead_letters, dead_letters),
        TopicSpec(names.receipts, {"cleanup.policy": "delete"}),
        TopicSpec(names.trending, {**_TOLD, "max.message.bytes": str(4 * _MIB)}),
        TopicSpec(statistics_topic(settings), dict(_TOLD)),
        TopicSpec(changelog_topic(settings), changelog_config(settings)),
    ]
    if names.replication >= 3:
        # Else an acknowledgement may come from a leader that is alone, and be lost with it.
        for spec in specs:
            spec.config["min.insync.replicas"] = "2"
    return specs


def policies_of(value: str) -> frozenset[str]:
    """Cleanup policies from their list in a configuration."""
    return frozenset(part.strip() for part in value.split(","))
