"""What the lists are worth, by what users then did."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build

from deploy.grafana.panels import (
    A_SECOND,
    EVENTS_S,
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


def _parts(counted: str, of_all: str) -> str:
    """What explored places and the others each bring of a ratio, by arm: they add up to it."""
    part = f"sum by (placement, variant, explored) (increase({of(counted)}[1h]))"
    whole = f"sum by (placement, variant) (increase({of(of_all)}[1h]))"
    return f"{part} / on (placement, variant) group_left () {whole}"


def quality() -> build.Dashboard:
    """The dashboard."""
    what = "Views, clicks and purchases, looked up in the list that their user had before them."
    arm, told = ("placement", "variant"), "{{placement}}, {{variant}}"
    chosen = told + ", explored: {{explored}}"
    of_quality = "freshet_quality_{}_total".format
    hits, outcomes, shown = of_quality("hits"), of_quality("outcomes"), of_quality("shown")
    clicked, places = of_quality("clicked"), of_quality("places")
    rank, expected = of_quality("reciprocal_rank"), of_quality("expected")
    explored = (
        f"sum by (placement, variant) (increase({of(places, explored='true')}[1h]))"
        f" / sum by (placement, variant) (increase({of(places)}[1h]))"
    )
    listed = of("freshet_quality_coverage_ratio")
    day = 'freshet:quality_hits:ratio_rate1d{job=~"$job"}'
    hour = 'freshet:quality_hits:ratio_rate1h{job=~"$job"}'
    panels: Rows = {
        "What users did with their lists": [
            lines(
                "Hit rate",
                RATIO,
                [Query(hour, f"1 h, {told}"), Query(day, f"1 d, {told}")],
                "Share of views, clicks and purchases whose item stood on the list. The alert of "
                "falling quality looks at these series.",
            ),
            lines(
                "Hit rate by event",
                RATIO,
                [Query(ratio(hits, outcomes, "placement", "event"), "{{placement}}, {{event}}")],
                "In an hour. A purchase says more than a view, and there are fewer of them.",
            ),
            lines(
                "Reciprocal rank",
                RATIO,
                [Query(ratio(rank, outcomes, *arm), told)],
                "Mean of 1/place, 0 where the item was not on the list (MRR), in an hour.",
            ),
            lines(
                "Hit rate, explored or not",
                RATIO,
                [Query(_parts(hits, outcomes), chosen)],
                "How much of the hit rate explored places bring, and how much the others; in an "
                "hour. Explored places that bring less than their share cost hits.",
            ),
            lines(
                "Reciprocal rank, explored or not",
                RATIO,
                [Query(_parts(rank, outcomes), chosen)],
                "The same of the reciprocal rank.",
            ),
            lines(
                "Click-through",
                RATIO,
                [Query(ratio(of_quality("clickthroughs"), of_quality("impressions"), *arm), told)],
                "Views and clicks over impressions, in an hour, of events that name the list or "
                "the placement. Without impressions it stays empty.",
            ),
        ],
        "What the lists promise and show": [
            lines(
                "Hits over promised hits",
                PLAIN,
                [Query(ratio(hits, expected, *arm), told)],
                "1 where scores are probabilities of the next event, below 1 where they are high.",
                limit=1,
            ),
            lines(
                "Hits over promised hits, explored or not",
                PLAIN,
                [Query(ratio(hits, expected, *arm, "explored"), chosen)],
                "The same apart: whether scores of explored places keep what they promise, too.",
                limit=1,
            ),
            lines(
                "Chosen, by stated probability",
                RATIO,
                [Query(ratio(clicked, shown, "probability"), "up to {{probability}}")],
                "Share of shown places that the next event was about, in an hour. Calibrated: each "
                "line below its name, and above the one before it.",
            ),
            lines(
                "Chosen, explored or not",
                RATIO,
                [Query(ratio(clicked, shown, *arm, "explored"), chosen)],
                "What exploring costs: the same share, of explored places and of the others.",
            ),
            lines(
                "Explored places",
                RATIO,
                [Query(explored, told)],
                "Share of the places listed that exploring chose, in an hour.",
            ),
            lines(
                "Coverage",
                RATIO,
                [
                    Query(f"max by (placement) ({listed})", "{{placement}}, at least"),
                    Query(f"clamp_max(sum by (placement) ({listed}), 1)", "{{placement}}, at most"),
                ],
                "Share of the items that a placement may list which were listed in the last hour. "
                "Each worker tells its own: together they listed as much as the one with the most, "
                "and no more than all of them added up.",
            ),
            lines(
                "Shown items",
                RATIO,
                [Query(f"max by (kind) ({of('freshet_impressions_coverage_ratio')})", "{{kind}}")],
                "Share of the items that may be listed of which an impression still counts, of all "
                "workers together. Without impressions it stays at 0.",
                span=8,
            ),
            lines(
                "Looked up",
                EVENTS_S,
                [Query(rate(outcomes, "placement", "event"), "{{placement}}, {{event}}")],
                "What all of this rests on: ratios of few events say little.",
                span=8,
            ),
            lines(
                "Places listed",
                A_SECOND,
                [Query(rate(places, "placement", "variant"), told)],
                "The first places of each list, which count as shown.",
                span=8,
            ),
        ],
    }
    return board("quality", "quality", what, panels)
