"""Loss curves as small multiples: one panel a term, drawn as inline SVG with readable axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 34
"""Size of a panel and its margins, in SVG units."""

TITLE, GAP = 24, 28
"""Room for the title of a panel, and between two panels, where they stand in a file of their own."""

ALONE = (
    "text{font:11.5px sans-serif;fill:#5b636b}.title{font-weight:650;fill:#1c2024}path{fill:none}.grid{stroke:#dfe3e7}"
    ".axis{stroke:#5b636b}.line{stroke:#0b63a5;stroke-width:2}.raw{stroke:#0b63a5;opacity:.35}.dot{fill:#0b63a5}"
)
"""Look of the panels in a file of their own; in the page its style sheet says it."""

MOST_POINTS = 400
"""Points drawn in a panel; longer curves keep the least and the largest value of each stretch."""

EXPLAINED = (
    "Each panel has its own scale. Thin line: each recorded step; thick line: running mean of about 1/25 of the steps."
)

SMOOTH_FROM = 60
"""Curves of so many values or more get a running mean drawn over them."""


@dataclass(frozen=True)
class _Frame:
    """From steps and values to places in the panel."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, step: float) -> float:
        return LEFT + (step - self.low_x) / ((self.high_x - self.low_x) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.high_y - value) / (self.high_y - self.low_y) * (HEIGHT - TOP - BOTTOM)


def curve_section(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return one panel for each curve that has values."""
    panels = "".join(_panel(name, points) for name, points in curves.items() if len(points))
    if not panels:
        return ""
    explained = f'<p class="quiet">{EXPLAINED}</p>'
    return (
        f'<section id="training">\n<h2>Training</h2>\n<div class="curves">\n{panels}</div>\n{explained}\n</section>\n'
    )


def curves_svg(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return the same panels as one SVG document that needs no page around it; empty if no curve has values."""
    drawn = {name: points for name, points in curves.items() if any(math.isfinite(value) for _, value in points)}
    if not drawn:
        return ""
    n_columns = min(len(drawn), 3)
    height, width = HEIGHT + TITLE, WIDTH + GAP
    panels = []
    for place, (name, points) in enumerate(drawn.items()):
        steps, values = np.array(points, np.float64).T
        whole = bool(np.all(values[np.isfinite(values)] % 1 == 0))
        at = f"translate({place % n_columns * width} {place // n_columns * height + TITLE})"
        title = f'<text class="title" x="{LEFT}" y="-4">{escape(name)}</text>'
        panels.append(f'<g transform="{at}">\n{title}\n{_drawn(steps, values, whole)}</g>\n')
    size = f"{n_columns * width - GAP} {-(-len(drawn) // n_columns) * height}"
    style = f"<style>{ALONE}</style>\n<rect width='100%' height='100%' fill='#fff'/>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">\n{style}\n{"".join(panels)}</svg>\n'


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


def _panel(name: str, points: Sequence[tuple[float, float]]) -> str:
    steps, values = np.array(points, np.float64).T
    finite = np.isfinite(values)
    values = np.where(finite, values, np.nan)
    if not finite.any():
        return _figure(name, f"no finite value in {len(points)} steps", "")
    first, last = values[finite][[0, -1]]
    whole = bool(np.all(values[finite] == np.round(values[finite])))
    missing = "" if finite.all() else f", {int((~finite).sum())} not finite"
    words = escape(f"{name} over {len(points)} steps, from {first:.4g} to {last:.4g}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">\n{_drawn(steps, values, whole)}</svg>'
    return _figure(name, f"{last:.4g} at the end{missing}".replace("-", "−"), svg)


def _figure(name: str, remark: str, svg: str) -> str:
    caption = f'<figcaption><h3>{escape(name)}</h3><span class="quiet">{remark}</span></figcaption>'
    return f'<figure class="curve">{caption}\n{svg}</figure>\n'


def _drawn(steps: NDArray[np.float64], values: NDArray[np.float64], whole: bool) -> str:
    frame = _Frame(float(steps.min()), float(steps.max()), *_limits(values))
    smooth = not whole and len(values) >= SMOOTH_FROM
    parts = [_axes(frame, whole)]
    parts.append(f'<path class="{"raw" if smooth else "line"}" d="{_path(frame, *_thinned(steps, values), whole)}"/>\n')
    if smooth:
        parts.append(f'<path class="line" d="{_path(frame, *_thinned(steps, _running_mean(values)), whole)}"/>\n')
    elif len(values) == 1:
        parts.append(f'<circle class="dot" cx="{frame.x(steps[0]):.1f}" cy="{frame.y(values[0]):.1f}" r="3"/>\n')
    return "".join(parts)


def _path(frame: _Frame, steps: NDArray[np.float64], values: NDArray[np.float64], stairs: bool) -> str:
    """Return an SVG path, with a gap where a value is missing; counts change at once, so they are drawn as stairs."""
    pieces, pen = [], "M"
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        if math.isnan(value):
            pen = "M"
            continue
        corner = f"H{frame.x(step):.1f}" if stairs and pen == "L" else ""
        pieces.append(f"{corner}{pen}{frame.x(step):.1f} {frame.y(value):.1f}")
        pen = "L"
    return "".join(pieces)


def _axes(frame: _Frame, whole: bool) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    marks = ticks(frame.low_y, frame.high_y, whole=whole)
    for value in marks:
        y = f"{frame.y(value):.1f}"
        text = f'<text x="{LEFT - 6}" y="{y}" dy=".32em" text-anchor="end">{_number(value, marks)}</text>'
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{right}"/>{text}')
    marks = ticks(frame.low_x, frame.high_x, whole=True)
    for value in marks:
        x = f"{frame.x(value):.1f}"
        text = f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{_number(value, marks)}</text>'
        parts.append(f'<path class="axis" d="M{x} {bottom}v4"/>{text}')
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    parts.append(f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 3}" text-anchor="middle">step</text>\n')
    return "".join(parts)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and largest shown value: zero is included when it is near, and nothing is flat."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
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
