"""Plots of a benchmark as inline SVG: score over scale, and score against time. Lines and points carry their names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from selfseg.core.palette import class_colours
from selfseg.export._report_curves import ticks

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 190, 14, 46
"""Size of a plot and its margins, in SVG units; names stand in the right margin."""

LINE = 15
"""Least distance between two names, in SVG units."""


@dataclass(frozen=True)
class Series:
    """Named points: a curve over scale, or a single point.

    Attributes
    ----------
    name
        Shown beside it.
    points
        (x, y), ascending in x.
    colour
        Its number in the palette, so that it looks the same in every plot.
    strong
        Drawn thick: a method of ours rather than a baseline.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    strong: bool = False


@dataclass(frozen=True)
class _Frame:
    """From values to places: x on a logarithmic scale, y on a linear one."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    @classmethod
    def around(cls, series: Sequence[Series]) -> "_Frame":
        xs = [x for one in series for x, _ in one.points]
        ys = [y for one in series for _, y in one.points]
        margin = 0.05 * (max(ys) - min(ys)) or 0.05
        low_x, high_x = min(xs), max(xs)
        if high_x < 1.5 * low_x:
            low_x, high_x = low_x / 1.5, high_x * 1.5
        return cls(low_x, high_x, min(ys) - margin, max(ys) + margin)

    def x(self, value: float) -> float:
        share = math.log(value / self.low_x) / math.log(self.high_x / self.low_x)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.high_y - value) / (self.high_y - self.low_y) * (HEIGHT - TOP - BOTTOM)


def plot(series: Sequence[Series], x_title: str, y_title: str) -> str:
    """Return a plot of curves (several points) and of points (one), x logarithmic; empty if there is nothing to draw.

    Parameters
    ----------
    series
        What to draw; those without points are left out. All x are above 0.
    x_title, y_title
        Titles of the axes.
    """
    series = [one for one in series if one.points]
    if not series:
        return ""
    frame = _Frame.around(series)
    palette = class_colours(max(one.colour for one in series) + 1)
    places = _name_places([frame.y(one.points[-1][1]) for one in series])
    parts = [_axes(frame, x_title, y_title)]
    for one, place in zip(series, places, strict=True):
        red, green, blue, _ = palette[one.colour]
        parts.append(_drawn(one, f"rgb({red},{green},{blue})", frame, place))
    words = escape(f"{y_title} against {x_title} for {', '.join(one.name for one in series)}")
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">\n{"".join(parts)}</svg>\n'
    )


def _drawn(one: Series, colour: str, frame: _Frame, place: float) -> str:
    weight = 3 if one.strong else 1.5
    path = " ".join(f"{'M' if i == 0 else 'L'}{frame.x(x):.1f} {frame.y(y):.1f}" for i, (x, y) in enumerate(one.points))
    last_x, last_y = (f(value) for f, value in zip((frame.x, frame.y), one.points[-1], strict=True))
    dash = "" if one.strong else ' stroke-dasharray="5 3"'
    line = (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{weight}"{dash}/>' if len(one.points) > 1 else ""
    )
    dot = f'<circle cx="{last_x:.1f}" cy="{last_y:.1f}" r="{5 if one.strong else 3.5}" fill="{colour}"/>'
    edge = WIDTH - RIGHT + 14
    lead = f'<path class="axis" d="M{last_x + 6:.1f} {last_y:.1f}L{edge - 4} {place:.1f}"/>'
    style = ' font-weight="650"' if one.strong else ""
    name = f'<rect x="{edge}" y="{place - 4:.1f}" width="9" height="9" fill="{colour}"/>'
    text = f'<text x="{edge + 14}" y="{place:.1f}" dy=".32em"{style}>{escape(one.name)}</text>'
    return f"{line}{lead}{dot}{name}{text}\n"


def _name_places(heights: Sequence[float]) -> list[float]:
    """Return the heights of the names: as near to their points as they go without touching each other."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    places = [0.0] * len(heights)
    last = float(TOP - LINE)
    for i in order:
        last = max(heights[i], last + LINE)
        places[i] = last
    limit = float(HEIGHT - BOTTOM)
    for i in reversed(order):
        places[i] = min(places[i], limit)
        limit = places[i] - LINE
    return places


def _axes(frame: _Frame, x_title: str, y_title: str) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in ticks(frame.low_y, frame.high_y, 6):
        y = f"{frame.y(value):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y}" dy=".32em" text-anchor="end">{_short(value)}</text>')
    for value in log_ticks(frame.low_x, frame.high_x):
        x = f"{frame.x(value):.1f}"
        parts.append(f'<path class="axis" d="M{x} {bottom}v5"/>')
        parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{_short(value)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    middle = (TOP + bottom) // 2
    turned = f'transform="rotate(-90 14 {middle})"'
    parts.append(f'<text x="14" y="{middle}" {turned} text-anchor="middle">{escape(y_title)}</text>\n')
    return "".join(parts)


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten in ``[low, high]``; over more than three decades only the powers."""
    factors = (1, 2, 5) if high / low <= 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def _short(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")
