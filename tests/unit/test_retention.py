"""How long topics keep what was written to them, by their settings."""

from __future__ import annotations

import pytest

from stream.config import Settings
from stream.kafka.faults import waiting_faults
from stream.kafka.retention import longest_kept_ms
from stream.kafka.specs import ERASURES_WAIT_MS, TopicSpec, wanted_topics

DAY_MS = 86_400_000
SLACK_MS = 600_000
# What a broker tells of a topic that was made without any of these.
DEFAULTS = {
    "retention.ms": str(7 * DAY_MS),
    "segment.ms": str(7 * DAY_MS),
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": str(2**63 - 1),
    "delete.retention.ms": str(DAY_MS),
}


def spec_of(name: str) -> TopicSpec:
    (found,) = (spec for spec in wanted_topics(Settings()) if spec.name == name)
    return found


@pytest.mark.parametrize(
    ("settings", "days"),
    [
        ({"cleanup.policy": "delete"}, 14),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, None),
        ({"cleanup.policy": "compact"}, None),
        ({"cleanup.policy": "compact", "max.compaction.lag.ms": str(DAY_MS)}, 3),
        ({"cleanup.policy": "compact,delete", "max.compaction.lag.ms": str(DAY_MS)}, 3),
        (spec_of("erasures").config, 8),
        ({**spec_of("erasures").config, "cleanup.policy": "compact"}, 17),
        (
            {
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": str(7 * DAY_MS),
                "max.compaction.lag.ms": str(7 * DAY_MS),
            },
            29,  # a segment takes records for 7 days, and then waits for another 7
        ),
        # Each of the two is an end, their sum is none that a 64-bit number of ms could name.
        ({"cleanup.policy": "delete", **dict.fromkeys(DEFAULTS, str(2**62 - 1))}, None),
    ],
)
def test_how_long_a_topic_keeps_a_record(settings: dict[str, str], days: int | None) -> None:
    kept_ms = longest_kept_ms({**DEFAULTS, **settings})
    assert kept_ms == (None if days is None else days * DAY_MS + SLACK_MS)


def test_nothing_takes_an_erasure_away_before_a_worker_had_time_to_read_it() -> None:
    spec = spec_of("erasures")
    assert int(spec.config["min.compaction.lag.ms"]) == ERASURES_WAIT_MS == 7 * DAY_MS
    assert int(spec.config["retention.ms"]) >= ERASURES_WAIT_MS
    # Kafka refuses a topic where they are the other way round.
    assert int(spec.config["max.compaction.lag.ms"]) >= ERASURES_WAIT_MS
    assert not list(waiting_faults(Settings(), spec, spec.config))


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"min.compaction.lag.ms": "0", "retention.ms": "-1"}, "has min.compaction.lag.ms=0, so"),
        ({"retention.ms": "1000"}, "has retention.ms=1000, so"),
        (
            {"min.compaction.lag.ms": "0", "retention.ms": "1000"},
            "has min.compaction.lag.ms=0 and retention.ms=1000, so",
        ),
        ({"retention.bytes": "1000000"}, "has retention.bytes=1000000, so"),
        ({"message.timestamp.type": "CreateTime"}, "has message.timestamp.type=CreateTime, so"),
    ],
)
def test_a_topic_that_lets_go_of_erasures_early_is_told_of(
    config: dict[str, str], fault: str
) -> None:
    (found,) = waiting_faults(Settings(), spec_of("erasures"), config)
    assert found.fault.startswith(fault)
    assert found.bearable
    # The lags in one command: a topic's lower one may not be above its upper one at any time.
    assert "min.compaction.lag.ms=604800000,max.compaction.lag.ms=691200000" in found.cure
    assert "message.timestamp.type=LogAppendTime,retention.bytes=-1" in found.cure
    assert "cleanup.policy" not in found.cure, "a list, which has a fault of its own"


def test_what_a_broker_does_not_tell_is_taken_to_be_right() -> None:
    assert not list(waiting_faults(Settings(), spec_of("erasures"), {}))
    assert not list(waiting_faults(Settings(), spec_of("clicks"), DEFAULTS))
