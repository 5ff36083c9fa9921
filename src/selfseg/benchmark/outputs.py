"""Outputs of a benchmark: tables, plots, contact sheets, ``report.html``, and the facts that its figures depend on."""

import math
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from selfseg.benchmark import tables
from selfseg.benchmark.jobs import BenchmarkJob, find_item
from selfseg.benchmark.runner import BenchmarkPlan, Rows
from selfseg.benchmark.tables import Column, Standing
from selfseg.core.classes import class_colours
from selfseg.core.errors import InputError
from selfseg.core.files import write_json, write_text
from selfseg.core.machine import n_threads
from selfseg.export.overlay import displayed, middle_planes, overlay, plane_shape, write_picture
from selfseg.export.report import Axis, EmbeddedPicture, Frame, Marks, data_uri, render, thumbnail, ticks
from selfseg.read.datasets import find_dataset
from selfseg.read.labels import read_labels
from selfseg.results.model import selfseg_version

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba")

SIDE = 360
"""Longer side of a picture on a sheet, in pixels."""

GAP = 6
"""Pixels between two of them."""

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


@dataclass(frozen=True)
class Sheet:
    """Three rows of pictures: photo, labels, truth."""

    names: tuple[str, ...]
    """Images of the rows: best, median, worst."""
    scores: tuple[float, ...]
    """Their main scores."""
    picture: NDArray[np.uint8]
    """``[H W 3]`` uint8."""


def write_outputs(plan: BenchmarkPlan, result: Rows, command: str) -> tuple[list[Standing], tuple[Column, ...]]:
    """Write ``table.md``, ``table.csv``, ``images.csv``, ``results.json``, ``sheets/`` and ``report.html``.

    Returns the standings and columns of the tables. InputError with the first failure if there is no row at all.
    """
    if not result.rows:
        raise InputError(result.failures[0][1] if result.failures else "benchmark: no image was asked for")
    out, dataset = plan.place.out, find_dataset(plan.place.dataset)
    columns = tables.columns_of(dataset.task, plan.curve)
    main = columns[0]
    found = tables.standings(result.rows, main.key)
    found.sort(key=lambda one: -main.sign * one.values.get(main.key, -math.inf))
    wanted = len(plan.items())
    sheets = _sheets(plan, found, main.sign)
    facts = run_facts()
    by_kind = tables.kinds_markdown(result.rows, found, columns)
    write_text(out / "table.md", "\n".join(filter(None, [tables.as_markdown(found, columns, wanted), by_kind])))
    write_text(out / "table.csv", tables.as_csv(found))
    write_text(out / "images.csv", tables.images_csv(result.rows, columns))
    write_json(out / "results.json", _results(plan, result, found, facts, command))
    for title, sheet in sheets.items():
        write_picture(out / "sheets" / f"{title}.png", sheet.picture)
    shown = tables.shown_columns(found, columns)
    learned = f"on {plan.train}" if plan.train else "on each image alone"
    headline = {"images": str(wanted), "seeds": ", ".join(map(str, plan.seeds)), "methods learn": learned}
    over_scale, against_time = _plots(found, main)
    page = render(
        "benchmark.html",
        "selfseg.benchmark",
        title=f"{dataset.title}: {plan.place.split}",
        facts={**headline, "commit": facts["commit"], "date": facts["date"]},
        script="",
        columns=shown,
        rows=list(zip(found, tables.table_rows(found, shown, wanted), strict=True)),
        oracle_note=tables.ORACLE_NOTE,
        main=main,
        frame=FRAME,
        over_scale=over_scale,
        against_time=against_time,
        sheets=[
            (title, _ranks(sheet, main), EmbeddedPicture(data_uri(sheet.picture), *sheet.picture.shape[1::-1]))
            for title, sheet in sheets.items()
        ],
        run={"command": command, **facts, "licence": dataset.licence, "please cite": dataset.citation},
        failures=result.failures,
    )
    write_text(out / "report.html", page)
    return found, columns


def _sheets(plan: BenchmarkPlan, found: Sequence[Standing], sign: int) -> dict[str, Sheet]:
    jobs: dict[Any, list[BenchmarkJob]] = {}
    for job in plan.jobs():
        if job.seed == plan.seeds[0]:
            jobs.setdefault(job.contender, []).append(job)
    made = {one.contender.title: make_sheet(one, jobs[one.contender], sign) for one in found}
    return {title: sheet for title, sheet in made.items() if sheet is not None}


def _results(
    plan: BenchmarkPlan, result: Rows, found: Sequence[Standing], facts: dict[str, str], command: str
) -> dict[str, Any]:
    return {
        "dataset": plan.place.dataset,
        "split": plan.place.split,
        "images": plan.items(),
        "seeds": list(plan.seeds),
        "train": plan.train,
        "command": command,
        "facts": facts,
        "standings": tables.table_json(found),
        "failures": [{"what": what, "error": message} for what, message in result.failures],
    }


def _plots(found: Sequence[Standing], main: Column) -> tuple[Plot | None, Plot | None]:
    """Return covering over scale, and the main score against time."""
    curves, points = [], []
    for number, one in enumerate(found):
        name, ours = one.contender.title, one.contender.is_method
        seconds, score = one.values["seconds"], one.values.get(main.key, math.nan)
        if len(one.curve) > 1:
            curves.append(Series(name, one.curve, number, ours))
        if seconds > 0 and not math.isnan(score):
            points.append(Series(name, [(seconds, score)], number, ours))
    over_scale = plot(curves, "mean number of regions", "covering")
    return over_scale, plot(points, "median seconds an image", main.head)


def _ranks(sheet: Sheet, main: Column) -> str:
    """Return the images of a sheet with their scores, in a line."""
    ranks = ("best", "median", "worst") if len(sheet.names) == 3 else ("image",) * len(sheet.names)
    rows = zip(ranks, sheet.names, sheet.scores, strict=True)
    return "; ".join(f"{rank}: {name} ({tables.written(score, main.digits)})" for rank, name, score in rows)


def ranked(standing: Standing, sign: int) -> list[str]:
    """Return the best, the median and the worst image; fewer if there are fewer."""
    known = [(score, name) for name, score in standing.by_image.items() if not np.isnan(score)]
    order = [name for _, name in sorted(known, key=lambda pair: (-sign * pair[0], pair[1]))]
    chosen = [order[0], order[len(order) // 2], order[-1]] if order else []
    return list(dict.fromkeys(chosen))


def make_sheet(standing: Standing, jobs: Sequence[BenchmarkJob], sign: int) -> Sheet | None:
    """Return the sheet of one contender, of its first seed; None if it has no ranked image. `sign` as in `Column`."""
    job_of = {job.item: job for job in reversed(jobs)}
    names = [name for name in ranked(standing, sign) if name in job_of]
    if not names:
        return None
    rows = [_row(job_of[name]) for name in names]
    return Sheet(tuple(names), tuple(standing.by_image[name] for name in names), _stacked(rows))


def _row(job: BenchmarkJob) -> list[NDArray[np.uint8]]:
    item = find_item(job.place, job.item)
    image = item.load_image()
    truths = item.load_truths()
    planes = middle_planes(plane_shape(image)[0], 1)
    tiles = [displayed(image, planes)[0], overlay(image, read_labels(job.label_file).astype(np.int64))]
    task = find_dataset(job.place.dataset).task
    if task != "none":
        truth = np.asarray(truths[len(truths) // 2], np.int64)
        # The first region of a partition may be 0, which elsewhere is the background and stays uncoloured.
        tiles.append(overlay(image, truth - truth.min() + 1 if task == "partition" else truth))
    return [thumbnail(tile, SIDE) for tile in tiles]


def _stacked(rows: Sequence[Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    widths = [sum(tile.shape[1] + GAP for tile in row) - GAP for row in rows]
    heights = [max(tile.shape[0] for tile in row) for row in rows]
    sheet = np.full((sum(heights) + GAP * (len(rows) - 1), max(widths), 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for tile in row:
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
            left += tile.shape[1] + GAP
        top += height + GAP
    return sheet


def run_facts() -> dict[str, str]:
    """Return commit, date, versions and hardware, as short strings."""
    facts = {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "selfseg": selfseg_version(),
        "python": platform.python_version(),
        "processor": processor(),
        "cores": f"{n_threads()} of {os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "device": device(),
    }
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def commit() -> str:
    """Return the commit of the checkout that this package lies in, marked where files differ; else ``not a checkout``."""
    folder = Path(__file__).parent
    try:
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "not a checkout"


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def device() -> str:
    """Return where networks are computed."""
    import torch

    from selfseg.sample.device import choose_device

    chosen = choose_device("auto")
    return f"{chosen.type} ({torch.cuda.get_device_name(chosen)})" if chosen.type == "cuda" else chosen.type


def plot(series: Sequence[Series], x_title: str, y_title: str) -> Plot | None:
    """Return a plot of curves (several points) and of points (one), x logarithmic and above 0; None if no series has points."""
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
