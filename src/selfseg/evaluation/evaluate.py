"""Evaluation: label files against truth files, matched by name, each pair that fails named and the rest scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from selfseg.core.errors import Failure, InputError, SelfsegError, UsageError
from selfseg.core.progress import Progress, Silent
from selfseg.measure._table import Table, contingencies
from selfseg.measure.kinds import KINDS, Evaluation, Scores, score
from selfseg.measure.overlap import AreaSum
from selfseg.read.labels import find_labels, read_labels, read_truths

DEFAULT_KINDS = ("regions", "classes")


def evaluate(
    labels: str | Path,
    truth: str | Path,
    kinds: Sequence[str] = DEFAULT_KINDS,
    ignore: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score label images against truth.

    Parameters
    ----------
    labels
        A label image, a folder of them, or the output folder of `selfseg segment`.
    truth
        A file, or a folder with files of the same names (suffixes may differ). An NPZ file with an array
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
                result.images[name] = _score_pair(ours, theirs, kinds, ignore, result.tables)
            except SelfsegError as error:
                failures.append((name, _naming(str(error), ours, theirs)))
                progress.say(failures[-1][1])
            progress.update(done, {})
    finally:
        progress.finish()
    if not result.images:
        if failures:
            raise InputError(failures[0][1])
        raise InputError(labels, expected=f"names that are in {truth}", got="none", fix="check both folders")
    return result


class Matched(NamedTuple):
    """Label files beside truth files."""

    pairs: list[tuple[str, Path, Path]]
    """Name, label file, truth file."""
    failures: list[Failure]
    """Label files without truth."""
    without_labels: list[str]
    """Names of truth files without labels: reported, since leaving out what is hard flatters."""


def match(labels: str | Path, truth: str | Path) -> Matched:
    """Pair label files with truth files of the same name; a single file on both sides is a pair whatever the names.

    Raises
    ------
    InputError
        If a place does not exist or is empty.
    """
    ours, theirs = find_labels(_label_folder(Path(labels))), find_labels(truth)
    if [*ours.values()] == [Path(labels)] and [*theirs.values()] == [Path(truth)]:
        return Matched([(*next(iter(ours.items())), next(iter(theirs.values())))], [], [])
    pairs = [(name, ours[name], theirs[name]) for name in ours if name in theirs]
    expected, fix = f"a truth of this name in {truth}", "rename or remove the file"
    strange = {
        name: InputError(ours[name], expected=expected, got="none", fix=fix) for name in ours if name not in theirs
    }
    failures = [(name, str(error)) for name, error in strange.items()]
    return Matched(pairs, failures, [name for name in theirs if name not in ours])


def _label_folder(labels: Path) -> Path:
    """Return the folder ``labels`` of an output folder, or the path itself."""
    inside = labels / "labels"
    return inside if (labels / "run.json").is_file() and inside.is_dir() else labels


def _score_pair(ours: Path, theirs: Path, kinds: Sequence[str], ignore: int | None, tables: list[Table]) -> Scores:
    labels, truths = read_labels(ours), read_truths(theirs)
    parts = [score(labels, truths, kind, ignore) for kind in kinds]
    if "classes" in kinds and len(truths) == 1:
        tables += contingencies(labels, truths, ignore)
    means: dict[str, float] = {}
    sums: dict[str, AreaSum] = {}
    for part in parts:
        means |= part.means
        sums |= part.pooled
    return Scores(means, sums)


def _naming(message: str, ours: Path, theirs: Path) -> str:
    """Return the message with the files it is about, unless it names one of them itself."""
    named = str(ours) in message or str(theirs) in message
    return message if named else f"{ours} against {theirs}: {message}"


def _check_kinds(kinds: Sequence[str]) -> None:
    strange = [repr(kind) for kind in kinds if kind not in KINDS] or ([] if kinds else ["nothing"])
    if strange:
        raise UsageError("--as", expected=f"one of {', '.join(KINDS)}", got=strange[0], fix="choose one")
