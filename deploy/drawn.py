"""The dashboards as a page of pictures, with a Prometheus' data and without Grafana.

    python -m deploy.drawn --url http://127.0.0.1:9090 --minutes 5 --out build/dashboards.html
    python -m deploy.drawn --png build/dashboards                              # `make panels`
    python -m deploy.drawn --page build/dashboards.html --png build/dashboards

In: the dashboards in grafana/json/, a Prometheus, or a page that was drawn before. Out: one HTML
file with every panel where Grafana has it, and a PNG of each dashboard, taken by a Chromium without
a window: to look at units, legends and whether lines tell something. It is no viewer.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deploy import queries
from stream.errors import FreshetError, UsageError

WIDTH, HEIGHT = 560, 190  # of the coordinates of a picture as wide as half a page
LEFT, BOTTOM = 62, 16  # room for the axes
GRID = 24  # columns of a dashboard
STEPS = 60
NAMED = 8  # lines that a legend names
ROWS = 12  # of a table that are shown
PAGE_WIDTH = 1600  # pixels
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
COLORS = ("#56A64B", "#E0B400", "#3274D9", "#E55400", "#8F3BB8", "#00A3A3", "#C15C17", "#7A7A7A")
_SUFFIX = {"s": "s", "cps": "c/s", "eps": "evt/s", "recps": "rec/s"}
_STYLE = """
body { font: 13px sans-serif; background: #f4f5f5; margin: 16px } h1 { font-size: 20px }
.board { display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px }
.board > * { background: white; border: 1px solid #dcdcdc; padding: 8px; min-width: 0 }
section { padding: 0 12px 12px }
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
    """A panel's series between two moments; what it asks for at one moment, at the later."""
    found = []
    over = {"start": f"{begin_s}", "end": f"{end_s}", "step": f"{(end_s - begin_s) / STEPS}"}
    for target in panel["targets"]:
        expr = queries.filled_in(target["expr"])
        if target.get("instant", False):
            series = queries.ask(url, "query", query=expr, time=f"{end_s}")["result"]
            values = [[one["value"]] for one in series]
        else:
            series = queries.ask(url, "query_range", query=expr, **over)["result"]
            values = [one["values"] for one in series]
        for one, some in zip(series, values, strict=True):
            labels = one["metric"]
            name = re.sub(r"{{(\w+)}}", lambda m: labels.get(m[1], ""), target["legendFormat"])  # noqa: B023
            points = [(float(at), float(value)) for at, value in some]
            kept = [(at, value) for at, value in points if math.isfinite(value)]
            found.append(Line(name, labels, kept))
    return [line for line in found if line.points]


def curves(panel: dict[str, Any], lines: Sequence[Line], begin_s: float, end_s: float) -> str:
    """Lines as SVG, and their legend below."""
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults.get("unit", "")
    limits = defaults.get("thresholds", {}).get("steps", [])[1:]
    values = [value for line in lines for _, value in line.points]
    most = rounded_up(max([*values, *(step["value"] for step in limits)]), unit)
    width = 2 * WIDTH * panel["gridPos"]["w"] / GRID

    def place(at: float, value: float) -> str:
        x = LEFT + (at - begin_s) / (end_s - begin_s) * (width - LEFT)
        return f"{x:.1f},{(HEIGHT - BOTTOM) * (1 - value / most):.1f}"

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = (HEIGHT - BOTTOM) * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{width}" y1="{y}" y2="{y}" stroke="#eee"/>')
        label = html.escape(told(most * share, unit))
        parts.append(f'<text x="{LEFT - 4}" y="{y + 10}" text-anchor="end">{label}</text>')
    for step in limits:
        ends = f"{place(begin_s, step['value'])} {place(end_s, step['value'])}"
        parts.append(f'<polyline points="{ends}" stroke="#E02F44" stroke-dasharray="6 4"/>')
    legend = []
    # As Grafana's legend can be sorted: of many lines those that tell something.
    lines = sorted(lines, key=lambda line: -max(value for _, value in line.points))
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = " ".join(place(*point) for point in line.points)
        parts.append(f'<polyline points="{points}" stroke="{color}" fill="none"/>')
        values = [value for _, value in line.points]
        cells = (line.legend, told(values[-1], unit), told(max(values), unit))
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        legend.append(f'<tr><td><i style="background:{color}"></i></td>{row}</tr>')
    if len(legend) > NAMED:
        others = f"and {len(legend) - NAMED} more"
        legend[NAMED:] = [f'<tr><td></td><td colspan="3">{others}</td></tr>']
    head = "<tr><th></th><th></th><th>last</th><th>max</th></tr>"
    parts += clock(width, begin_s, end_s)
    picture = f'<svg viewBox="0 0 {width} {HEIGHT}">{"".join(parts)}</svg>'
    return f"{picture}<table>{head}{''.join(legend)}</table>"


def rounded_up(value: float, unit: str) -> float:
    """The end of an axis whose quarters are round numbers; 1 where there is nothing to see."""
    if value <= 0:
        return 1.0
    base = 1024.0 if unit in ("bytes", "binBps") else 1000.0
    scale = base ** math.floor(math.log(value, base)) if value >= base else 1.0
    quarter = value / scale / 4
    ten = 10.0 ** math.floor(math.log10(quarter))
    rounds = (1, 2, 2.5, 5, 10)
    return 4 * scale * next(ten * one for one in rounds if ten * one >= quarter * (1 - 1e-9))


def clock(width: float, begin_s: float, end_s: float) -> list[str]:
    """What time it was, below a picture of that width: UTC."""
    marks = []
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = LEFT + share * (width - LEFT)
        text = time.strftime("%H:%M:%S", time.gmtime(begin_s + share * (end_s - begin_s)))
        marks.append(f'<text x="{x}" y="{HEIGHT - 2}" text-anchor="{anchor}">{text}</text>')
    return marks


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
    parts += clock(wide, begin_s, end_s)
    return f'<svg viewBox="0 0 {wide} {HEIGHT}">{"".join(parts)}</svg>'


def drawn(url: str, panel: dict[str, Any], begin_s: float, end_s: float) -> str:
    """What a panel shows, as HTML."""
    lines = lines_of(url, panel, begin_s, end_s)
    if not lines:
        return '<p class="none">no data</p>'
    if panel["type"] == "heatmap":
        return cells(lines, begin_s, end_s)
    if panel["type"] == "stat":
        defaults = panel["fieldConfig"]["defaults"]
        unit, decimals = defaults.get("unit", ""), defaults.get("decimals")
        value = lines[0].points[-1][1]
        if decimals is not None:
            value = round(value, decimals + 2 if unit == "percentunit" else decimals)
        return f'<div class="stat">{html.escape(told(value, unit))}</div>'
    if panel["type"] == "table":
        options = panel["transformations"][0]["options"]
        names = sorted(options["renameByName"], key=options["indexByName"].__getitem__)
        titles = [options["renameByName"][name] for name in names]
        head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
        rows = [
            "".join(f"<td>{html.escape(line.labels.get(name, ''))}</td>" for name in names)
            for line in lines[:ROWS]
        ]
        if len(lines) > ROWS:
            rows.append(f'<td colspan="{len(names)}">and {len(lines) - ROWS} more</td>')
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
        body.append(f'<section id="{file.stem}"><h1>{html.escape(board["title"])}</h1>')
        body.append('<div class="board">')
        for panel in board["panels"]:
            if panel["type"] == "row":
                body.append(f'<div class="row">{html.escape(panel["title"])}</div>')
                continue
            title = f"<h3>{html.escape(panel['title'])}</h3>"
            shown = drawn(url, panel, begin_s, end_s)
            span = f"grid-column: span {panel['gridPos']['w']}"
            body.append(f'<div style="{span}">{title}{shown}</div>')
        body.append("</div></section>")
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{''.join(body)}\n"


def pictures(text: str, folder: Path) -> list[Path]:
    """Take a PNG of each dashboard of a page.

    Raises
    ------
    UsageError : there is no Chromium, or nothing that drives it
    """
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        raise UsageError("--png: no Chromium on the PATH (Debian: apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise UsageError("--png: playwright is not installed; `make panels` has it") from None
    folder.mkdir(parents=True, exist_ok=True)
    taken = []
    with sync_playwright() as playwright:
        # In a container there is often no sandbox to be had; the page is ours, without scripts.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": PAGE_WIDTH, "height": 1000})
        page.set_content(text)
        for board in page.query_selector_all("section"):
            taken.append(folder / f"{board.get_attribute('id')}.png")
            board.screenshot(path=taken[-1])
        browser.close()
    return taken


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every panel of every dashboard with a Prometheus' data."""
    parser = argparse.ArgumentParser(prog="python -m deploy.drawn", description=main.__doc__)
    parser.add_argument("--url", default=queries.URL, help=f"default: {queries.URL}")
    parser.add_argument("--minutes", type=float, default=60, help="how far back (default: 60)")
    parser.add_argument("--out", type=Path, default=Path("build/dashboards.html"))
    parser.add_argument("--page", type=Path, help="a page drawn before, in place of a Prometheus")
    parser.add_argument("--png", type=Path, help="a folder for a picture of each dashboard")
    options = parser.parse_args(arguments)
    end_s = time.time()
    try:
        if options.minutes <= 0:
            raise UsageError("--minutes: more than 0")
        if options.page is None:
            text = page(options.url, end_s - 60 * options.minutes, end_s)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(text, encoding="utf-8")
            print(options.out)
        else:
            text = drawn_before(options.page)
        if options.png is not None:
            print(*pictures(text, options.png), sep="\n")
    except FreshetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def drawn_before(file: Path) -> str:
    """A page that was drawn before.

    Raises
    ------
    UsageError : it cannot be read
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"--page: {file} cannot be read ({error})") from None


if __name__ == "__main__":
    raise SystemExit(main())
