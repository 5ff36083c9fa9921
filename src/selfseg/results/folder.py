"""The folder that a run leaves behind (labels, overlays, class table, ``run.json``, ``report.html``): writing it, reading it back."""

import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from selfseg.core.classes import ClassTable, class_colours
from selfseg.core.errors import Failure, InputError, SelfsegError
from selfseg.core.files import Manifest, clear_unfinished, write_json, write_text
from selfseg.core.image import Image
from selfseg.core.machine import peak_memory
from selfseg.export.labels import ClassArea, LabelWriter, labels_picture, read_classes, write_areas, write_classes
from selfseg.export.maps import CONFIDENCE, PROBABILITIES
from selfseg.export.overlay import displayed, label_planes, middle_planes, overlay, plane_shape, write_picture
from selfseg.export.report import Report, ReportImage, curves_svg, thumbnail, write_report
from selfseg.measure.temporal import FlickerCount
from selfseg.methods.base import Method, build_config
from selfseg.read import Source, find_inputs
from selfseg.read.arrays import split_address
from selfseg.read.labels import RUN_SUFFIX, find_labels, read_label_image
from selfseg.results.instances import INSTANCES, OPACITY, OVERLAYS, OWN, Counted
from selfseg.results.merge_trees import CUTS, TREES
from selfseg.results.model import RUN, FittedModel, selfseg_version
from selfseg.results.result import Result, SequenceFacts
from selfseg.sample.chain import PreparedImage
from selfseg.sample.prepare import prepare
from selfseg.train.loop import read_journal

RUN_FILE, TABLE_FILE, AREAS_FILE, REPORT_FILE = "run.json", "classes.json", "classes.csv", "report.html"
LABELS = "labels"
FOLDERS = (
    LABELS,
    "overlay",
    "pictures",
    INSTANCES,
    OVERLAYS,
    "video",
    TREES,
    CUTS,
    "export",
    CONFIDENCE,
    PROBABILITIES,
)
"""Folders in a folder of results."""

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "scikit-learn", "numba", "tifffile", "pillow")

PICTURE_SIDE = 900
"""Longer side of a picture in the report, in pixels."""

PREVIEWS = "previews"
"""Folder of the pictures that are made while a model learns, in its folder."""

MOST_PREVIEWS = 4
"""Pictures of the learning in the report."""

MOST_PICTURES = 60
"""Images with pictures in the report; of further ones it keeps shares and links, so that it stays light."""


class OutputFolder:
    """Collects the results of one run; `close` writes what sums them up, and removes what earlier runs left in the folder.

    Files are written while its `manifest` is open.

    Parameters
    ----------
    out
        The folder; made if missing.
    model
        The model that predicts.
    table
        Its classes, if they were edited; None = as they were learned.
    writer
        Formats of the labels.
    look
        Options of the overlays, as for `selfseg.export.overlay.overlay`.
    maps
        Maps to write, as for `Result.save`.

    Raises
    ------
    InputError
        If a file that selfseg did not write has the name of one that sums up the run.
    """

    def __init__(
        self,
        out: Path,
        model: FittedModel,
        table: ClassTable | None = None,
        writer: LabelWriter | None = None,
        look: Mapping[str, Any] | None = None,
        maps: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.maps = tuple(maps)
        self.model = model
        self.table = model.table if table is None else table
        self.writer = writer or LabelWriter()
        self.look = dict(look or {})
        self.instances_kind: str | None = None
        self.begun = time.monotonic()
        self.rows: list[dict[str, Any]] = []
        self.pictures: list[ReportImage] = []
        self.seen: dict[str, NDArray[np.uint8]] = {}
        self.areas: list[ClassArea] = []
        self.manifest = check_place(out)
        clear_unfinished(out, FOLDERS)

    def add(self, result: Result, sha256: str, linked: bool = False, counted: Counted | None = None) -> str:
        """Write the files of one result, and keep what the report needs of it; return a remark for the user, empty = none.

        Parameters
        ----------
        result
            The result of an image, in memory or not, or of a sequence.
        sha256
            Fingerprint of the input.
        linked
            Frames were linked over time.
        counted
            Its objects; None = nobody has looked for any.
        """
        result.save(self.out, self.writer.kinds, self.writer.ngff, self.maps, **self.look)
        if not self.rows and result.in_memory and result.sequence is None:
            self._show_method(result)
        self.areas += result.areas
        row = {
            "name": result.name,
            "source": result.image.source if result.sequence is None else result.sequence.source.source,
            "axes": result.image.axes,
            "sha256": sha256,
            "seconds": round(result.seconds, 3),
        }
        shown = _report_image(result, len(self.pictures) < MOST_PICTURES, self.look, counted)
        if counted is not None:
            row["objects"], self.instances_kind = counted.to_json(), counted.kind
        if remark := self.model.remark(result.areas):
            row["remark"] = remark
            shown = replace(shown, note=remark)
        if result.sequence is not None:
            del row["axes"]
            row |= _sequence_row(result.sequence, result.seconds, linked)
            source, flicker = result.sequence.source, result.sequence.flicker
            note = f"{result.sequence.n_labelled} of {source.n_frames} frames; {flicker.describe()}"
            shown = replace(shown, note="; ".join(filter(None, (note, remark))), link=result.sequence.video)
        self.rows.append(row)
        self.pictures.append(shown)
        return remark

    def _show_method(self, result: Result) -> None:
        """Write how the method sees the first image into ``pictures``, and keep it for the report."""
        image = self.model.view(result.image)
        frame = image.at("T", 0) if "T" in image.axes else image
        if self.model.slices_volume(frame):
            return
        prepared = prepare(frame, self.model.preparation)
        for kind, picture in method_pictures(self.model.method, prepared).items():
            write_picture(self.out / "pictures" / f"{kind}.png", picture)
            self.seen[f"{result.name}: {kind}"] = picture

    def close(self, failures: Sequence[Failure]) -> list[str]:
        """Write ``classes.json``, ``classes.csv``, ``report.html``, and ``run.json`` with the list of all files of the run.

        Return the files of earlier runs that were changed since they were written: they stay, and are no results of this run.
        """
        write_classes(self.out / TABLE_FILE, self.table)
        write_areas(self.out / AREAS_FILE, self.areas)
        curves = curves_svg(self._curves())
        if curves:
            write_text(self.out / "pictures" / "curves.svg", curves)
        facts = self._facts(failures)
        write_report(self.out / REPORT_FILE, self._report(facts, failures))
        return self.manifest.settle(facts)

    @cached_property
    def _learned_in(self) -> Path | None:
        """Folder in which the model learned, if it is the one in this folder; a model of another run is not this one's."""
        folder = self.out / "model"
        own = {key: self.model.facts.get(key) for key in ("seed", "config", "inputs", "seconds")}
        before = _read_facts(folder / RUN)
        return folder if {key: before.get(key) for key in own} == json.loads(json.dumps(own)) else None

    def _curves(self) -> dict[str, list[tuple[int, float]]]:
        return {} if self._learned_in is None else read_curves(self._learned_in / "journal.jsonl")

    def _facts(self, failures: Sequence[Failure]) -> dict[str, Any]:
        model = self.model
        return {
            "selfseg": selfseg_version(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "method": model.name,
            "preset": model.preset,
            "seed": model.seed,
            "config": model.method.config.model_dump(mode="json"),
            "preparation": str(model.preparation),
            "refinement": model.refine or "none",
            "written": list(self.writer.kinds),
            "cleaning": model.clean or "none",
            "training": model.facts,
            "images": self.rows,
            **({"instances": self.instances_kind} if self.instances_kind else {}),
            "failures": [{"name": name, "error": message} for name, message in failures],
            "seconds": round(time.monotonic() - self.begun, 3),
            "peak_memory_bytes": peak_memory(),
            "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "threads": torch.get_num_threads(),
            },
        }

    def _report(self, facts: dict[str, Any], failures: Sequence[Failure]) -> Report:
        model, training = self.model, facts["training"]
        done = f"{len(self.rows)} segmented" + (f", {len(failures)} failed" if failures else "")
        headline = {
            "images": done,
            "classes": str(len(self.table)),
            "learned from": f"{training.get('n_images', '?')} image(s), in {training.get('steps', '?')} steps",
            "learned in": f"{training.get('seconds', 0):.1f} s",
            "segmented in": f"{facts['seconds']:.1f} s",
            "date": facts["date"],
            **training.get("choices", {}),
        }
        run = {
            "preparation": facts["preparation"],
            "refinement": facts["refinement"],
            "cleaning": facts["cleaning"],
            "seed": str(model.seed),
            "device": str(training.get("device", "unknown")),
            "peak memory": f"{facts['peak_memory_bytes'] / 2**30:.2f} GiB",
            "selfseg": facts["selfseg"],
            **facts["versions"],
            **{f"sha256 of {row['name']}": row["sha256"][:12] for row in self.rows[:MOST_PICTURES]},
        }
        return Report(
            title=f"{model.name}, preset {model.preset}",
            facts=headline,
            images=self.pictures,
            table=self.table,
            curves=self._curves(),
            config=facts["config"],
            defaults=build_config(model.name).model_dump(mode="json"),
            run=run,
            failures=list(failures),
            pictures=self.seen | ({} if self._learned_in is None else read_previews(self._learned_in / PREVIEWS)),
        )


def check_place(out: Path) -> Manifest:
    """Return the manifest of a folder for results.

    Raise `InputError` if a file that selfseg did not write has the name of one that sums up a run.
    """
    manifest = Manifest(out)
    manifest.check(TABLE_FILE, AREAS_FILE, REPORT_FILE)
    return manifest


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _sequence_row(facts: SequenceFacts, seconds: float, linked: bool) -> dict[str, Any]:
    return {
        "frames": facts.source.n_frames,
        "labelled": facts.n_labelled,
        "frames_per_second": round(facts.n_labelled / max(1e-9, seconds), 3),
        "linked": linked,
        "flicker": _share(facts.flicker.in_place),
        "flicker_following_motion": _share(facts.flicker.following),
    }


def _report_image(result: Result, full: bool, look: Mapping[str, Any], counted: Counted | None = None) -> ReportImage:
    """Return what the report shows of a result: pictures, or only shares and a link, where there are many already.

    Where there are objects, these are outlined and coloured instead of the classes.
    """
    shares, link = {item.id: item.share for item in result.areas}, f"overlay/{result.name}.png"
    note = "" if counted is None else str(counted)
    if counted is not None and counted.labels is not None:
        link = f"{OVERLAYS}/{result.name}.png"
    if not full:
        return ReportImage(result.name, shares=shares, seconds=result.seconds, link=link, note=note)
    image, labels = result.preview()
    table: ClassTable | None = result.table
    if counted is not None and counted.labels is not None:
        labels, table, look = counted.labels, None, {**look, "opacity": OPACITY, "numbers": False}
    planes = middle_planes(plane_shape(image)[0], 1)
    ground = thumbnail(displayed(image, planes)[0], PICTURE_SIDE)
    painted = thumbnail(overlay(image, labels, table, **look), PICTURE_SIDE)
    classes = thumbnail(labels_picture(label_planes(labels, image, planes), table)[0], PICTURE_SIDE, labels=True)
    return ReportImage(result.name, ground, painted, classes, shares, result.seconds, note, link)


def _share(count: FlickerCount) -> float | None:
    return round(count.share, 6) if count.compared else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def read_previews(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Return some of the previews that learning left, evenly spread, by caption; empty if there are none."""
    paths = sorted(folder.glob("step-*.png"))
    chosen = sorted({round(i) for i in np.linspace(0, len(paths) - 1, MOST_PREVIEWS)}) if paths else []
    return {f"while learning, {paths[i].stem.replace('-', ' ')}": np.asarray(Picture.open(paths[i])) for i in chosen}


def read_curves(journal: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the curve of every figure in a journal, by name; empty without one."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in read_journal(journal):
        for name, value in row.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append((row["step"], float(value)))
    return curves


@dataclass(frozen=True)
class SegmentedImage:
    """One segmented image.

    Attributes
    ----------
    labels
        Class ids, with axes, spacing, unit and name.
    objects
        Object ids of the same shape, 0 = none; None = nobody has looked for objects.
    source
        The image that the labels are of; None = not known.
    axes
        Its axes, as they were when it was segmented; None = those of the file.
    sha256
        Its fingerprint at that time, empty = not known.
    content
        The image itself, where it is in memory already.
    """

    labels: Image
    objects: NDArray[Any] | None = None
    source: Source | None = None
    axes: str | None = None
    sha256: str = ""
    content: Image | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.labels.name

    @property
    def file_name(self) -> str:
        """Name of the image's file below the folder of the inputs, ``"series1/cell_03.png"``; its own name where it is no file."""
        if self.source is None or self.source.path is None or split_address(self.source.path)[1]:
            return self.name
        folder = self.name.rpartition("/")[0]
        return f"{folder}/{self.source.path.name}" if folder else self.source.path.name

    def image(self) -> Image:
        """Read the image.

        Raises
        ------
        InputError
            If its place is unknown, it is gone, has changed since, or is of another size than the labels.
        """
        image = self.content or self._read()
        shape = tuple(n for n, letter in zip(image.data.shape, image.axes, strict=True) if letter != "C")
        if shape != self.labels.data.shape or image.axes.replace("C", "") != self.labels.axes:
            raise InputError(
                image.source,
                expected=f"{self.labels.axes} of {_size(self.labels.data.shape)}, like its labels",
                got=f"{image.axes} of {_size(image.data.shape)}",
                fix="give the images that were segmented with --images",
            )
        return image

    def _read(self) -> Image:
        fix = "say with --images where the images are"
        if self.source is None:
            raise InputError(self.name, expected="a note of its image in run.json", got="none", fix=fix)
        if self.source.path is not None and not split_address(self.source.path)[0].exists():
            raise InputError(
                self.source.path, expected="the segmented image", got="nothing: it has moved or was an array", fix=fix
            )
        if self.sha256 and self.source.fingerprint() != self.sha256:
            raise InputError(
                self.source.path,
                expected="the same image",
                got="a file with other content than the one that was segmented",
                fix=fix,
            )
        return self.source.read(self.axes)


class RunFolder:
    """Reads the folder that a run wrote.

    Parameters
    ----------
    out
        The folder, with ``labels/`` and ``classes.json``; ``run.json`` names the images.
    images
        Where the images are now, if not at the places in ``run.json``: a file, folder or glob, matched by name.

    Raises
    ------
    InputError
        If the folder is not one that a run wrote.
    ModelError
        If its class table is damaged.
    """

    def __init__(self, out: Path | str, images: Any = None) -> None:
        self.out = Path(out)
        if not (self.out / LABELS).is_dir() or not (self.out / "classes.json").is_file():
            raise InputError(
                out,
                expected="a folder with labels/ and classes.json",
                got="another folder" if self.out.is_dir() else "nothing: there is no such folder",
                fix="give the OUT folder of `selfseg segment` or `selfseg predict`",
            )
        self.table: ClassTable = read_classes(self.out / "classes.json")
        self._labels = find_labels(self.out / LABELS, RUN_SUFFIX)
        objects = self.out / INSTANCES  # empty where the first file of objects could not be written
        found = objects.is_dir() and any(not path.name.startswith(".") for path in objects.iterdir())
        self._objects = find_labels(objects, RUN_SUFFIX) if found else {}
        self._run = _run_facts(self.out / RUN_FILE)
        self._facts = {row["name"]: row for row in self._run.get("images", [])}
        self._moved = {source.name: source for source in find_inputs(images)} if images is not None else None

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def best_kind(self) -> str:
        """How objects are best found: ``own`` where the method's own are in the folder, by ``run.json``, else ``watershed``."""
        return OWN if self._run.get("instances") == OWN and self.has_objects else "watershed"

    def note_instances(self, kind: str) -> None:
        """Note in ``run.json``, where there is one, how the objects that are in the folder now were found."""
        if self._run:
            self._run["instances"] = kind
            write_json(self.out / RUN_FILE, self._run)

    @property
    def has_objects(self) -> bool:
        """True if objects were looked for in every image."""
        return bool(self._labels) and set(self._labels) <= set(self._objects)

    def read(self, failures: list[Failure], objects: bool = False) -> Iterator[SegmentedImage]:
        """Yield the segmented images, one in memory at a time; what cannot be read is added to `failures`.

        Parameters
        ----------
        failures
            Collects (name, message).
        objects
            Read the objects too.
        """
        for name, path in self._labels.items():
            try:
                yield self._read_one(name, path, objects)
            except SelfsegError as error:
                failures.append((name, str(error)))

    def _read_one(self, name: str, path: Path, objects: bool) -> SegmentedImage:
        labels = read_label_image(path, name)
        found = read_label_image(self._objects[name]) if objects else None
        if found is not None and found.data.shape != labels.data.shape:
            raise InputError(
                str(self._objects[name]),
                expected=f"the size of its labels, {_size(labels.data.shape)}",
                got=_size(found.data.shape),
                fix="run `selfseg instances` again",
            )
        row = self._facts.get(name, {})
        data = None if found is None else found.data
        return SegmentedImage(labels, data, self._source(name, row), row.get("axes"), row.get("sha256", ""))

    def _source(self, name: str, row: dict[str, Any]) -> Source | None:
        if self._moved is not None:
            return self._moved.get(name)
        return Source(name, Path(row["source"])) if "source" in row else None


def _run_facts(path: Path) -> dict[str, Any]:
    """Return the content of ``run.json``, with ``images``, a row for each; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        rows = facts["images"]
        if not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows):
            raise TypeError("images without names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            path, expected="the facts of a run", got=str(error), fix="restore it, or segment again"
        ) from error
    return dict(facts)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def method_pictures(method: Method, prepared: PreparedImage) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of a method by name, ``[H W 3]`` uint8; of volumes the middle slice. Empty if it has none."""
    image = torch.from_numpy(prepared.array).to(method.device)
    made = method.pictures(image, prepared.memo) if method.uses_memos else method.pictures(image)
    return {name: _drawn(picture.cpu().numpy(), prepared.array) for name, picture in made.items()}


def _drawn(picture: NDArray[Any], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture as RGB: labels ``[*S]`` in the colours of classes, all else as `shown`."""
    if picture.dtype.kind == "f":
        return shown(picture, prepared)
    plane = picture[len(picture) // 2] if picture.ndim == 3 else picture
    colours = np.array([(0, 0, 0, 0), *class_colours(int(plane.max()))], np.uint8)
    coloured: NDArray[np.uint8] = colours[plane][..., :3]
    return coloured


def shown(picture: NDArray[np.float32], prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a picture ``[C *S]`` or ``[C H W]`` as RGB, on the scale of the prepared image ``[C *S]``, whose extremes it is cut to."""
    low, high = float(prepared.min()), float(prepared.max())
    if len(picture) == 3 and low >= 0 and high <= 1:
        low, high = 0.0, 1.0  # colours as they are, like the photograph itself
    levels = np.clip((picture - low) / max(high - low, 1e-12), 0, 1)
    plain = np.moveaxis((levels * 255 + 0.5).astype(np.uint8), 0, -1)
    middle: NDArray[np.uint8] = plain[len(plain) // 2] if plain.ndim == 4 else plain
    if middle.shape[-1] == 1:
        return np.repeat(middle, 3, -1)
    picture_rgb: NDArray[np.uint8] = displayed(Image(middle, "YXC"), [0])[0]
    return picture_rgb
