"""Panels and queries, as Freshet's dashboards draw them.

In: titles, units, PromQL. Out: builders of Grafana's own typed SDK. Every query looks at the
workers that the dashboard's variables name. Knows nothing of which panels there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    GraphGradientMode,
    GraphTresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# An event's list is late after this; deploy/prometheus/recording.yaml says so, too.
OBJECTIVE_S = 0.1
MAY_BE_LATE = 0.01

# Grafana's names of units; each but PLAIN is scaled: 12.3 K events/s.
SECONDS, BYTES, BYTES_S = units.Seconds, units.BytesIEC, units.BytesPerSecondIEC
RATIO, PLAIN, COUNT = units.PercentUnit, units.NoUnit, units.Short
A_SECOND, EVENTS_S = units.CountsPerSecond, units.EventsPerSecond
RECORDS_S = units.RecordsPerSecond

GREEN, YELLOW, RED, BLUE = "#56A64B", "#E0B400", "#E02F44", "#3274D9"
PERCENTILES = ((0.5, GREEN), (0.9, YELLOW), (0.99, RED))
WORKERS = 'job=~"$job", instance=~"$worker"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")


LATENCY = "freshet_event_to_list_seconds"

# Panels of a dashboard, by the title of their row.
Rows = Mapping[str, Sequence[Any]]


class Query(NamedTuple):
    """A query and the words of its legend, {{label}} for a label's value."""

    expr: str
    legend: str


# -- PromQL ----------------------------------------------------------------------------------


def of(metric: str, **labels: str) -> str:
    """The series of a metric, of the workers that are looked at."""
    more = "".join(f', {name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{WORKERS}{more}}}"


def by(*labels: str) -> str:
    """The words that keep these labels in a sum."""
    return f" by ({', '.join(labels)})" if labels else ""


def total(metric: str, *labels: str) -> str:
    """A gauge, summed up over the workers."""
    return f"sum{by(*labels)} ({of(metric)})"


def rate(metric: str, *labels: str, **only: str) -> str:
    """A counter's increase a second, summed up over the workers."""
    return f"sum{by(*labels)} (rate({of(metric, **only)}[$__rate_interval]))"


def ratio(part: str, whole: str, *labels: str) -> str:
    """One counter over another, within an hour: what is rare would jump within seconds."""
    counted = (f"sum{by(*labels)} (increase({of(name)}[1h]))" for name in (part, whole))
    return " / ".join(counted)


def quantile(q: float, histogram: str, *labels: str) -> str:
    """A percentile of a histogram, over all workers."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', 'le', *labels)})"


def percentiles(histogram: str) -> list[Query]:
    """p50, p90 and p99 of a histogram."""
    return [Query(quantile(q, histogram), f"p{q * 100:g}") for q, _ in PERCENTILES]


# -- panels ----------------------------------------------------------------------------------


def _targets(
    queries: Sequence[Query], kind: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> list[Builder[Dataquery]]:
    targets: list[Builder[Dataquery]] = []
    for number, query in enumerate(queries):
        one = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).format(kind)
        one.ref_id(chr(ord("A") + number)).datasource(SOURCE)
        targets.append(one.instant() if kind == PromQueryFormat.TABLE else one.range())
    return targets


def _steps(*steps: tuple[float | None, str]) -> build.ThresholdsConfig:
    made = [Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)


def lines(
    title: str,
    unit: str,
    queries: Sequence[Query],
    what: str,
    *,
    span: int = 12,
    stacked: bool = False,
    log: bool = False,
    limit: float | None = None,
    most: float | None = None,
    legend: Sequence[str] = ("lastNotNull", "max"),
) -> timeseries.Panel:
    """Lines over time.

    Parameters
    ----------
    what : what the panel shows and what it is good for
    log : whether the axis is logarithmic
    limit : where a red line is drawn
    most : the axis's end, for what cannot be more
    legend : what the legend tells of each line besides its name
    """
    panel = timeseries.Panel().title(title).description(what).datasource(SOURCE)
    panel.unit(unit).span(span).height(8).targets(_targets(queries))
    panel.line_width(1.5).fill_opacity(30 if stacked else 8).gradient_mode(GraphGradientMode.NONE)
    panel.line_interpolation(LineInterpolation.LINEAR).show_points(VisibilityMode.NEVER)
    panel.span_nulls(False)
    if not log:
        panel.min(0)
    else:
        scale = common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
        panel.thresholds(_steps((None, "transparent"), (limit, RED))).thresholds_style(style)
    shown = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    shown.display_mode(LegendDisplayMode.TABLE).calcs(list(legend))
    panel.legend(shown)
    order = SortOrder.DESCENDING
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(order))
    for q, color in PERCENTILES:
        if any(query.legend == f"p{q * 100:g}" for query in queries):
            fixed = {"mode": FieldColorModeId.FIXED, "fixedColor": color}
            value = DynamicConfigValue(id_val="color", value=fixed)
            panel.override_by_name(f"p{q * 100:g}", [value])
    return panel


def number(
    title: str,
    unit: str,
    query: str,
    what: str,
    *steps: tuple[float | None, str],
    decimals: int | None = None,
) -> stat.Panel:
    """One number, its colour by steps of a value and the colour from there on."""
    panel = stat.Panel().title(title).description(what).datasource(SOURCE)
    panel.unit(unit).span(4).height(4).targets(_targets([Query(query, title)]))
    panel.thresholds(_steps(*(steps or ((None, BLUE),))))
    panel.color_mode(BigValueColorMode.VALUE).graph_mode(BigValueGraphMode.AREA)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel if decimals is None else panel.decimals(decimals)


def heat(title: str, unit: str, histogram: str, what: str, *, span: int = 24) -> heatmap.Panel:
    """How often a histogram's values fell into each bucket, over time."""
    panel = heatmap.Panel().title(title).description(what).datasource(SOURCE)
    counted = f"sum by (le) (increase({of(f'{histogram}_bucket')}[$__rate_interval]))"
    panel.targets(_targets([Query(counted, "{{le}}")], PromQueryFormat.HEATMAP))
    panel.span(span).height(9)
    panel.calculate(False).rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.LE))
    axis = heatmap.YAxisConfig().unit(unit).axis_placement(AxisPlacement.LEFT)
    panel.y_axis(axis).cell_values(heatmap.CellValues().unit("short")).cell_gap(1)
    color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    color.fill("dark-orange").exponent(0.5)
    panel.color(color).show_value(VisibilityMode.NEVER)
    return panel.show_legend().show_tooltip().show_y_histogram()


def rows(
    title: str, query: str, what: str, columns: dict[str, str], *, span: int = 12
) -> table.Panel:
    """A table of series: a column for each label in `columns`, under the name given there."""
    panel = table.Panel().title(title).description(what).datasource(SOURCE)
    panel.targets(_targets([Query(query, "")], PromQueryFormat.TABLE)).span(span).height(8)
    options: dict[str, Any] = {
        "excludeByName": {"Time": True},
        "indexByName": {name: place for place, name in enumerate(columns)},
        "renameByName": columns,
    }
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=options))


def on_time(window: str) -> str:
    """Share of events whose list came within the objective."""
    good = f"sum (rate({of(f'{LATENCY}_bucket', le=str(OBJECTIVE_S))}[{window}]))"
    return f"{good} / sum (rate({of(f'{LATENCY}_count')}[{window}]))"


def event_to_list(span: int = 12) -> object:
    what = "From a record's timestamp until its list is acknowledged. The red line: the objective."
    told = percentiles(LATENCY)
    return lines(
        "Event to list", SECONDS, told, what, limit=OBJECTIVE_S, span=span, legend=("mean", "max")
    )


# -- dashboards ------------------------------------------------------------------------------


def board(uid: str, title: str, what: str, panels: Rows) -> build.Dashboard:
    """A dashboard with the variables that every query uses, and links to the others."""
    made = build.Dashboard(f"Freshet: {title}").uid(f"freshet-{uid}").description(what)
    made.tags(["freshet"]).timezone("browser").readonly().refresh("10s").time("now-1h", "now")
    made.tooltip(DashboardCursorSync.CROSSHAIR)
    source = build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    jobs = _variable("job", "Job", "label_values(freshet_ready, job)")
    workers = _variable("worker", "Worker", 'label_values(freshet_ready{job=~"$job"}, instance)')
    made.with_variable(source).with_variable(jobs).with_variable(workers)
    link = build.DashboardLink("Freshet").type(DashboardLinkType.DASHBOARDS).tags(["freshet"])
    made.link(link.as_dropdown(False).keep_time(True).include_vars(True))
    ids = itertools.count(1)
    for row, of_row in panels.items():
        made.with_row(build.Row(row).id(next(ids)))
        for panel in of_row:
            made.with_panel(panel.id(next(ids)))
    return made


def _variable(name: str, label: str, query: str) -> build.QueryVariable:
    made = build.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    made.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    everything = VariableOption(selected=True, text="All", value="$__all")
    return made.multi(True).include_all(True).current(everything)
