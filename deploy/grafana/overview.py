"""Whether all is well, on one screen."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    BYTES,
    COUNT,
    EVENTS_S,
    GREEN,
    MAY_BE_LATE,
    PLAIN,
    RATIO,
    RED,
    WORKERS,
    YELLOW,
    Query,
    Rows,
    board,
    event_to_list,
    lines,
    number,
    of,
    on_time,
    rate,
    rows,
    total,
)


def overview() -> build.Dashboard:
    """The dashboard."""
    what = "Is all well? Numbers that should be green, then what the workers do."
    fired, waited = (
        "max by (alertname, alertstate, severity) "
        f'(max_over_time(ALERTS{{alertname=~"Freshet.+", alertstate="{state}"}}[$__range]))'
        for state in ("firing", "pending")
    )
    alerts = 'ALERTS{alertname=~"Freshet.+", alertstate="firing"}'
    up = 'sum (up{job=~"$job", instance=~"$worker"})'
    letters = f"sum (increase({of('freshet_dead_letters_total')}[1h]))"
    used = "of one core, each of which is all that a worker takes"
    panels: Rows = {
        "Now": [
            number(
                "Workers ready",
                PLAIN,
                total("freshet_ready"),
                "Workers with model, catalogue and states, whose brokers answer.",
                (None, RED),
                (1, GREEN),
            ),
            number("Workers up", PLAIN, up, "Workers whose metrics Prometheus can read."),
            number(
                "Lists in time",
                RATIO,
                on_time("$__range"),
                "Events of the time shown whose list came within 0.1 s; 99% should.",
                *((None, RED), (1 - MAY_BE_LATE, GREEN)),
                decimals=2,
            ),
            number(
                "Lag",
                COUNT,
                total("freshet_consumer_lag"),
                "Records that wait, of all partitions.",
                *((None, GREEN), (10_000, YELLOW), (100_000, RED)),
            ),
            number(
                "Dead letters, 1 h",
                PLAIN,
                letters,
                "Records of the last hour that could not be used.",
                *((None, GREEN), (1, YELLOW)),
                decimals=0,
            ),
            number(
                "Alerts firing",
                PLAIN,
                f"count ({alerts}) or vector(0)",
                "What deploy/RUNBOOKS.md has a chapter about.",
                *((None, GREEN), (1, RED)),
            ),
        ],
        "Flow": [
            lines(
                "Events",
                EVENTS_S,
                [Query(rate("freshet_events_total", "topic"), "{{topic}}")],
                "Events folded into users' states.",
                stacked=True,
            ),
            event_to_list(),
            lines(
                "Lists",
                A_SECOND,
                [
                    Query(rate("freshet_lists_total", "placement"), "{{placement}}"),
                    Query(rate("freshet_unchanged_records_total"), "records not sent, unchanged"),
                ],
                "Lists published. Events of a user that meet in a micro-batch make one.",
            ),
            lines(
                "Lag over time",
                COUNT,
                [Query(total("freshet_consumer_lag", "topic"), "{{topic}}")],
                "Records that wait.",
            ),
        ],
        "Workers": [
            lines(
                "CPU",
                RATIO,
                [
                    Query(
                        f"rate(process_cpu_seconds_total{{{WORKERS}}}[$__rate_interval])",
                        "{{instance}}",
                    )
                ],
                f"CPU time {used}.",
                span=8,
            ),
            lines(
                "Memory",
                BYTES,
                [Query(of("process_resident_memory_bytes"), "{{instance}}")],
                "Resident memory. What is the users' is on the dashboard of model and state.",
                span=8,
            ),
            rows(
                "Alerts of the time shown",
                f"{fired} or on (alertname) {waited}",
                "What fired, or was pending alone. deploy/RUNBOOKS.md says what to do.",
                {"alertname": "alert", "alertstate": "state", "severity": "severity"},
                span=8,
            ),
        ],
    }
    return board("overview", "overview", what, panels)
