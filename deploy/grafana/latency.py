"""Where the time from event to list goes."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    COUNT,
    LATENCY,
    MAY_BE_LATE,
    RATIO,
    SECONDS,
    Query,
    Rows,
    board,
    event_to_list,
    heat,
    lines,
    percentiles,
    quantile,
    rate,
)


def latency() -> build.Dashboard:
    """The dashboard."""
    what = "Where the time from an event to its list goes, against the objective: 99% within 0.1 s."
    stage = "freshet_stage_seconds"
    late = ["5m", "1h", "6h", "3d"]
    burn = [
        Query(f'freshet:lists_late:ratio_rate{window}{{job=~"$job"}}', f"{window}, {{{{job}}}}")
        for window in late
    ]
    mean = f"{rate(f'{stage}_sum', 'stage')} / {rate(f'{stage}_count', 'stage')}"
    panels: Rows = {
        "From event to list": [
            event_to_list(),
            lines(
                "Late lists, by window",
                RATIO,
                burn,
                "Share of events whose list came after 0.1 s, in windows that end now. The red "
                "line is what may be; the alerts of late lists look at these series.",
                limit=MAY_BE_LATE,
            ),
            heat(
                "Event to list, all values",
                SECONDS,
                LATENCY,
                "Events by the time until their list: a second band is a second cause.",
            ),
        ],
        "Stages": [
            lines(
                "Mean time by stage",
                SECONDS,
                [Query(mean, "{{stage}}")],
                "poll: from the newest record's timestamp to the step. decode, fold, score, policy "
                "and answer: of a micro-batch. publish: from then until all is acknowledged.",
                stacked=True,
                legend=("mean", "max"),
            ),
            lines(
                "p99 by stage",
                SECONDS,
                [Query(quantile(0.99, stage, "stage"), "{{stage}}")],
                "Which stage the slowest hundredth waits in. Percentiles do not add up.",
                legend=("mean", "max"),
            ),
            lines(
                "Records in a micro-batch",
                COUNT,
                percentiles("freshet_batch_events"),
                "It grows with what waits: a batch shares the cost of a step.",
                legend=("mean", "max"),
            ),
            lines(
                "Steps",
                A_SECOND,
                [Query(rate("freshet_batch_events_count", "instance"), "{{instance}}")],
                "Micro-batches a second.",
            ),
        ],
        "Requests": [
            lines(
                "Request to answer",
                SECONDS,
                percentiles("freshet_request_to_answer_seconds"),
                "From a request's timestamp until its answer is acknowledged.",
                legend=("mean", "max"),
            ),
            lines(
                "Answers",
                A_SECOND,
                [Query(rate("freshet_answers_total", "type", "status"), "{{type}}, {{status}}")],
                "Requests answered. late: after the deadline that the request named.",
            ),
        ],
    }
    return board("latency", "latency", what, panels)
