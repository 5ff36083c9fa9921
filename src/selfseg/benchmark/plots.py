"""Plots of a benchmark: score over scale, and score against time. Numbers that ``templates/benchmark.html`` draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selfseg.core.classes import class_colours
from selfseg.export.report import Axis, Frame, Marks, ticks

FRAME = Frame(760, 400, 62, 570, 14, 354)
"""The names of the lines stand in the right margin."""

LINE = 15
"""Least distance between two names, in SVG units."""


@dataclass(frozen=True)
class Series:
    """Named points: a curve over scale, or a single point."""

    name: str
    """Shown beside it."""
    points: Sequence[tuple[float, float]]
    """(x, y), ascending in x."""
    colour: int = 0
    """Its number in the palette, so that it looks the same in every plot."""
    strong: bool = False
    """Drawn thick: a method of ours rather than a baseline."""


class PlotLine(NamedTuple):
    """One series in SVG units: a path (empty for a point), its last point, and the height of its name."""

    name: str
    path: str
    x: float
    y: float
    name_y: float
    colour: str
    strong: bool


class Plot(NamedTuple):
    """One plot, with a description for those who do not see it."""

    lines: list[PlotLine]
    x_marks: Marks
    y_marks: Marks
    x_title: str
    y_title: str
    words: str


def plot(series: Sequence[Series], x_title: str, y_title: str) -> Plot | None:
    """Return a plot of curves (several points) and of points (one), x logarithmic; None if no series has points.

    All x are above 0.
    """
    series = [one for one in series if one.points]
    if not series:
        return None
    x, y = _axes_around(series)
    palette = class_colours(max(one.colour for one in series) + 1)
    lines = []
    for one, name_y in zip(series, _name_places([y.place(one.points[-1][1]) for one in series]), strict=True):
        places = [(round(x.place(a), 1), round(y.place(b), 1)) for a, b in one.points]
        path = "M" + "L".join(f"{a} {b}" for a, b in places) if len(places) > 1 else ""
        red, green, blue, _ = palette[one.colour]
        lines.append(PlotLine(one.name, path, *places[-1], round(name_y, 1), f"rgb({red},{green},{blue})", one.strong))
    x_ticks, y_ticks = log_ticks(x.low, x.high), ticks(y.low, y.high, 6)
    words = f"{y_title} against {x_title} for {', '.join(one.name for one in series)}"
    x_marks, y_marks = x.marks(x_ticks, list(map(_short, x_ticks))), y.marks(y_ticks, list(map(_short, y_ticks)))
    return Plot(lines, x_marks, y_marks, x_title, y_title, words)


def _axes_around(series: Sequence[Series]) -> tuple[Axis, Axis]:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    margin = 0.05 * (max(ys) - min(ys)) or 0.05
    low, high = min(xs), max(xs)
    if high < 1.5 * low:
        low, high = low / 1.5, high * 1.5
    x = Axis(low, high, FRAME.left, FRAME.right, log=True)
    return x, Axis(min(ys) - margin, max(ys) + margin, FRAME.bottom, FRAME.top)


def _name_places(heights: Sequence[float]) -> list[float]:
    """Return the heights of the names: as near to their points as they go without touching each other."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    places = [0.0] * len(heights)
    last = float(FRAME.top - LINE)
    for i in order:
        last = max(heights[i], last + LINE)
        places[i] = last
    limit = float(FRAME.bottom)
    for i in reversed(order):
        places[i] = min(places[i], limit)
        limit = places[i] - LINE
    return places


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten in ``[low, high]``; over more than three decades only the powers."""
    factors = (1, 2, 5) if high / low <= 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]


def _short(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")
