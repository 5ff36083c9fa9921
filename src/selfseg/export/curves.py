"""Loss curves as small multiples, one panel a term: the numbers that ``templates/curves.html`` and ``curves.svg`` draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfseg.export.report import render

MOST_POINTS = 400
"""Points drawn in a panel; longer curves keep the least and the largest value of each stretch."""

SMOOTH_FROM = 60
"""Curves of so many values or more get a running mean drawn over them."""

Marks = list[tuple[str, str]]
"""Ticks of an axis: place and text of each."""


class Frame(NamedTuple):
    """Size of a plot in SVG units, and where the area inside its margins begins and ends."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int


PANEL = Frame(340, 190, 52, 328, 10, 156)


@dataclass(frozen=True)
class Axis:
    """From values to places in SVG units: `low` lies at `start` and `high` at `stop`; `log` = on a logarithmic scale."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.stop - self.start)

    def marks(self, values: Sequence[float], texts: Sequence[str]) -> Marks:
        """Return the ticks at some values."""
        return [(f"{self.place(value):.1f}", text) for value, text in zip(values, texts, strict=True)]


@dataclass(frozen=True)
class Panel:
    """One curve, ready to be drawn."""

    name: str
    remark: str
    words: str = ""
    """Heading, its last value, and a description for those who do not see it."""
    lines: tuple[tuple[str, str], ...] = ()
    """Class (``line``, or ``raw`` for what lies under a running mean) and SVG path of each line; none = no finite value."""
    dot: tuple[str, str] | None = None
    """Place of the only value."""
    x_marks: Marks | None = None
    y_marks: Marks | None = None
    """Ticks of the axes."""


def curves_svg(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the panels of all curves as one SVG document that needs no page around it; empty if none has values."""
    panels = [panel for panel in curve_panels(curves) if panel.lines]
    return render("curves.svg", panels=panels, frame=PANEL) if panels else ""


def curve_panels(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Panel]:
    """Return a panel for each curve of (step, value) that has any."""
    return [_panel(name, points) for name, points in curves.items() if len(points)]


def ticks(low: float, high: float, wanted: int = 4, whole: bool = False) -> list[float]:
    """Return round values (1, 2 or 5 times a power of ten apart) that lie in ``[low, high]``, about `wanted`."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _panel(name: str, points: Sequence[tuple[float, float]]) -> Panel:
    steps, values = np.array(points, np.float64).T
    finite = np.isfinite(values)
    if not finite.any():
        return Panel(name, f"no finite value in {len(points)} steps")
    values = np.where(finite, values, np.nan)
    first, last = values[finite][[0, -1]]
    whole = bool(np.all(values[finite] == np.round(values[finite])))
    missing = "" if finite.all() else f", {int((~finite).sum())} not finite"
    x, y = Axis(steps.min(), steps.max(), PANEL.left, PANEL.right), Axis(*_limits(values), PANEL.bottom, PANEL.top)
    smooth = not whole and len(values) >= SMOOTH_FROM
    lines = [("raw" if smooth else "line", _path(x, y, *_thinned(steps, values), whole))]
    if smooth:
        lines.append(("line", _path(x, y, *_thinned(steps, _running_mean(values)), whole)))
    x_ticks, y_ticks = ticks(x.low, x.high, whole=True), ticks(y.low, y.high, whole=whole)
    return Panel(
        name,
        f"{last:.4g} at the end{missing}".replace("-", "−"),
        f"{name} over {len(points)} steps, from {first:.4g} to {last:.4g}",
        tuple(lines),
        (f"{x.place(steps[0]):.1f}", f"{y.place(values[0]):.1f}") if len(values) == 1 else None,
        x.marks(x_ticks, [_number(value, x_ticks) for value in x_ticks]),
        y.marks(y_ticks, [_number(value, y_ticks) for value in y_ticks]),
    )


def _path(x: Axis, y: Axis, steps: NDArray[np.float64], values: NDArray[np.float64], stairs: bool) -> str:
    """Return an SVG path, with a gap where a value is missing; counts change at once, so they are drawn as stairs."""
    pieces, pen = [], "M"
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        corner = f"H{x.place(step):.1f}" if stairs and pen == "L" else ""
        pieces.append(f"{corner}{pen}{x.place(step):.1f} {y.place(value):.1f}")
        pen = "L"
    return "".join(pieces)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and largest shown value: zero is included when it is near, and nothing is flat."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if 0 < low < 0.5 * high:
        low = 0.0
    elif 0.5 * low < high < 0:
        high = 0.0
    margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
    return (low if low == 0 else low - margin), (high if high == 0 and low != 0 else high + margin)


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a centred window of 1/25 of the values, cut short at the ends; gaps count nothing."""
    half = max(1, len(values) // 50)
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    count = counts[stop] - counts[start]
    mean: NDArray[np.float64] = np.where(count > 0, (sums[stop] - sums[start]) / np.maximum(count, 1), np.nan)
    return mean


def _thinned(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most `MOST_POINTS` points: the first, the last, and the extremes of each stretch."""
    if len(values) <= MOST_POINTS:
        return steps, values
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), MOST_POINTS // 2 - 1):
        if np.isfinite(values[stretch]).any():
            kept |= {int(stretch[np.nanargmin(values[stretch])]), int(stretch[np.nanargmax(values[stretch])])}
    index = np.array(sorted(kept))
    return steps[index], values[index]


def _number(value: float, marks: Sequence[float]) -> str:
    """Return a tick value with as many digits as its neighbours need."""
    largest = max(abs(mark) for mark in marks)
    if largest >= 1e6 or 0 < largest < 1e-3:
        return f"{value:.2g}".replace("-", "−") if value else "0"
    step = abs(marks[1] - marks[0]) if len(marks) > 1 else abs(value) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}".replace("-", "−") if abs(value) > step / 2 else "0"
