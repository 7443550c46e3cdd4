"""What the lists are worth, by what users then did."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    PLAIN,
    RATIO,
    Query,
    Rows,
    board,
    lines,
    of,
    rate,
    ratio,
)


def quality() -> build.Dashboard:
    """The dashboard."""
    what = "Clicks and purchases, looked up in the list that their user was last shown before."
    shown, clicked = "freshet_quality_shown_total", "freshet_quality_clicked_total"
    hits, outcomes = "freshet_quality_hits_total", "freshet_quality_outcomes_total"
    expected, places = "freshet_quality_expected_total", "freshet_quality_reciprocal_rank_total"
    where, told = ("placement", "variant"), "{{placement}}, {{variant}}"
    arm = f"{told}, {{{{explored}}}}".replace("{{explored}}", "explored: {{explored}}")
    explored = (
        f"sum by (placement, variant) (increase({of(shown, explored='true')}[1h]))"
        f" / sum by (placement, variant) (increase({of(shown)}[1h]))"
    )
    day = 'freshet:quality_hits:ratio_rate1d{job=~"$job"}'
    hour = 'freshet:quality_hits:ratio_rate1h{job=~"$job"}'
    panels: Rows = {
        "What was shown and what was done": [
            lines(
                "Hit rate",
                RATIO,
                [Query(hour, f"1 h, {told}"), Query(day, f"1 d, {told}")],
                "Share of clicks and purchases whose item stood on the list shown before. The "
                "alert of falling quality looks at these series.",
            ),
            lines(
                "Click-through of shown items",
                RATIO,
                [Query(ratio(hits, shown, *where, "explored"), arm)],
                "Items clicked or bought over items shown, in an hour, explored ones apart.",
            ),
            lines(
                "Reciprocal rank",
                RATIO,
                [Query(ratio(places, outcomes, *where), told)],
                "Mean of 1/place, 0 where the item was not on the list (MRR), in an hour.",
            ),
            lines(
                "Share explored",
                RATIO,
                [Query(explored, told)],
                "Shown items that exploring chose, in an hour.",
            ),
        ],
        "Calibration and coverage": [
            lines(
                "Clicks over expected clicks",
                PLAIN,
                [Query(ratio(clicked, expected, "probability"), "stated up to {{probability}}")],
                "By the stated probability: 1 is calibrated, below 1 promises too much.",
                limit=1,
            ),
            lines(
                "Expected and made, by variant",
                RATIO,
                [
                    Query(ratio(expected, shown, *where), f"expected, {told}"),
                    Query(ratio(clicked, shown, *where), f"made, {told}"),
                ],
                "Mean stated probability of shown items, and the share that was clicked or bought.",
            ),
            lines(
                "Clicks and purchases looked up",
                A_SECOND,
                [Query(rate(outcomes, "placement", "event"), "{{placement}}, {{event}}")],
                "What all of this rests on: ratios of few events say little.",
            ),
            lines(
                "Items counted",
                RATIO,
                [
                    Query(
                        f"max ({of('freshet_counted_items')}) / "
                        f"sum (max by (kind) ({of('freshet_catalogue_items')}))",
                        "of the catalogue",
                    )
                ],
                "Items that anybody was shown, clicked or bought: how much is ever seen.",
            ),
        ],
    }
    return board("quality", "quality", what, panels)
