"""The dashboards as a page of pictures, with a Prometheus' data and without Grafana.

    python -m deploy.drawn --url http://127.0.0.1:9090 --minutes 5 --out build/dashboards.html

In: the dashboards in grafana/json/, a Prometheus. Out: one HTML file with every panel where Grafana
has it: to look at units, legends and whether lines tell something. It is no viewer.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deploy import queries
from stream.errors import FreshetError, UsageError

WIDTH, HEIGHT = 560, 190  # of a picture's coordinates
LEFT, BOTTOM = 62, 16  # room for the axes
STEPS = 60
COLORS = ("#56A64B", "#E0B400", "#3274D9", "#E55400", "#8F3BB8", "#00A3A3", "#C15C17", "#7A7A7A")
_SUFFIX = {"s": "s", "cps": "c/s", "eps": "evt/s", "recps": "rec/s"}
_STYLE = """
body { font: 13px sans-serif; background: #f4f5f5; margin: 16px } h1 { font-size: 20px }
.board { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
.board > * { background: white; border: 1px solid #dcdcdc; padding: 8px; min-width: 0 }
.row { background: none; border: 0; font-weight: bold; grid-column: 1 / 25 }
h3 { font-size: 13px; margin: 0 0 4px } .none { color: #c00 } .stat { font-size: 30px }
svg { width: 100% } text { font: 11px sans-serif; fill: #555 } td, th { padding: 1px 10px 1px 0 }
table { font-size: 12px; text-align: left } i { display: inline-block; width: 12px; height: 3px }
"""


class Line(NamedTuple):
    """A series of a panel over time.

    Attributes
    ----------
    points : seconds since 1970 and value, without gaps
    """

    legend: str
    labels: dict[str, str]
    points: list[tuple[float, float]]


def told(value: float, unit: str) -> str:
    """A value as Grafana writes it, about.

    Parameters
    ----------
    unit : Grafana's name of it
    """
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{1000 * value:.3g} ms" if abs(value) >= 1e-3 else f"{1e6 * value:.3g} us"
    base = 1024 if unit in ("bytes", "binBps") else 1000
    power = min(4, int(math.log(abs(value), base))) if abs(value) >= base else 0
    prefix = ("", "K", "M", "G", "T")[power]
    if base == 1024:
        prefix = f"{prefix}iB" if prefix else "B"
        prefix += "/s" if unit == "binBps" else ""
    words = (f"{value / base**power:.3g}", prefix, _SUFFIX.get(unit, ""))
    return " ".join(filter(None, words))


def lines_of(url: str, panel: dict[str, Any], begin_s: float, end_s: float) -> list[Line]:
    """A panel's series between two moments."""
    found = []
    for target in panel["targets"]:
        asked = {"start": f"{begin_s}", "end": f"{end_s}", "step": f"{(end_s - begin_s) / STEPS}"}
        expr = queries.filled_in(target["expr"])
        for series in queries.ask(url, "query_range", query=expr, **asked)["result"]:
            labels = series["metric"]
            name = re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), target["legendFormat"])  # noqa: B023
            points = [(float(at), float(value)) for at, value in series["values"]]
            kept = [(at, value) for at, value in points if not math.isnan(value)]
            found.append(Line(name, labels, kept))
    return [line for line in found if line.points]


def curves(panel: dict[str, Any], lines: Sequence[Line], begin_s: float, end_s: float) -> str:
    """Lines as SVG, and their legend below."""
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    most = max(value for line in lines for _, value in line.points) * 1.1 or 1.0
    limits = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])[1:]
    most = max([most, *(step["value"] * 1.1 for step in limits)])

    def place(at: float, value: float) -> str:
        x = LEFT + (at - begin_s) / (end_s - begin_s) * (WIDTH - LEFT)
        return f"{x:.1f},{(HEIGHT - BOTTOM) * (1 - value / most):.1f}"

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = (HEIGHT - BOTTOM) * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}" stroke="#eee"/>')
        label = html.escape(told(most * share, unit))
        parts.append(f'<text x="{LEFT - 4}" y="{y + 10}" text-anchor="end">{label}</text>')
    for step in limits:
        ends = f"{place(begin_s, step['value'])} {place(end_s, step['value'])}"
        parts.append(f'<polyline points="{ends}" stroke="#E02F44" stroke-dasharray="6 4"/>')
    legend = []
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = " ".join(place(*point) for point in line.points)
        parts.append(f'<polyline points="{points}" stroke="{color}" fill="none"/>')
        values = [value for _, value in line.points]
        cells = (line.legend, told(values[-1], unit), told(max(values), unit))
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        legend.append(f'<tr><td><i style="background:{color}"></i></td>{row}</tr>')
    head = "<tr><th></th><th></th><th>last</th><th>max</th></tr>"
    picture = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'
    return f"{picture}<table>{head}{''.join(legend)}</table>"


def cells(lines: Sequence[Line], begin_s: float, end_s: float) -> str:
    """A histogram's buckets as a heatmap in SVG, over the page's whole width."""
    wide = 2 * WIDTH
    ordered = sorted(lines, key=lambda line: float(line.labels["le"]))
    counts: dict[tuple[int, float], float] = {}
    below: dict[float, float] = {}
    for row, line in enumerate(ordered):
        for at, value in line.points:
            counts[row, at] = max(0.0, value - below.get(at, 0.0))
            below[at] = value
    most = max(counts.values()) or 1.0
    height, width = (HEIGHT - BOTTOM) / len(ordered), (wide - LEFT) / STEPS
    parts = []
    for (row, at), count in counts.items():
        if count:
            x = LEFT + (at - begin_s) / (end_s - begin_s) * (wide - LEFT)
            y = (HEIGHT - BOTTOM) - (row + 1) * height
            shade = f'fill="#E55400" fill-opacity="{(count / most) ** 0.5:.2f}"'
            box = f'width="{width:.1f}" height="{height:.1f}"'
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {box} {shade}/>')
    for row, line in enumerate(ordered[::3]):
        label = told(float(line.labels["le"]), "s")
        y = (HEIGHT - BOTTOM) - 3 * row * height
        parts.append(f'<text x="{LEFT - 4}" y="{y:.1f}" text-anchor="end">{label}</text>')
    return f'<svg viewBox="0 0 {wide} {HEIGHT}">{"".join(parts)}</svg>'


def drawn(url: str, panel: dict[str, Any], begin_s: float, end_s: float) -> str:
    """What a panel shows, as HTML."""
    lines = lines_of(url, panel, begin_s, end_s)
    if not lines:
        return '<p class="none">no data</p>'
    if panel["type"] == "heatmap":
        return cells(lines, begin_s, end_s)
    if panel["type"] == "stat":
        unit = panel["fieldConfig"]["defaults"].get("unit", "")
        return f'<div class="stat">{html.escape(told(lines[0].points[-1][1], unit))}</div>'
    if panel["type"] == "table":
        names = panel["transformations"][0]["options"]["renameByName"]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names.values())
        rows = [
            "".join(f"<td>{html.escape(line.labels.get(name, ''))}</td>" for name in names)
            for line in lines
        ]
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    return curves(panel, lines, begin_s, end_s)


def page(url: str, begin_s: float, end_s: float) -> str:
    """Every dashboard, one below the other.

    Raises
    ------
    UsageError : no Prometheus answers at `url`
    """
    body = []
    for file in sorted(queries.BOARDS.glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        body.append(f'<h1>{html.escape(board["title"])}</h1><div class="board">')
        for panel in board["panels"]:
            if panel["type"] == "row":
                body.append(f'<div class="row">{html.escape(panel["title"])}</div>')
                continue
            title = f"<h3>{html.escape(panel['title'])}</h3>"
            shown = drawn(url, panel, begin_s, end_s)
            span = f"grid-column: span {panel['gridPos']['w']}"
            body.append(f'<div style="{span}">{title}{shown}</div>')
        body.append("</div>")
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{''.join(body)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every panel of every dashboard with a Prometheus' data."""
    parser = argparse.ArgumentParser(prog="python -m deploy.drawn", description=main.__doc__)
    parser.add_argument("--url", default=queries.URL, help=f"default: {queries.URL}")
    parser.add_argument("--minutes", type=float, default=60, help="how far back (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("build/dashboards.html"))
    options = parser.parse_args(arguments)
    end_s = time.time()
    try:
        if options.minutes <= 0:
            raise UsageError("--minutes: more than 0")
        text = page(options.url, end_s - 60 * options.minutes, end_s)
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
