"""Reads and events over HTTP."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    COUNT,
    PERCENTILES,
    PLAIN,
    SECONDS,
    Query,
    Rows,
    board,
    lines,
)


def _quantile(q: float, *labels: str) -> str:
    kept = ", ".join(("le", *labels))
    bucket = "rate(freshet_gateway_request_seconds_bucket[$__rate_interval])"
    return f"histogram_quantile({q}, sum by ({kept}) ({bucket}))"


def _rate(metric: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) (rate({metric}[$__rate_interval]))"


def gateway() -> build.Dashboard:
    """The dashboard; a gateway is a job of its own, so that job and worker choose nothing here."""
    what = "Requests over HTTP: how many, how fast, how many refused. All gateways together."
    panels: Rows = {
        "Requests": [
            lines(
                "Requests over HTTP",
                A_SECOND,
                [
                    Query(
                        _rate("freshet_gateway_requests_total", "route", "status"),
                        "{{route}} {{status}}",
                    )
                ],
                "Answered requests, by route and status.",
            ),
            lines(
                "Request to reply",
                SECONDS,
                [Query(_quantile(q), f"p{q * 100:g}") for q, _ in PERCENTILES],
                "From a request's head to its answer; streams are left out.",
                legend=("mean", "max"),
            ),
            lines(
                "p99 by route",
                SECONDS,
                [Query(_quantile(0.99, "route"), "{{route}}")],
                "Reads come from memory; what takes events waits for the brokers.",
                legend=("mean", "max"),
            ),
            lines(
                "Refused requests",
                A_SECOND,
                [Query(_rate("freshet_gateway_refused_total", "reason"), "{{reason}}")],
                "By the `error` of their answers.",
            ),
        ],
        "What gateways hold": [
            lines(
                "Users held",
                COUNT,
                [Query("sum by (instance) (freshet_gateway_users)", "{{instance}}")],
                "Users whose lists a gateway has in memory.",
                span=8,
            ),
            lines(
                "Open streams",
                COUNT,
                [Query("sum by (instance) (freshet_gateway_streams)", "{{instance}}")],
                "Pages that wait for lists.",
                span=8,
            ),
            lines(
                "Gateways ready",
                PLAIN,
                [Query("sum by (instance) (freshet_gateway_ready)", "{{instance}}")],
                "1 while a gateway has read all lists and its brokers answer.",
                span=8,
                most=1,
            ),
        ],
    }
    return board("gateway", "gateway", what, panels)
