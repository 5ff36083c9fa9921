"""First look: quick segmentations of a few of the user's images side by side, to choose a method by eye.

No label-free score that we know chooses among methods as well as a glance does (docs/label_free.md). So several are shown at once: contours
at three levels, objects bright and dark, colours, textures, membranes, a threshold; each with the command that repeats it on everything.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from selfseg.core.errors import InputError, SelfsegError
from selfseg.core.files import clear_unfinished, write_json, write_text
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.export.overlay import displayed, overlay
from selfseg.export.report import embedded, render, thumbnail
from selfseg.learning.segmenter import Segmenter
from selfseg.methods.base import method_names
from selfseg.read import Source, find_inputs
from selfseg.read.frames import Frames
from selfseg.read.video import VideoFrames, open_video
from selfseg.regions.membranes import dark_lines
from selfseg.regions.texture import colour_channels, luminance
from selfseg.sample.choose import most_different

MOST_IMAGES = 3
"""Images that are shown."""

MOST_OPENED = 24
"""Images among which those are chosen, evenly spread over the inputs."""

MOST_PIXELS = 4_000_000
"""Larger images are shown in crops."""

CROP = 1024
"""Side of a crop in pixels."""

MOST_CROPS = 64
"""Crops among which those that differ most are chosen."""

SMOOTH = 2.0
"""Standard deviation, in pixels, by which lightness is smoothed before its skewness is measured."""

SIDE = 480
"""Longer side of a tile's picture in pixels."""


SAFE, LEAST_COVER, LEAST_OBJECTS = 0.78, 0.01, 5
"""Least agreement of the two ways to find objects, share of the picture and number, for objects."""

MOST_SPREAD = {"grey": 1.2, "colour": 0.95}
"""Largest standard deviation of the logarithm of the objects' sizes."""

RARE, LEAST_RARE, GREY = 1.2, 20, 2.0
"""Skewness of lightness towards the objects, and number of them, above which they lie on a plain ground; standard deviation of Lab's
a and b below which an image is grey."""

EVEN, STRONG = 0.85, 0.17
"""Evenness and strength of dark lines (`regions.membranes.dark_lines`) from which on they are membranes."""


@dataclass(frozen=True)
class Candidate:
    """One way to segment: a method with its options, and a plain name."""

    title: str
    """Plain name, for users who are new to the methods."""
    purpose: str
    """Kind of images it is for."""
    method: str
    preset: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        """Arguments of the command line."""
        words = [f"--method {self.method}"]
        words += [] if self.preset == "default" else [f"--preset {self.preset}"]
        return " ".join([*words, *(f"--set {key}={value}" for key, value in self.options.items())])


CANDIDATES = (
    Candidate("Regions", "photographs, maps, tissue", "contours"),
    Candidate("Fewer regions", "photographs, maps, tissue", "contours", "coarse"),
    Candidate("More regions", "photographs, maps, tissue", "contours", "fine"),
    Candidate("Bright objects", "nuclei, cells, grains", "objects", options={"polarity": "bright"}),
    Candidate("Dark objects", "stained nuclei, particles", "objects", options={"polarity": "dark"}),
    Candidate("Membranes", "cells between dark lines", "membranes"),
    Candidate("Colours", "stains, land cover", "kmeans"),
    Candidate("Textures", "fabrics, tissue, rock", "kmeans", "texture"),
    Candidate("Bright and dark", "anything on a plain ground", "threshold"),
)
"""Candidates, in the order in which they are shown; those whose method is missing are left out."""


def candidates() -> list[Candidate]:
    """Return the candidates whose method is there."""
    known = set(method_names())
    return [candidate for candidate in CANDIDATES if candidate.method in known]


@dataclass(frozen=True)
class View:
    """An image, or the part of one, that is shown."""

    image: Image
    """In 2D, in memory."""
    whole: tuple[int, ...]
    """Spatial sizes of what it is part of."""
    part: str = ""
    """Name of the part, such as ``slice 12 of 31``; empty = all of it."""

    @property
    def share(self) -> float:
        """Pixels of the view, as a share of those of the whole."""
        return prod(self.image.spatial_shape) / prod(self.whole)


@dataclass(frozen=True)
class Tile:
    """Result of one candidate for the views."""

    candidate: Candidate
    pictures: tuple[NDArray[np.uint8], ...] = ()
    """Overlay of each view, ``[H W 3]``."""
    counts: tuple[int, ...] = ()
    """Classes, or objects, in each view."""
    unit: str = "classes"
    figures: Mapping[str, float] = field(default_factory=dict)
    """Facts for the suggestion: the method's own (`Method.status`), those of its objects, and those of the pictures."""
    seconds: float = 0.0
    """Time for all views, learning included."""
    whole_seconds: float = 0.0
    whole_bytes: int = 0
    """Estimates for the largest whole image: proportional to its pixels; the method's own estimate of memory."""
    suggested: str = ""
    """Reason why this one is suggested; empty = it is not."""
    error: str = ""
    """Reason why there are no pictures."""

    @property
    def facts(self) -> str:
        """Counts, time, and what the whole image will take."""
        if self.error:
            return ""
        counts = ", ".join(map(str, self.counts))
        line = f"{counts} {self.unit} in {self.seconds:.1f} s"
        if self.whole_seconds > 1.5 * self.seconds:
            line += (
                f"; a whole image takes about {_duration(self.whole_seconds)} and {self.whole_bytes / 2**30:.1f} GiB"
            )
        return line


def choose_views(sources: Sequence[Source], axes: str | None = None) -> tuple[list[View], list[tuple[str, str]]]:
    """Choose up to three images, slices, frames or crops that differ most, and return them with the inputs that failed.

    Raises
    ------
    SelfsegError
        If no input can be opened: the error of the first.
    """
    step = max(1, ceil(len(sources) / MOST_OPENED))
    shown: list[View] = []
    failures: list[tuple[str, str]] = []
    first: SelfsegError | None = None
    for source in sources[::step]:
        try:
            shown.extend(_planes(source, axes, MOST_IMAGES if len(sources) == 1 else 1))
        except SelfsegError as error:
            first = first or error
            failures.append((source.name, str(error)))
    if not shown:
        raise first or InputError("inputs", expected="at least one image", got="none", fix="check the names")
    channels = shown[0].image.n_channels
    shown = [view for view in shown if view.image.n_channels == channels]
    chosen = [shown[i] for i in most_different(((i, view.image) for i, view in enumerate(shown)), MOST_IMAGES)]
    crops = [crop for view in chosen for crop in _crops(view, MOST_IMAGES if len(chosen) == 1 else 1)]
    return crops[:MOST_IMAGES], failures


def look(views: Sequence[View], progress: Progress | None = None, seed: int = 0) -> Iterator[Tile]:
    """Segment the views with each candidate, learned from all of them together, and yield the tiles as they are done.

    Parameters
    ----------
    views
        Result of `choose_views`.
    progress
        Progress reporter.
    seed
        Seed of every random choice.
    """
    progress = progress or Silent()
    sources, chosen = find_inputs([view.image for view in views]), candidates()
    facts = _picture_figures(views)
    progress.start("looking", len(chosen))
    for number, candidate in enumerate(chosen, 1):
        try:
            tile = _tile(candidate, views, sources, seed)
            yield replace(tile, figures=facts | dict(tile.figures))
        except SelfsegError as error:
            yield Tile(candidate, error=str(error))
        progress.update(number, {})
    progress.finish()


def _tile(candidate: Candidate, views: Sequence[View], sources: Sequence[Source], seed: int) -> Tile:
    """Segment the views, which are opened as `sources`: what candidates share of an image stays in its memo."""
    begun = time.perf_counter()
    model = Segmenter(candidate.method, preset=candidate.preset, options=dict(candidate.options), seed=seed).fit(
        sources
    )
    results = [model.predict_image(source.read()) for source in sources]
    seconds = time.perf_counter() - begun
    largest = max(prod(view.whole) for view in views)
    pixels = sum(prod(view.image.spatial_shape) for view in views)
    shown = [(one.labels, one.table) if one.objects is None else (one.objects, None) for one in results]
    return Tile(
        candidate,
        tuple(
            thumbnail(overlay(one.image, labels, table), SIDE)
            for one, (labels, table) in zip(results, shown, strict=True)
        ),
        tuple(len(np.unique(labels[labels > 0])) for labels, _ in shown),
        unit="objects" if model.method_.finds_objects else "classes",
        figures=dict(model.method_.status())
        | (_object_figures([labels for labels, _ in shown]) if model.method_.finds_objects else {}),
        seconds=seconds,
        whole_seconds=seconds * largest / pixels,
        whole_bytes=model.method_.prediction_bytes(largest),
    )


def _object_figures(images: Sequence[NDArray[np.integer]]) -> dict[str, float]:
    """Return facts about objects ``[Y X]``, 0 = none, of all views: their number, share of the picture, density and spread of sizes."""
    sizes = np.concatenate([np.unique(labels[labels > 0], return_counts=True)[1] for labels in images])
    pixels = sum(labels.size for labels in images)
    return {
        "objects": float(len(sizes)),
        "cover": float(sizes.sum() / pixels),
        "density": 1e4 * len(sizes) / pixels,
        "spread": float(np.log(sizes).std()) if len(sizes) else 0.0,
    }


def _picture_figures(views: Sequence[View]) -> dict[str, float]:
    """Return facts about the pictures themselves, means over the views: colour, skewness of smoothed lightness, dark lines."""
    rows = []
    for view in views:
        values = view.image.channels_last().astype(np.float32)
        low, high = np.nanpercentile(values, [1, 99.5])
        values = np.nan_to_num(np.clip((values - low) / max(high - low, 1e-6), 0, 1))
        colour, light = colour_channels(values), luminance(values)
        chroma = float(colour[..., 1:].std((0, 1)).mean()) if colour.shape[-1] == 3 else 0.0
        smooth = gaussian_filter(light, SMOOTH)
        deviation = smooth - smooth.mean()
        skew = float((deviation**3).mean() / max(float((deviation**2).mean()), 1e-12) ** 1.5)
        rows.append((chroma, skew, *dark_lines(light)))
    return dict(zip(("chroma", "skew", "evenness", "strength"), map(float, np.mean(rows, 0)), strict=True))


def suggest(tiles: Sequence[Tile]) -> list[Tile]:
    """Mark one of the tiles as the suggestion, with its reason.

    Membranes where a grey image has strong dark lines everywhere; objects where the two ways to find them agree and their sizes are
    alike, or where many of them lie on the plain ground of a grey image; else regions. How often this is right: docs/benchmark.md.
    """
    found = [tile for tile in tiles if tile.candidate.method == "objects" and not tile.error and tile.figures]
    best = max(found, key=lambda tile: tile.figures.get("agreement", 0.0), default=None)
    chosen, reason = "contours", "the best regions of photographs; no sign of objects or membranes"
    if best is not None:
        facts, title = best.figures, best.candidate.title
        grey = facts["chroma"] < GREY
        count = facts["objects"]
        alike = facts["spread"] <= MOST_SPREAD["grey" if grey else "colour"] and facts["cover"] >= LEAST_COVER
        skew = facts["skew"] if best.candidate.options["polarity"] == "bright" else -facts["skew"]
        if grey and facts["evenness"] >= EVEN and facts["strength"] >= STRONG:
            chosen, reason = "membranes", "strong dark lines everywhere in a grey image"
        elif facts.get("agreement", 0.0) >= SAFE and alike and count >= LEAST_OBJECTS:
            chosen, reason = title, f"{count:.0f} objects of like size, found twice alike ({facts['agreement']:.0%})"
        elif grey and alike and skew >= RARE and count >= LEAST_RARE:
            chosen, reason = title, f"{count:.0f} objects of like size on a plain ground"
    place = next(
        (
            i
            for i, tile in enumerate(tiles)
            if not tile.error and chosen in (tile.candidate.title, tile.candidate.method)
        ),
        None,
    )
    return [replace(tile, suggested=reason if i == place else "") for i, tile in enumerate(tiles)]


def picture_of(view: View) -> NDArray[np.uint8]:
    """Return the view as it is shown, ``[H W 3]`` uint8."""
    return thumbnail(displayed(view.image, [0])[0], SIDE)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _planes(source: Source, axes: str | None, most: int) -> list[View]:
    """Return planes of one input: the image itself, frames of a sequence, slices of a volume, evenly spread."""
    frames: Frames | VideoFrames
    if source.is_video(axes):
        frames, whole, what = open_video(source), None, "frame"
    else:
        image = source.open(axes)
        whole = image.spatial_shape
        axis = next((letter for letter in "TZ" if letter in image.axes), None)
        if axis is None:
            return [View(image, whole)]
        frames, what = Frames.along(image, axis), "frame" if axis == "T" else "slice"
    views = []
    for place in _spread(len(frames), most):
        plane = frames.frame(place)
        if "Z" in plane.axes:  # a volume at one time point
            plane = plane.at("Z", plane.size("Z") // 2)
        views.append(View(plane.load(), whole or plane.spatial_shape, f"{what} {place + 1} of {len(frames)}"))
    return views


def _spread(count: int, most: int) -> list[int]:
    """Return `most` places out of `count`, evenly spread, without the first and the last where there are enough."""
    return sorted({(2 * i + 1) * count // (2 * most) for i in range(most)})


def _crops(view: View, most: int) -> list[View]:
    """Return the view itself, or of a large one the crops that differ most."""
    height, width = view.image.spatial_shape
    if height * width <= MOST_PIXELS:
        return [View(view.image.load(), view.whole, view.part)]
    rows, columns = max(1, height // CROP), max(1, width // CROP)
    every = max(1, ceil(sqrt(rows * columns / MOST_CROPS)))
    corners = [
        (y * (height - CROP) // max(1, rows - 1), x * (width - CROP) // max(1, columns - 1))
        for y in range(0, rows, every)
        for x in range(0, columns, every)
    ]
    cut: Callable[[tuple[int, int]], Image] = lambda at: view.image.window(  # noqa: E731
        Y=slice(max(0, at[0]), max(0, at[0]) + CROP), X=slice(max(0, at[1]), max(0, at[1]) + CROP)
    )
    chosen = most_different(((i, cut(corner)) for i, corner in enumerate(corners)), most)
    where = "crop at row {}, column {}"
    parts = [", ".join(filter(None, [view.part, where.format(*corners[i])])) for i in chosen]
    return [View(cut(corners[i]), view.whole, part) for i, part in zip(chosen, parts, strict=True)]


def write_look(
    out: Path, views: Sequence[View], tiles: Sequence[Tile], inputs: str, failures: Sequence[tuple[str, str]] = ()
) -> None:
    """Write ``look.html``, one page that holds all pictures, and ``look.json``: the tiles with their methods, options and figures.

    Parameters
    ----------
    out
        Folder.
    views, tiles
        Result of `choose_views` and of `look`.
    inputs
        The user's inputs, as they stand in the commands.
    failures
        Inputs that failed, and why.
    """
    shown = [
        {"picture": embedded(picture_of(view), SIDE), "name": view.image.name, "part": view.part} for view in views
    ]
    rows = [_row(number, tile, inputs) for number, tile in enumerate(tiles, 1)]
    facts = {"Inputs": inputs, "Shown": ", ".join(view.image.name for view in views)}
    page = render("look.html", title="First look", facts=facts, script="", views=shown, tiles=rows, failures=failures)
    clear_unfinished(out)
    write_text(out / "look.html", page)
    keys = ("number", "title", "purpose", "method", "preset", "options", "command", "facts", "suggested", "error")
    short = [{key: row[key] for key in keys} | {"pictures": [one.uri for one in row["pictures"]]} for row in rows]
    write_json(out / "look.json", {"total": len(candidates()), "tiles": short})


def _row(number: int, tile: Tile, inputs: str) -> dict[str, Any]:
    one = tile.candidate
    return {
        "number": number,
        **{key: getattr(one, key) for key in ("title", "purpose", "method", "preset")},
        "options": dict(one.options),
        "command": f"selfseg segment {inputs} -o out {one.arguments}",
        "facts": tile.facts,
        "suggested": tile.suggested,
        "error": tile.error,
        "pictures": [embedded(picture, SIDE) for picture in tile.pictures],
    }
