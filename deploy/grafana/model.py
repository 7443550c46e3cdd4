"""The bundle that serves, its items, and the users' states."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    BYTES,
    COUNT,
    EVENTS_S,
    PLAIN,
    Query,
    Rows,
    board,
    lines,
    number,
    of,
    rate,
    rows,
    total,
)


def model() -> build.Dashboard:
    """The dashboard."""
    what = "What serves, on what, and what the users' states take."
    users, taken = total("freshet_state_users"), total("freshet_state_bytes")
    panels: Rows = {
        "Model and items": [
            rows(
                "What serves",
                of("freshet_model_info"),
                "Two bundles: one is being rolled out. Where `wanted` is not `provider`, the GPU "
                "does not work.",
                {
                    "instance": "worker",
                    "model": "model",
                    "provider": "provider",
                    "wanted": "wanted",
                    "bundle": "bundle",
                },
                span=24,
            ),
            lines(
                "Catalogue",
                COUNT,
                [
                    Query(
                        f"max by (kind) ({of('freshet_catalogue_items')})",
                        "{{kind}}",
                    )
                ],
                "Items that a list may have, by kind. Every worker has all of them.",
                stacked=True,
            ),
            lines(
                "Counted items",
                COUNT,
                [Query(f"max ({of('freshet_counted_items')})", "counted")],
                "Items, and items in contexts, for whose counts there is a place in memory; one "
                "with next to nothing left keeps it until places run short.",
            ),
            lines(
                "Events of unknown items",
                EVENTS_S,
                [Query(rate("freshet_unknown_item_events_total", "instance"), "{{instance}}")],
                "Items that neither the catalogue nor the model knows: the catalogue is behind, or "
                "ids differ.",
            ),
            lines(
                "States refused",
                A_SECOND,
                [Query(rate("freshet_refused_states_total", "instance"), "{{instance}}")],
                "States that came from the model not finite. Anything but 0 is a broken model.",
            ),
        ],
        "Settings": [
            rows(
                "Settings in force",
                of("freshet_settings_info"),
                "The revision of the live settings, as lists have it in `settings`. For a "
                "second after a change workers may differ.",
                {"instance": "worker", "revision": "revision"},
                span=12,
            ),
            lines(
                "Settings refused",
                COUNT,
                [
                    Query(f"max by (instance) ({of('freshet_settings_refused')})", "{{instance}}"),
                    Query(
                        f"increase({of('freshet_settings_refusals_total')}[$__rate_interval])",
                        "{{instance}}, refusals",
                    ),
                ],
                "1 while a worker's file holds what it refused; and each refusal. The log has the "
                "reason.",
            ),
        ],
        "State": [
            number("Users", COUNT, users, "Users with a state."),
            number("States", BYTES, taken, "Memory of the states and their keys."),
            number("A user", BYTES, f"{taken} / {users}", "Memory of a state, in the mean."),
            number(
                "Fullest worker",
                COUNT,
                f"max (sum by (instance) ({of('freshet_state_users')}))",
                "state.max_users is the limit of a worker.",
            ),
            number(
                "Recovered an hour",
                PLAIN,
                f"sum (increase({of('freshet_recovery_seconds_count')}[1h]))",
                "Takeovers of partitions.",
                decimals=0,
            ),
            number(
                "Trending, 1 h",
                PLAIN,
                f"sum (increase({of('freshet_trending_records_total')}[1h]))",
                "Records published of what trends.",
                decimals=0,
            ),
            lines(
                "Users by worker",
                COUNT,
                [Query(total("freshet_state_users", "instance"), "{{instance}}")],
                "They follow the partitions.",
                stacked=True,
                span=8,
            ),
            lines(
                "States by worker",
                BYTES,
                [Query(total("freshet_state_bytes", "instance"), "{{instance}}")],
                "1 KiB at most for a user of the demo's bundle.",
                stacked=True,
                span=8,
            ),
            lines(
                "Users who left",
                A_SECOND,
                [Query(rate("freshet_users_left_total", "reason"), "{{reason}}")],
                "expired: inactive for too long. evicted: beyond the limit. erased: on request.",
                span=8,
            ),
        ],
    }
    return board("model", "model and state", what, panels)
