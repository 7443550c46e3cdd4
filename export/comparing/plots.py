"""Draw curves and bars. In: points, values. Out: SVG and HTML that need nothing else.

Must not know: what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito 2008
TICKS = 5
NAMES, ROW, BAR = 310, 26, 16  # pixels: the column of names, a row of bars, a bar


def chart(
    title: str,
    curves: Mapping[str, Points],
    across: str,
    up: str,
    *,
    diagonal: bool = False,
    from_zero: bool = True,
) -> str:
    """A chart of named curves as SVG.

    Parameters
    ----------
    curves : points (x, y) by name, in the order of x
    across, up : what x and y are
    diagonal : draw y = x too, and both axes alike
    from_zero : axes begin at 0, or the least value below it; else at the least value
    """
    points = [point for curve in curves.values() for point in curve] or [(0.0, 0.0)]
    x_range = _range([x for x, _ in points], from_zero)
    y_range = _range([y for _, y in points], from_zero)
    if diagonal:
        x_range = y_range = (0.0, max(x_range[1], y_range[1]))

    def at(x: float, y: float) -> str:
        along = (x - x_range[0]) / (x_range[1] - x_range[0])
        above = (y - y_range[0]) / (y_range[1] - y_range[0])
        drawn_x = LEFT + along * (WIDTH - LEFT - RIGHT)
        return f"{drawn_x:.1f},{HEIGHT - BOTTOM - above * (HEIGHT - TOP - BOTTOM):.1f}"

    def line(points: Points, colour: str, extra: str = "") -> str:
        path = " ".join(at(x, y) for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" {extra}/>'

    parts = [_text(f"{WIDTH / 2},24", title, extra='font-size="15"')]
    for step in range(TICKS + 1):
        x = x_range[0] + (x_range[1] - x_range[0]) * step / TICKS
        y = y_range[0] + (y_range[1] - y_range[0]) * step / TICKS
        parts.append(line([(x_range[0], y), (x_range[1], y)], "#ddd"))
        parts.append(_text(f"{at(x, y_range[0]).split(',')[0]},{HEIGHT - BOTTOM + 18}", f"{x:.3g}"))
        parts.append(_text(f"{LEFT - 8},{float(at(x, y).split(',')[1]) + 4}", f"{y:.3g}", "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 16 {middle})"'
    parts += [
        _text(f"{(LEFT + WIDTH - RIGHT) / 2},{HEIGHT - 10}", across),
        _text(f"16,{middle}", up, extra=turned),
    ]
    if diagonal:
        parts.append(line([(0, 0), (x_range[1], x_range[1])], "#999", 'stroke-dasharray="4 4"'))
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(line(curve, colour, 'stroke-width="2"'))
        for x, y in curve:
            centre_x, centre_y = at(x, y).split(",")
            told = escape(f"{name}: {x:.4g}, {y:.4g}")
            parts.append(
                f'<circle cx="{centre_x}" cy="{centre_y}" r="3" fill="{colour}">'
                f"<title>{told}</title></circle>"
            )
        height = TOP + 14 + 16 * number
        parts.append(_text(f"{LEFT + 10},{height}", name, "start", f'fill="{colour}"'))
    return _svg(HEIGHT, parts)


def bars(title: str, panels: Mapping[str, Mapping[str, float]], marked: Mapping[str, str]) -> str:
    """Bars from 0 in panels side by side, each with its own scale, as SVG.

    Parameters
    ----------
    panels : values by name, by what they are; the same names in each
    marked : kind of each name, which has a colour and stands below
    """
    names = list(dict.fromkeys(name for values in panels.values() for name in values))
    kinds = list(dict.fromkeys(marked[name] for name in names))
    colours = {name: COLOURS[kinds.index(marked[name])] for name in names}
    top, panel = TOP + 30, (WIDTH - NAMES - RIGHT) / len(panels)
    height = top + ROW * len(names) + 10 + 16 * len(kinds)
    parts = [_text(f"{WIDTH / 2},24", title, extra='font-size="15"')]
    for row, name in enumerate(names):
        parts.append(_text(f"{NAMES - 10},{top + ROW * row + 13}", name, "end"))
    for number, (what, values) in enumerate(panels.items()):
        left, room = NAMES + panel * number, panel - 70  # beside the longest stands its value
        parts.append(_text(f"{left:.1f},{top - 12}", what, "start", 'font-weight="bold"'))
        for row, name in enumerate(names):
            y, width = top + ROW * row, room * values[name] / max(*values.values(), 1e-9)
            parts.append(
                f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" '
                f'fill="{colours[name]}"/>'
            )
            parts.append(_text(f"{left + width + 5:.1f},{y + 13}", f"{values[name]:,.6g}", "start"))
    for number, kind in enumerate(kinds):
        place = f"{NAMES},{height - 10 - 16 * (len(kinds) - 1 - number)}"
        parts.append(_text(place, kind, "start", f'fill="{COLOURS[number]}"'))
    return _svg(height, parts)


def _text(place: str, words: str, anchor: str = "middle", extra: str = "") -> str:
    x, y = place.split(",")
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def _svg(height: int, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def page(title: str, charts: Iterable[str]) -> str:
    """One HTML page with the charts, as `chart` gives them, in it."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"/>'
        f"<title>{escape(title)}</title></head>\n<body>\n{''.join(charts)}</body>\n</html>\n"
    )


def _range(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """From the least, or 0 where that is less, to the largest; never empty."""
    low, high = min([*values, 0.0] if from_zero else values), max(values)
    return low, high if high > low else low + 1.0
