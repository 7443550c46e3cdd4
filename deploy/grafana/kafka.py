"""Partitions, the group, the changelog, and what came of records."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    BYTES_S,
    COUNT,
    PLAIN,
    RATIO,
    RECORDS_S,
    SECONDS,
    Query,
    Rows,
    board,
    lines,
    of,
    rate,
    total,
)


def kafka() -> build.Dashboard:
    """The dashboard."""
    what = "Partitions and how far each is, the group's rebalances and recoveries, bad records."
    partition = "{{topic}} {{partition}}"
    moved = f"clamp_min(deriv({of('freshet_consumer_position')}[5m]), 0)"
    progress = total("freshet_recovery_progress_ratio", "instance", "partition")
    panels: Rows = {
        "Partitions": [
            lines(
                "Lag by partition",
                COUNT,
                [Query(total("freshet_consumer_lag", "topic", "partition"), partition)],
                "One that grows alone has a key with most events, or a worker without CPU.",
            ),
            lines(
                "Processed by partition",
                RECORDS_S,
                [Query(f"sum by (topic, partition) ({moved})", partition)],
                "Records that each partition moved on by. 0 with a lag is a stalled partition.",
            ),
            lines(
                "Processed by topic",
                RECORDS_S,
                [Query('freshet:consumer_records:rate5m{job=~"$job"}', "{{topic}}")],
                "All partitions together, in five minutes. Bad and repeated records count too.",
                stacked=True,
            ),
            lines(
                "Lag by topic",
                COUNT,
                [Query('freshet:consumer_lag:sum{job=~"$job"}', "{{topic}}")],
                "The alert looks whether it is more than a minute of what is processed.",
            ),
        ],
        "Group and recovery": [
            lines(
                "Rebalances",
                COUNT,
                [
                    Query(
                        f"increase({of('freshet_rebalances_total')}[$__rate_interval])",
                        "{{instance}}",
                    )
                ],
                "Each stops all workers for a moment. A worker that comes or goes is one.",
                span=8,
            ),
            lines(
                "Recovery",
                SECONDS,
                [
                    Query(
                        f"histogram_quantile({q}, sum by (le) "
                        f"(increase({of('freshet_recovery_seconds_bucket')}[1h])))",
                        f"p{q * 100:g}",
                    )
                    for q in (0.5, 0.99)
                ],
                "From the assignment of partitions until they are served, in an hour. A million "
                "users take 5 s; partitions that stay resume from memory.",
                span=8,
            ),
            lines(
                "Changelog read",
                RATIO,
                [Query(progress, "{{instance}} {{partition}}")],
                "Part of each partition's changelog that is read; 1 once it is recovered.",
                span=8,
                most=1,
            ),
            lines(
                "Changelog written",
                BYTES_S,
                [Query(rate("freshet_changelog_bytes_total", "instance"), "{{instance}}")],
                "States and applied offsets; what the brokers have to keep until compaction.",
                span=8,
            ),
            lines(
                "Waits for acknowledgement",
                SECONDS,
                [
                    Query(
                        f"max by (instance) ({of('freshet_unacknowledged_seconds')})",
                        "{{instance}}",
                    )
                ],
                "For how long the oldest states and lists wait for the brokers. More than 10 s is "
                "an alert; after 40 s a worker ends itself.",
                span=8,
                limit=10,
            ),
            lines(
                "Ready",
                PLAIN,
                [Query(total("freshet_ready", "instance"), "{{instance}}")],
                "1 while a worker serves.",
                span=8,
                most=1,
            ),
        ],
        "Records that are not what they should be": [
            lines(
                "Dead letters",
                RECORDS_S,
                [
                    Query(
                        f"{rate('freshet_dead_letters_total', 'topic', 'reason')} > 0 "
                        f"or {rate('freshet_dead_letters_total', 'topic')} == 0",
                        "{{topic}} {{reason}}",
                    )
                ],
                "Records that could not be used. Headers of the letters name record and field.",
                span=8,
            ),
            lines(
                "Misrouted",
                RECORDS_S,
                [Query(rate("freshet_misrouted_records_total", "topic"), "{{topic}}")],
                "Records in another partition than their key's: a producer without murmur2.",
                span=8,
            ),
            lines(
                "Skipped",
                RECORDS_S,
                [
                    Query(
                        rate("freshet_events_skipped_total", "topic", "reason"),
                        "{{topic}} {{reason}}",
                    )
                ],
                "applied: before a restart. repeated: an event_id that was there. forgotten: older "
                "than an erasure.",
                span=8,
            ),
        ],
    }
    return board("kafka", "Kafka", what, panels)
