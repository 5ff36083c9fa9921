"""What a report is made of: plain values, filled in by whoever ran the work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfseg.core.classes import ClassTable


@dataclass(frozen=True)
class ReportImage:
    """One image of a report.

    Attributes
    ----------
    name
        Name of the image.
    image, overlay
        Pictures ``[H W 3]`` or ``[H W]`` uint8 of one size, best made small by `thumbnail`; None = not shown.
    labels
        Picture of the class colours ``[H W 4]`` (or 3) uint8, as `labels_picture` gives it; None = not shown.
    shares
        Area share 0-1 of each class, by id.
    seconds
        Time that the image took; None = unknown.
    note
        A line to show under the name.
    link
        Path of the full overlay, relative to the report: ``overlay/NAME.png``; empty = none.
    """

    name: str
    image: NDArray[np.uint8] | None = None
    overlay: NDArray[np.uint8] | None = None
    labels: NDArray[np.uint8] | None = None
    shares: Mapping[int, float] = field(default_factory=dict)
    seconds: float | None = None
    note: str = ""
    link: str = ""


@dataclass(frozen=True)
class Report:
    """A whole report. Everything but the title may be empty; empty parts are left out.

    Attributes
    ----------
    title
        Heading of the page.
    facts
        Headline facts, in their order: method, preset, number of images, date.
    images
        Pictures, in the order in which they are shown.
    table
        The classes.
    curves
        For each loss term (and ``"classes"``), the steps and values.
    config
        Options of the method; mappings inside are shown as ``outer.inner``.
    defaults
        Their defaults; options that differ are marked.
    run
        Facts of the run: versions, seed, device, timings, peak memory, short hashes of the inputs.
    failures
        Names of the inputs that failed, and why.
    pictures
        Pictures of how the method sees an image, by caption: ``[H W 3]`` uint8.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    images: Sequence[ReportImage] = ()
    table: ClassTable = field(default_factory=lambda: ClassTable(()))
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, str] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
