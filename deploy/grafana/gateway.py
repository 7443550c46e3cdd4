"""Who asks the gateways for lists, and how they answer."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    COUNT,
    GREEN,
    PERCENTILES,
    PLAIN,
    RED,
    SECONDS,
    Query,
    Rows,
    board,
    lines,
    number,
)

# Gateways are a job of their own, called as the workers' and this behind it.
_OF_JOB = '{job=~"$job-gateway"}'


def _rate(metric: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) (rate({metric}{_OF_JOB}[$__rate_interval]))"


def gateway() -> build.Dashboard:
    """The dashboard."""
    what = "What the gateways are asked, how fast they answer, and whom they turn away."
    answered = "freshet_gateway_requests_total"
    histogram = _rate("freshet_gateway_request_seconds_bucket", "le")
    slow = _rate("freshet_gateway_request_seconds_bucket", "le", "route")
    panels: Rows = {
        "Now": [
            number(
                "Gateways ready",
                PLAIN,
                f"sum (freshet_gateway_ready{_OF_JOB})",
                "Gateways that have read all lists and whose brokers answer. Reads go on without.",
                (None, RED),
                (1, GREEN),
            ),
            number(
                "Users",
                COUNT,
                f"sum (freshet_gateway_users{_OF_JOB})",
                "Users whose lists are held, by all gateways together.",
            ),
            number(
                "Streams",
                PLAIN,
                f"sum (freshet_gateway_streams{_OF_JOB})",
                "Streams of lists that are open.",
            ),
        ],
        "Requests": [
            lines(
                "Requests by route",
                A_SECOND,
                [Query(_rate(answered, "route"), "{{route}}")],
                "What is asked.",
                stacked=True,
            ),
            lines(
                "Answers by status",
                A_SECOND,
                [Query(_rate(answered, "status"), "{{status}}")],
                "What is answered: 404 of users without lists is nothing to worry about, 503 is.",
                stacked=True,
            ),
            lines(
                "Time to answer",
                SECONDS,
                [
                    Query(f"histogram_quantile({q}, {histogram})", f"p{q * 100:g}")
                    for q, _ in PERCENTILES
                ],
                "From a request's head to its answer, of all routes but streams.",
            ),
            lines(
                "Time to answer by route, p99",
                SECONDS,
                [Query(f"histogram_quantile(0.99, {slow})", "{{route}}")],
                "Reads come out of memory; what is posted waits for the brokers.",
            ),
            lines(
                "Turned away",
                A_SECOND,
                [Query(_rate("freshet_gateway_refused_total", "reason"), "{{reason}}")],
                "By reason: no token, too many requests, records that a worker would refuse, ...",
            ),
        ],
    }
    return board("gateway", "gateway", what, panels)
