"""Evaluation: label files against truth files, matched by name, each pair that fails named and the rest scored."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.image import Image
from selfseg.core.progress import Progress, Silent
from selfseg.measure._table import Table, contingencies
from selfseg.measure.kinds import KINDS, Evaluation, Scores, score
from selfseg.measure.overlap import AreaSum
from selfseg.read.arrays import is_array
from selfseg.read.labels import LabelItem, find_labels, form, read_labels, read_truths
from selfseg.read.sources import as_items, as_path

DEFAULT_KINDS = ("regions", "classes")


def evaluate(
    labels: Any,
    truth: Any,
    kinds: Sequence[str] = DEFAULT_KINDS,
    ignore: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score label images against truth.

    Parameters
    ----------
    labels
        A label image, a folder of them, or the output folder of `selfseg segment`; or an array, or a list of arrays.
    truth
        A file, or a folder with files of the same names (suffixes may differ); of arrays, one for each. An NPZ file with an array
        ``segmentations`` ``[A *S]`` holds several annotators.
    kinds
        What to score: ``regions``, ``classes``, ``instances``, ``mask``, ``membranes``, ``lesions`` (`measure.score`).
    ignore
        Truth value of pixels to leave out.
    progress
        Progress reporter.

    Raises
    ------
    InputError
        If nothing is there, or no pair could be scored. A pair that fails among others is named in `Evaluation.failures`.
    UsageError
        If a kind is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import selfseg
    >>> truth = np.array([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> selfseg.evaluate(3 - truth, truth).summary()["covering"]
    1.0
    """
    _check_kinds(kinds)
    progress = progress or Silent()
    pairs, failures, without = match(labels, truth)
    result = Evaluation({}, failures, without)
    if without:
        shown = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
        progress.say(f"{len(without)} of the truth files have no labels and are not scored: {shown}")
    progress.start("scoring", len(pairs))
    try:
        for done, (name, ours, theirs) in enumerate(pairs, 1):
            try:
                result.images[name] = _score_pair(name, ours, theirs, kinds, ignore, result.tables)
            except SelfsegError as error:
                failures.append((name, _naming(str(error), name, ours, theirs)))
                progress.say(failures[-1][1])
            progress.update(done, {})
    finally:
        progress.finish()
    if not result.images:
        if failures:
            raise InputError(failures[0][1])
        raise InputError(
            "labels" if _path_of(labels) is None else labels,
            expected=f"names that are in {truth}",
            got="none",
            fix="check both folders",
        )
    return result


class Matched(NamedTuple):
    """Label files beside truth files."""

    pairs: list[tuple[str, LabelItem, LabelItem]]
    """Name, label file, truth file; or arrays."""
    failures: list[Failure]
    """Label files without truth."""
    without_labels: list[str]
    """Names of truth files without labels: reported, since leaving out what is hard flatters."""


def match(labels: Any, truth: Any) -> Matched:
    """Pair label files with truth files of the same name, all forms of an accent being equal; arrays by their places.

    A single one on both sides is a pair whatever the names.

    Raises
    ------
    InputError
        If a place does not exist or is empty.
    UsageError
        If arrays are not as many as what they are scored against.
    """
    ours, theirs = _items(labels, "labels"), _items(truth, "truth")
    arrays = not all(isinstance(item, Path) for item in (*ours.values(), *theirs.values()))
    if arrays and len(ours) != len(theirs):
        raise UsageError("truth", expected=f"{len(ours)}, one for each", got=str(len(theirs)), fix="give one for each")
    if arrays or ([*ours.values()] == [_path_of(labels)] and [*theirs.values()] == [_path_of(truth)]):
        return Matched([(name, ours[name], one) for name, one in zip(ours, theirs.values(), strict=True)], [], [])
    known = {form(name): name for name in theirs}
    partner = {name: name if name in theirs else known.get(form(name)) for name in ours}
    pairs = [(name, ours[name], theirs[other]) for name, other in partner.items() if other is not None]
    expected, fix = f"a truth of this name in {truth}", "rename or remove the file"
    strange = {
        name: InputError(ours[name], expected=expected, got="none", fix=fix)
        for name, other in partner.items()
        if other is None
    }
    failures = [(name, str(error)) for name, error in strange.items()]
    return Matched(pairs, failures, [name for name in theirs if name not in partner.values()])


def _path_of(given: Any) -> Path | None:
    return as_path(given) if isinstance(given, str | bytes | PathLike) else None


def _items(given: Any, what: str) -> dict[str, LabelItem]:
    """Return label files by name, or arrays by a number."""
    path = _path_of(given)
    if path is not None:
        return dict(find_labels(_label_folder(path) if what == "labels" else path))
    items = [given] if isinstance(given, Image) or is_array(given) else as_items(given)
    names = ["image"] if len(items) == 1 else [f"image_{i}" for i in range(1, len(items) + 1)]
    for name, item in zip(names, items, strict=True):
        if _path_of(item) is None and not isinstance(item, Image) and not is_array(item):
            raise UsageError(
                f"{what} of {name}", expected="a file or an array", got=type(item).__name__, fix="convert it"
            )
    return {name: _path_of(item) or item for name, item in zip(names, items, strict=True)}


def _label_folder(labels: Path) -> Path:
    """Return the folder ``labels`` of an output folder, or the path itself."""
    inside = labels / "labels"
    return inside if (labels / "run.json").is_file() and inside.is_dir() else labels


def _score_pair(
    name: str, ours: LabelItem, theirs: LabelItem, kinds: Sequence[str], ignore: int | None, tables: list[Table]
) -> Scores:
    labels, truths = read_labels(ours, "truth", name), read_truths(theirs, name, ignore)
    parts = [score(labels, truths, kind, ignore) for kind in kinds]
    if "classes" in kinds and len(truths) == 1:
        tables += contingencies(labels, truths, ignore)
    means: dict[str, float] = {}
    sums: dict[str, AreaSum] = {}
    for part in parts:
        means |= part.means
        sums |= part.pooled
    return Scores(means, sums)


def _naming(message: str, name: str, ours: LabelItem, theirs: LabelItem) -> str:
    """Return the message with the files it is about, unless it names one of them itself."""
    if not isinstance(ours, Path) or not isinstance(theirs, Path):
        return message if name in message else f"{name}: {message}"
    named = str(ours) in message or str(theirs) in message
    return message if named else f"{ours} against {theirs}: {message}"


def _check_kinds(kinds: Sequence[str]) -> None:
    strange = [repr(kind) for kind in kinds if kind not in KINDS] or ([] if kinds else ["nothing"])
    if strange:
        raise UsageError("--as", expected=f"one of {', '.join(KINDS)}", got=strange[0], fix="choose one")
